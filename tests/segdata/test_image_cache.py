"""Copies of image folders on a node's disk: each file once, whole and right, whatever happens to the copier."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from segdata import image_cache
from segdata.errors import TrialSiteError
from segdata.file_sums import FolderSums, hash_files
from segdata.image_cache import Copier, copy_to_node, stored_images

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("a.png", "b.png", "plate/c.png")
SLOW_PROCESS = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from pathlib import Path
from segdata import image_cache
from segdata.file_sums import hash_files

bring = image_cache.Copier.bring

def slow(self, file):
    if file.name == "plate/c.png":
        (self.partials / "half").write_bytes(b"x")
        last = time.monotonic() + 600
        while not Path(sys.argv[3]).exists() and time.monotonic() < last:
            time.sleep(0.01)
    bring(self, file)
    (Path(sys.argv[2]) / file.name.replace("/", "-")).touch()

image_cache.Copier.bring = slow
print(image_cache.copy_to_node(hash_files(Path(sys.argv[1]), sys.argv[4:])).fetched)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder of three files."""
    folder = tmp_path / "shared"
    (folder / "plate").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(name.encode() * 1000)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read at their source, one for each time."""
    names: list[str] = []
    chunks = Copier.chunks

    def counted(self: Copier, file: image_cache.FileSum) -> Iterator[bytes]:
        names.append(file.name)
        yield from chunks(self, file)

    monkeypatch.setattr(Copier, "chunks", counted)
    return names


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def slow_copier(shared: Path, signs: Path) -> "subprocess.Popen[str]":
    """Starts a process that copies: it waits for `signs.go` before the last file; `signs` takes the names of those that
    are done.
    """
    signs.mkdir()
    command = [sys.executable, "-c", SLOW_PROCESS, str(shared), str(signs), f"{signs}.go", *NAMES]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for(is_so: Callable[[], bool]) -> None:
    last = time.monotonic() + 60
    while not is_so() and time.monotonic() < last:
        time.sleep(0.01)
    assert is_so()


def test_a_folder_is_read_from_its_source_once(cache: Path, shared: Path, reads: list[str]) -> None:
    sums = hash_files(shared, NAMES)
    first = copy_to_node(sums)
    assert contents(first.folder) == contents(shared)
    assert (first.fetched, first.fetched_bytes) == (3, sum(len(name) * 1000 for name in NAMES))
    again = copy_to_node(sums)
    assert again.folder == first.folder and again.fetched == 0
    assert sorted(reads) == sorted(NAMES)
    assert not list(cache.rglob("*.partial"))


def test_equal_contents_are_fetched_once_whatever_their_folder(
    cache: Path, shared: Path, reads: list[str], tmp_path: Path
) -> None:
    copy_to_node(hash_files(shared, NAMES))
    other = tmp_path / "other"
    other.mkdir()
    (other / "renamed.png").write_bytes((shared / "a.png").read_bytes())
    (other / "new.png").write_bytes(b"new")
    reads.clear()
    copy = copy_to_node(hash_files(other, ["renamed.png", "new.png"]))
    assert contents(copy.folder) == contents(other)
    assert reads == ["new.png"] and copy.fetched_bytes == 3


def test_what_the_copies_take_is_known(cache: Path, shared: Path) -> None:
    assert stored_images() == (0, 0)
    copy_to_node(hash_files(shared, NAMES))
    copy_to_node(hash_files(shared, ["a.png"]))
    assert stored_images() == (3, sum(len(name) * 1000 for name in NAMES))


def test_the_copy_is_read_when_the_source_is_gone(cache: Path, shared: Path) -> None:
    sums = hash_files(shared, NAMES)
    copy_to_node(sums)
    shared.rename(shared.with_name("away"))
    assert contents(copy_to_node(sums).folder) == contents(shared.with_name("away"))


@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_damaged_copy_is_mended(damage: str, cache: Path, shared: Path, reads: list[str]) -> None:
    sums = hash_files(shared, NAMES)
    copy = copy_to_node(sums)
    reads.clear()
    victim = copy.folder / "b.png"
    if damage == "gone":
        victim.unlink()
    else:
        victim.chmod(0o644)
        victim.write_bytes(b"b")  # the file by its content is the same one
    assert contents(copy_to_node(sums).folder) == contents(shared)
    assert reads == ([] if damage == "gone" else ["b.png"])


def test_what_was_damaged_unseen_is_not_given_to_another_folder(cache: Path, shared: Path, tmp_path: Path) -> None:
    copy = copy_to_node(hash_files(shared, ["a.png"]))
    victim = copy.folder / "a.png"
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)
    assert contents(copy_to_node(hash_files(shared, ["a.png", "b.png"])).folder)["a.png"] == b"a.png" * 1000


def test_a_file_that_differs_is_fetched_once_more(
    cache: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    sums, counted = hash_files(shared, ["a.png"]), Copier.chunks

    def flawed(self: Copier, file: image_cache.FileSum) -> Iterator[bytes]:
        whole = b"".join(counted(self, file))
        yield whole if len(reads) > 1 else b"y" + whole[1:]

    monkeypatch.setattr(Copier, "chunks", flawed)
    assert contents(copy_to_node(sums).folder) == {"a.png": b"a.png" * 1000}
    assert reads == ["a.png", "a.png"]


def test_a_file_that_differs_twice_is_named_with_both_sums(cache: Path, shared: Path, reads: list[str]) -> None:
    sums = hash_files(shared, NAMES)
    old = sums.files[1].sha256
    (shared / "b.png").write_bytes(b"B" * 5000)
    new = hash_files(shared, ["b.png"]).files[0].sha256
    with pytest.raises(TrialSiteError) as told:
        copy_to_node(sums)
    assert str(told.value).startswith(
        f"{shared}/b.png: expected the file that the sweep was started with (SHA-256 {old}), "
        f"but got another one ({new}). Put the file back"
    )
    assert reads.count("b.png") == 2
    (shared / "b.png").write_bytes(b"b.png" * 1000)
    assert contents(copy_to_node(sums).folder) == contents(shared)
    assert not list(cache.rglob("*.partial"))


def test_a_file_that_is_not_there_is_named(cache: Path, shared: Path) -> None:
    sums = hash_files(shared, NAMES)
    (shared / "a.png").unlink()
    with pytest.raises(TrialSiteError, match=r"shared/a.png: expected a file of the sweep's images, but got: No such"):
        copy_to_node(sums)


def test_after_a_copier_was_killed_the_next_one_fetches_the_rest(
    cache: Path, shared: Path, reads: list[str], tmp_path: Path
) -> None:
    process = slow_copier(shared, tmp_path / "signs")
    wait_for(lambda: len(os.listdir(tmp_path / "signs")) == 2 and len(list(cache.rglob("half"))) == 1)
    process.kill()
    process.communicate()
    (stored,) = [path for path in (cache / "files").rglob("*") if path.is_file() and b"b.png" in path.read_bytes()]
    stored.chmod(0o644)
    stored.write_bytes(b"b")  # as a power cut may leave it
    copy = copy_to_node(hash_files(shared, NAMES))
    assert contents(copy.folder) == contents(shared)
    assert sorted(reads) == ["b.png", "plate/c.png"] and not list(cache.rglob("half"))


def test_processes_at_once_copy_once(cache: Path, shared: Path, reads: list[str], tmp_path: Path) -> None:
    process = slow_copier(shared, tmp_path / "signs")
    waiting = [Event() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        try:
            wait_for(lambda: len(os.listdir(tmp_path / "signs")) == 2)
            copying = [pool.submit(copy_to_node, hash_files(shared, NAMES), one.set) for one in waiting]
            wait_for(lambda: all(one.is_set() for one in waiting))
        finally:
            (tmp_path / "signs.go").touch()
        copies = [one.result() for one in copying]
    assert process.communicate(timeout=60)[0] == "3\n"
    assert reads == [] and [copy.fetched for copy in copies] == [0, 0, 0]
    assert contents(copies[0].folder) == contents(shared)


def test_who_waits_may_give_up(cache: Path, shared: Path, tmp_path: Path) -> None:
    process = slow_copier(shared, tmp_path / "signs")
    wait_for(lambda: len(os.listdir(tmp_path / "signs")) == 2)

    def stop() -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            copy_to_node(hash_files(shared, NAMES), stop)
    finally:
        process.kill()
        process.communicate()


def test_who_copies_may_give_up_and_what_is_there_stays(
    cache: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    sums = hash_files(shared, NAMES)
    with pytest.raises(KeyboardInterrupt):
        copy_to_node(sums, stop)
    done = list(reads)
    assert "a.png" in done
    assert copy_to_node(sums).fetched == 3 - len(done)


def test_more_images_than_the_disk_has_room_for_are_not_begun(
    cache: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    sums = hash_files(shared, NAMES)
    usage = image_cache.shutil.disk_usage(shared)
    nearly = usage._replace(total=100_000, free=sums.size_bytes + 4_999)  # 5000 bytes of it stay free
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: nearly)
    with pytest.raises(OSError, match=r"0.00 GB of images do not fit into the 0.00 GB that are free") as told:
        copy_to_node(sums)
    assert told.value.errno == errno.ENOSPC and reads == []
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: nearly._replace(free=sums.size_bytes + 5_000))
    assert copy_to_node(sums).fetched == 3


@pytest.mark.root
def test_a_disk_that_fills_meanwhile_gets_its_room_back(
    small_disk: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(small_disk))
    (shared / "large.png").write_bytes(b"large" * 1_000_000)
    sums, free = hash_files(shared, [*NAMES, "large.png"]), image_cache.shutil.disk_usage(small_disk).free
    check = Copier.start

    def start_and_fill(self: Copier, needed: int) -> None:
        check(self, needed)
        (small_disk / "of another").write_bytes(b"x" * 5_000_000)

    monkeypatch.setattr(Copier, "start", start_and_fill)
    with pytest.raises(OSError, match="No space left on device"):
        copy_to_node(sums)
    (small_disk / "of another").unlink()
    assert free - image_cache.shutil.disk_usage(small_disk).free < 100_000
    monkeypatch.setattr(Copier, "start", check)
    assert contents(copy_to_node(sums).folder) == contents(shared)


def test_a_cache_that_is_no_folder_is_an_error_of_this_node(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError):
        copy_to_node(hash_files(shared, NAMES))


def test_a_folder_on_an_object_store_is_fetched_by_its_url(cache: Path, shared: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in NAMES:
        memory.pipe_file(f"/nuclei/{name}", (shared / name).read_bytes())
    sums = hash_files(shared, NAMES)
    copy = copy_to_node(FolderSums(shared, "memory://nuclei", sums.files))
    assert contents(copy.folder) == contents(shared)
    memory.rm("/nuclei", recursive=True)
