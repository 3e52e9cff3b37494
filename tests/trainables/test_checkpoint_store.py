"""Checkpoints in a second place: a folder, and an S3 server on loopback; what a lost machine leaves is taken up."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from segdata.errors import TrialSiteError
from trainables.checkpoint_store import CheckpointStore
from trainables.trial_files import EpochScores, TrialFiles


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> str:
    """Where the store is: empty."""
    return str(tmp_path / "store") if request.param == "folder" else f"s3://bucket/{tmp_path.name}"


def train_epoch(files: TrialFiles, epoch: int, *, best: bool = False) -> None:
    """Leaves what a trial leaves after an epoch."""
    files.directory.mkdir(parents=True, exist_ok=True)
    files.config.write_text("model = 1\n")
    files.append_history(EpochScores(epoch, {"mIoU": epoch / 10}))
    files.last.write_bytes(b"last of %d" % epoch)
    os.utime(files.last, ns=(epoch, epoch))
    if best:
        files.best.write_bytes(b"best of %d" % epoch)
        os.utime(files.best, ns=(epoch, epoch))


def names_in(place: str) -> list[str]:
    system, root = fsspec.core.url_to_fs(place)
    system.invalidate_cache()
    return sorted(Path(path).name for path in system.find(root))


def test_another_machine_goes_on_where_the_first_one_stood(place: str, tmp_path: Path) -> None:
    here, there = TrialFiles(tmp_path / "here" / "0003"), TrialFiles(tmp_path / "there" / "0003")
    store = CheckpointStore(place)
    train_epoch(here, 1, best=True)
    store.push(here, 1)
    train_epoch(here, 2)
    here.write_parts(2)
    store.push(here, 2)
    assert names_in(place) == [
        "best-0001.pth", "config.py", "history.jsonl", "last-0002.pth", "parts.json", "state-0002.json",
    ]  # fmt: skip
    CheckpointStore(place).pull(there)
    assert there.last.read_bytes() == b"last of 2" and there.best.read_bytes() == b"best of 1"
    assert there.read_history() == here.read_history() and there.read_parts() == 2
    assert there.config.read_text() == here.config.read_text()
    assert sorted(path.name for path in there.directory.iterdir()) == [
        "best.pth", "config.py", "history.jsonl", "last.pth", "parts.json",
    ]  # fmt: skip


def test_a_folder_that_is_further_than_the_store_stays_as_it_is(place: str, tmp_path: Path) -> None:
    files, store = TrialFiles(tmp_path / "0000"), CheckpointStore(place)
    store.pull(files)  # there is nothing yet
    assert not files.directory.exists()
    train_epoch(files, 1)
    store.push(files, 1)
    train_epoch(files, 2)
    CheckpointStore(place).pull(files)
    assert files.last.read_bytes() == b"last of 2"


@pytest.mark.parametrize("cut_at", [1, 2, 3, 4])
def test_a_copy_cut_short_leaves_the_one_before(
    cut_at: int, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second push loses its connection at its first, second ... write."""
    files, store = TrialFiles(tmp_path / "0000"), CheckpointStore(place)
    train_epoch(files, 1, best=True)
    store.push(files, 1)
    train_epoch(files, 2, best=True)
    system = fsspec.core.url_to_fs(place)[0]  # fsspec keeps one for all
    writes = []

    def fail_at(call: Callable[..., Any]) -> Callable[..., Any]:
        def write(*arguments: Any, **options: Any) -> Any:
            writes.append(arguments)
            if len(writes) >= cut_at:
                raise ConnectionError("connection lost")
            return call(*arguments, **options)

        return write

    with monkeypatch.context() as patch:
        patch.setattr(system, "put_file", fail_at(system.put_file))
        patch.setattr(system, "pipe_file", fail_at(system.pipe_file))
        store.push(files, 2)
    assert "expected to copy a checkpoint, but got: connection lost" in files.log.read_text()
    other = TrialFiles(tmp_path / "other" / "0000")
    CheckpointStore(place).pull(other)
    assert other.last.read_bytes() == b"last of 1" and other.best.read_bytes() == b"best of 1"
    store.push(files, 2)  # the next epoch tries again
    CheckpointStore(place).pull(other)
    assert other.last.read_bytes() == b"last of 2" and other.best.read_bytes() == b"best of 2"


def test_a_state_cut_short_is_passed_over(tmp_path: Path) -> None:
    """On a shared disk a file may be there in part; on an object store never."""
    files, store = TrialFiles(tmp_path / "0000"), CheckpointStore(str(tmp_path / "store"))
    train_epoch(files, 1)
    store.push(files, 1)
    (tmp_path / "store" / "0000" / "state-0002.json").write_text('{"epoch": 2, "la')
    other = TrialFiles(tmp_path / "other" / "0000")
    store.pull(other)
    assert other.last.read_bytes() == b"last of 1"


def test_weights_go_apart_and_the_rest_stays(place: str, tmp_path: Path) -> None:
    files, store = TrialFiles(tmp_path / "0000"), CheckpointStore(place)
    train_epoch(files, 1, best=True)
    store.push(files, 1)
    store.drop(files, "last")
    assert names_in(place) == ["best-0001.pth", "config.py", "history.jsonl", "state-0001.json"]
    other = TrialFiles(tmp_path / "other" / "0000")
    store.pull(other)
    assert not other.directory.exists()  # an ended trial is not resumed
    store.pull_best(other)
    assert other.best.read_bytes() == b"best of 1" and other.config.is_file()
    store.drop(files, "best")
    assert names_in(place) == ["config.py", "history.jsonl", "state-0001.json"]
    store.drop(TrialFiles(tmp_path / "9999"), "best")  # of a trial that never came so far


def test_a_trial_out_leaves_nothing(place: str) -> None:
    CheckpointStore(place).try_out()
    assert names_in(place) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://no-such-bucket/x", "bucket"),
        ("nosuch://x/y", "Protocol not known: nosuch"),
        ("/proc/nowhere", "No such file"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(url: str, told: str, s3: str) -> None:
    with pytest.raises(TrialSiteError) as error:
        CheckpointStore(url).try_out()
    message = str(error.value)
    assert message.startswith(f"{url}: expected a place for checkpoints that can be written, but got: ")
    assert told in message and "\n" not in message
