"""Lists of files with their SHA-256."""

import hashlib
from pathlib import Path

import pytest

from segdata.errors import DatasetError, TrialSiteError
from segdata.file_sums import FileSum, FolderSums, hash_files, in_threads, read_sums, write_sums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    (tmp_path / "images" / "b.png").write_bytes(b"bb")
    (tmp_path / "images" / "sub" / "a.png").write_bytes(b"a")
    return tmp_path / "images"


def test_files_have_their_size_and_sum(folder: Path) -> None:
    sums = hash_files(folder, ["sub/a.png", "b.png", "b.png"])
    assert sums == FolderSums(
        folder,
        str(folder),
        (
            FileSum("b.png", 2, hashlib.sha256(b"bb").hexdigest()),
            FileSum("sub/a.png", 1, hashlib.sha256(b"a").hexdigest()),
        ),
    )
    assert sums.size_bytes == 3


def test_a_known_sum_is_not_computed_again(folder: Path) -> None:
    assert hash_files(folder, ["b.png"], {"b.png": "f00d"}).files == (FileSum("b.png", 2, "f00d"),)


def test_the_digest_is_of_names_and_contents_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    first = hash_files(folder, ["b.png"]).digest
    moved = folder.rename(tmp_path / "moved")
    assert hash_files(moved, ["b.png"]).digest == first
    (moved / "b.png").write_bytes(b"cc")
    assert hash_files(moved, ["b.png"]).digest != first
    (moved / "b.png").rename(moved / "c.png")
    (moved / "c.png").write_bytes(b"bb")
    assert hash_files(moved, ["c.png"]).digest != first


@pytest.mark.parametrize("name", ["../b.png", "/b.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(DatasetError, match=f"images: expected names of files in the folder, but got '{name}'"):
        hash_files(folder, [name])


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"images/c.png: expected a file of the data set, but got: No such file"):
        hash_files(folder, ["c.png"])


def test_after_an_error_no_more_files_are_begun() -> None:
    begun = []

    def make(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise ValueError("first")
        return number

    with pytest.raises(ValueError, match="first"):
        list(in_threads(make, range(100_000)))
    assert len(begun) < 100_000


def test_what_is_written_is_read(folder: Path, tmp_path: Path) -> None:
    sums = hash_files(folder, ["b.png"])
    write_sums([sums], tmp_path / "data" / "images.json")
    assert read_sums(tmp_path / "data" / "images.json") == (sums,)


@pytest.mark.parametrize("text", [None, "{", '{"folders": [{"place": "x"}]}', '{"folders": 3}'])
def test_a_list_that_cannot_be_read_is_named(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TrialSiteError, match=r"images.json: expected the list of the sweep's images, but got: "):
        read_sums(path)
