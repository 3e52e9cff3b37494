"""Images on an object store, as a driver reads them: fetched once, and again only what has changed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from segdata.errors import DatasetError
from segdata.image_cache import Copier, copy_to_node
from segdata.remote_folder import fetch_folder, fetched_sums, place_of, problem_of, reading_problem, without_password

URL = "memory://nuclei/images"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store() -> Iterator[Any]:
    """A file system with two images and a file that is none."""
    system = fsspec.filesystem("memory")
    for name, content in {"a.png": b"a", "plate/b.PNG": b"bb", "notes.txt": b"no image"}.items():
        system.pipe_file(f"/nuclei/images/{name}", content)
    yield system
    system.rm("/nuclei", recursive=True)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were fetched, one for each time."""
    names: list[str] = []
    take = Copier.take

    def counted(self: Copier, file: Any) -> Any:
        names.append(file.name)
        return take(self, file)

    monkeypatch.setattr(Copier, "take", counted)
    return names


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_are_fetched_once(store: Any, fetched: list[str]) -> None:
    for _ in range(2):
        fetch_folder(URL, place_of(URL))
    assert contents(place_of(URL)) == {"a.png": b"a", "plate/b.PNG": b"bb"}
    assert sorted(fetched) == ["a.png", "plate/b.PNG"]
    assert place_of(f"{URL}/") == place_of(URL)


def test_only_what_changed_is_fetched_again(store: Any, fetched: list[str]) -> None:
    fetch_folder(URL, place_of(URL))
    fetched.clear()
    store.pipe_file("/nuclei/images/a.png", b"A")  # of the same size
    store.pipe_file("/nuclei/images/c.png", b"c")
    store.rm("/nuclei/images/plate/b.PNG")
    fetch_folder(URL, place_of(URL))
    assert contents(place_of(URL)) == {"a.png": b"A", "c.png": b"c"}
    assert sorted(fetched) == ["a.png", "c.png"]


def test_what_was_fetched_needs_no_second_fetch_on_this_node(store: Any) -> None:
    fetch_folder(URL, place_of(URL))
    sums = fetched_sums(URL, place_of(URL), frozenset({"a.png"}))
    assert (sums.source, [file.name for file in sums.files]) == (URL, ["a.png"])
    copy = copy_to_node(sums)
    assert contents(copy.folder) == {"a.png": b"a"} and copy.fetched == 0


def test_a_folder_on_an_s3_server_is_fetched(s3: str) -> None:
    system, url = fsspec.filesystem("s3"), "s3://bucket/images"
    system.pipe_file("bucket/images/a.png", b"a")
    fetch_folder(url, place_of(url))
    system.pipe_file("bucket/images/a.png", b"A")
    fetch_folder(url, place_of(url))
    assert contents(place_of(url)) == {"a.png": b"A"}


def test_a_name_that_leads_out_of_the_folder_is_refused(store: Any, cache: Path) -> None:
    store.store["/nuclei/images/../../evil.png"] = store.store["/nuclei/images/a.png"]
    try:
        with pytest.raises(DatasetError, match=r"expected names of files in the folder, but got '../../evil.png'"):
            fetch_folder(URL, place_of(URL))
    finally:
        del store.store["/nuclei/images/../../evil.png"]
    assert not cache.exists()


def test_a_file_that_is_gone_meanwhile_is_named(store: Any) -> None:
    fetch_folder(URL, place_of(URL))
    with pytest.raises(DatasetError, match=r"memory://nuclei/images: expected c.png as it was read a moment ago"):
        fetched_sums(URL, place_of(URL), frozenset({"a.png", "c.png"}))


def test_an_index_that_cannot_be_written_is_no_room(store: Any) -> None:
    place_of(URL).with_suffix(".tmp").mkdir(parents=True)
    with pytest.raises(DatasetError, match="expected room on this machine for the images, but got: .*Is a directory"):
        fetch_folder(URL, place_of(URL))


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    url = "sftp://me:secret@host/images"
    assert problem_of(url) == "a URL without a password, which its package finds in your settings or environment"
    assert without_password(url) == "sftp://me:***@host/images" and "secret" not in str(reading_problem(url, "a.png"))


@pytest.mark.parametrize("url", ["memory://nuclei/labels", "s3://nobucket/images"])
def test_where_nothing_is_one_line_says_so(url: str, s3: str) -> None:
    with pytest.raises(DatasetError) as told:
        fetch_folder(url, place_of(url))
    assert str(told.value).startswith(f"{url}: expected ") and "\n" not in str(told.value)


def test_without_rights_one_line_says_so(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **others: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(fsspec.filesystem("s3")), "find", refuse)
    with pytest.raises(DatasetError, match="s3://bucket/x: expected a folder on an .*: Access Denied. Check"):
        fetch_folder("s3://bucket/x", place_of("s3://bucket/x"))


def test_a_disk_that_does_not_take_them_is_named(store: Any, cache: Path) -> None:
    cache.write_bytes(b"no folder")
    with pytest.raises(DatasetError, match=f"{URL}: expected room on this machine for the images, but got: .*Errno 20"):
        fetch_folder(URL, place_of(URL))


def test_protocols_that_cannot_be_used_are_told_apart() -> None:
    assert problem_of(URL) is problem_of("s3://bucket/images") is None
    assert problem_of("s33://bucket/images") == "a protocol that fsspec knows (s3, gs, abfs, sftp ...)"
    assert "gcsfs" in str(problem_of("gs://bucket/images"))


def test_whether_a_machine_reaches_a_file_is_tried_by_reading_it(store: Any, s3: str) -> None:
    assert reading_problem(URL, "plate/b.PNG") is None
    assert str(reading_problem("s3://nobucket/x", "a.png")).startswith(
        "expected s3://nobucket/x/a.png to be readable, but got: "
    )
    assert reading_problem("s33://bucket", "a.png") == (
        "expected a protocol that fsspec knows (s3, gs, abfs, sftp ...), but got s33://bucket"
    )


def test_the_cache_is_left_whole(store: Any, cache: Path) -> None:
    fetch_folder(URL, place_of(URL))
    assert sorted(os.listdir(cache / "images" / "remote")) == sorted(
        f"{place_of(URL).name}{suffix}" for suffix in ("", ".json", ".lock")
    )
