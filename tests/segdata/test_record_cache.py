"""Record files of a node: built once, by one process, whatever happens to it, and never stale."""

import errno
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from segdata import record_cache
from segdata.record_cache import cache_folder, open_cached
from segdata.record_file import RecordFile, write_records

ROOT = Path(__file__).resolve().parents[2]
OTHER_PROCESS = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from pathlib import Path
from segdata.record_cache import open_cached
from segdata.record_file import write_records

source, builds, pause_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

def write(stream):
    (builds / str(os.getpid())).touch()
    time.sleep(pause_s)
    write_records(stream, source.read_bytes().splitlines(), {}, {})

file = open_cached(source, "lines1", write)
print(*(file.read(index).decode() for index in range(len(file))))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    record_cache._say_once.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source that has not changed for a minute."""
    path = tmp_path / "source.txt"
    path.write_text("one\ntwo\n")
    return path


def settle(path: Path) -> None:
    """Waits until a file is older than what its times can tell apart."""
    time.sleep(max(0.0, path.stat().st_ctime + record_cache.SETTLED_S + 0.05 - time.time()))


def lines_of(source: Path, builds: Path) -> Callable[[BinaryIO], None]:
    """A `write` of one record a line, which leaves a file in `builds` when it begins."""

    def write(stream: BinaryIO) -> None:
        (builds / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        write_records(stream, source.read_bytes().splitlines(), {}, {})

    return write


def read(source: Path, builds: Path) -> list[bytes]:
    builds.mkdir(exist_ok=True)
    file = open_cached(source, "lines1", lines_of(source, builds))
    return [file.read(index) for index in range(len(file))]


def in_process(source: Path, builds: Path, pause_s: float) -> "subprocess.Popen[str]":
    """Starts another process that opens the records, and prints them."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(source), str(builds), str(pause_s)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def names(folder: Path, suffix: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(suffix))


def test_a_source_is_parsed_once(source: Path, folder: Path, tmp_path: Path) -> None:
    for _ in range(3):
        assert read(source, tmp_path / "builds") == [b"one", b"two"]
    assert len(os.listdir(tmp_path / "builds")) == 1
    assert len(names(folder, ".records")) == 1 and not names(folder, ".partial")


def test_a_settled_source_is_not_even_read_again(
    source: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(source)
    read(source, tmp_path / "builds")

    def fail(*arguments: object) -> None:
        raise OSError(errno.EROFS, "the source was read, or the folder written to")

    monkeypatch.setattr(record_cache, "_digest", fail)
    monkeypatch.setattr(record_cache, "node_lock", fail)
    assert read(source, tmp_path / "builds") == [b"one", b"two"]
    assert len(os.listdir(tmp_path / "builds")) == 1


def test_equal_files_share_their_records(source: Path, folder: Path, tmp_path: Path) -> None:
    read(source, tmp_path / "builds")
    (tmp_path / "other.txt").write_bytes(source.read_bytes())
    read(tmp_path / "other.txt", tmp_path / "builds")
    assert len(os.listdir(tmp_path / "builds")) == 1 == len(names(folder, ".records"))


def test_a_source_of_the_same_size_and_time_is_never_stale(source: Path, folder: Path, tmp_path: Path) -> None:
    settle(source)
    assert read(source, tmp_path / "builds") == [b"one", b"two"]
    before = source.stat()
    source.write_text("six\nten\n")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.stat().st_mtime_ns == before.st_mtime_ns and source.stat().st_size == before.st_size
    assert read(source, tmp_path / "builds") == [b"six", b"ten"]


def test_a_source_that_changes_all_the_time_is_never_stale(source: Path, folder: Path, tmp_path: Path) -> None:
    for number in range(30):
        source.write_text(f"{number:03}\n")
        assert read(source, tmp_path / "builds") == [f"{number:03}".encode()]


def test_a_source_that_changes_while_it_is_read_is_not_kept(source: Path, folder: Path, tmp_path: Path) -> None:
    def write(stream: BinaryIO) -> None:
        lines = source.read_bytes().splitlines()
        source.write_text("later\n")
        write_records(stream, lines, {}, {})

    file = open_cached(source, "lines1", write)
    assert file.read(0) == b"later"  # read again, into memory
    assert names(folder, ".records") == []


@pytest.mark.parametrize("damage", [lambda old: old[:-10], lambda old: b"", lambda old: b"x" + old[1:]])
def test_a_damaged_file_is_built_again(
    damage: Callable[[bytes], bytes], source: Path, folder: Path, tmp_path: Path
) -> None:
    read(source, tmp_path / "builds")
    path = folder / names(folder, ".records")[0]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    file = open_cached(source, "lines1", lines_of(source, tmp_path / "builds"), distrust=True)
    assert [file.read(index) for index in range(len(file))] == [b"one", b"two"]
    assert path.read_bytes() == whole


def test_processes_at_once_build_once(source: Path, folder: Path, tmp_path: Path) -> None:
    builds = tmp_path / "builds"
    builds.mkdir()
    processes = [in_process(source, builds, 1.0) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["one two\n"] * 3
    assert len(os.listdir(builds)) == 1


def test_after_a_builder_was_killed_the_next_one_builds(source: Path, folder: Path, tmp_path: Path) -> None:
    builds = tmp_path / "builds"
    builds.mkdir()
    process = in_process(source, builds, 600.0)
    last = time.monotonic() + 60
    while not os.listdir(builds) and time.monotonic() < last:
        time.sleep(0.01)
    assert names(folder, ".partial") and not names(folder, ".records")
    process.kill()
    process.communicate()
    assert read(source, builds) == [b"one", b"two"]
    assert not names(folder, ".partial") and len(names(folder, ".records")) == 1


def test_a_process_that_waits_for_too_long_parses_for_itself(
    source: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read(source, tmp_path / "builds")
    lock = folder / names(folder, ".lock")[0]
    (folder / names(folder, ".records")[0]).unlink()
    monkeypatch.setattr(record_cache, "WAIT_S", 0.1)
    with lock.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert read(source, tmp_path / "builds") == [b"one", b"two"]
    assert [record.getMessage() for record in caplog.records] == [
        "lines1: parsed annotations are held in memory, for they can't be shared by a file: "
        f"another process holds {lock} for over 0 s"
    ]


def test_without_a_folder_to_write_to_records_are_in_memory_and_one_line_says_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert read(source, tmp_path / "builds") == [b"one", b"two"]
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
    assert "can't be shared by a file: [Errno 20] Not a directory" in caplog.records[0].getMessage()


def test_a_full_disk_leaves_nothing_behind_and_fails_nothing(
    source: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(stream: BinaryIO) -> None:
        if hasattr(stream, "fileno") and not hasattr(stream, "getvalue"):
            with open("/dev/full", "wb") as full:  # the system's own ENOSPC
                full.write(b"x")
        write_records(stream, source.read_bytes().splitlines(), {}, {})

    file = open_cached(source, "lines1", write)
    assert file.read(1) == b"two"
    assert names(folder, ".records") == names(folder, ".partial") == []
    assert "[Errno 28] No space left on device" in caplog.text


def test_files_that_nobody_opened_for_a_month_are_removed(source: Path, folder: Path, tmp_path: Path) -> None:
    builds, used, other = tmp_path / "builds", tmp_path / "used.txt", tmp_path / "other.txt"
    read(source, builds)
    used.write_text("used\n")
    read(used, builds)
    month_ago = time.time() - 31 * 86400
    (folder / "notes.txt").write_text("a file of somebody else")
    for path in folder.iterdir():
        os.utime(path, (month_ago, month_ago))
    read(used, builds)
    other.write_text("other\n")
    read(other, builds)
    contents = [RecordFile.open(folder / name).read(0) for name in names(folder, ".records")]
    assert sorted(contents) == [b"other", b"used"]
    assert (folder / "notes.txt").exists()


def test_the_folder_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("SEGSWEEP_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "segsweep" / "data"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "segsweep" / "data"
    monkeypatch.setenv("SEGSWEEP_CACHE", "~/here")
    assert cache_folder() == tmp_path / "here"
