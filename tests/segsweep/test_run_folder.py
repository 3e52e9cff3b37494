"""A sweep's folder: finding it, its origin, and the lock that lets one driver in."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segdata.errors import InputError, SweepFileError
from segsweep.run_folder import Origin, RunFolder, find_run
from segsweep.sweep_file import load_sweep

SWEEP = """\
name: first
task: instance
data:
  train: {annotations: data/train.json, images: data}
  val: {annotations: data/train.json, images: data}
budget: {trials: 1}
fixed: {model: mask-rcnn}
"""
HOLD = """
import sys, time
from pathlib import Path
from segsweep.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.json").write_text("{}")
    path = tmp_path / "first.yaml"
    path.write_text(SWEEP)
    return path


@pytest.fixture
def run(sweep_file: Path) -> RunFolder:
    sweep = load_sweep(sweep_file)
    folder = RunFolder(sweep.path)
    with folder.locked():
        folder.create(sweep, Origin.new(sweep, "f00d"))
    return folder


@pytest.mark.parametrize("name", ["first", "runs/first", "first.yaml", "runs/first/sweep.yaml"])
def test_a_sweep_is_found_by_name_folder_and_file(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_run(name, Path("runs")).path.absolute() == run.path


def test_an_unknown_name_lists_the_known_ones(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the name of a sweep, but got 'fist'; known: first"):
        find_run("fist", tmp_path / "runs")
    with pytest.raises(InputError, match="known: none"):
        find_run("first", tmp_path / "elsewhere")


def test_a_sweep_is_what_it_was_when_its_file_changes(run: RunFolder, sweep_file: Path) -> None:
    sweep_file.write_text(SWEEP.replace("trials: 1", "trials: 99"))
    loaded = run.load()
    assert loaded.config.budget.trials == 1
    assert loaded.data.roles["train"].images == sweep_file.parent / "data"
    assert loaded.path == run.path
    assert run.read_origin() == run.read_origin() and run.read_origin().fingerprint == "f00d"


def test_a_moved_sweep_goes_on_where_it_is_now(run: RunFolder, tmp_path: Path) -> None:
    shutil.move(tmp_path / "runs", tmp_path / "archive")
    moved = find_run("first", tmp_path / "archive")
    assert moved.load().path == tmp_path / "archive" / "first"


def test_a_renamed_sweep_is_refused(run: RunFolder) -> None:
    renamed = run.path.rename(run.path.parent / "second")
    with pytest.raises(InputError, match="expected the folder of the sweep 'first', but got one named 'second'"):
        RunFolder(renamed).load()


def test_a_broken_copy_of_the_sweep_file_is_named(run: RunFolder) -> None:
    run.sweep_file.write_text(SWEEP.replace("trials: 1", "trials: none"))
    with pytest.raises(SweepFileError, match=r"sweep.yaml:6: budget.trials: expected a valid integer, but got 'none'"):
        run.load()


def test_the_trials_can_be_ranked_after_the_data_is_gone(run: RunFolder, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    assert run.config().name == "first"
    with pytest.raises(SweepFileError, match="a folder of images, but got nothing"):
        run.load()


def test_nothing_is_left_where_no_sweep_began(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new" / "runs" / "first")
    with pytest.raises(InputError, match="wrong"), folder.locked():
        folder.data.mkdir()
        raise InputError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_users_is_not_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "first")
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    with folder.locked():
        pass
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_a_storage_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with (
        pytest.raises(InputError, match="runs/first: expected a folder to write to, but got: "),
        RunFolder(tmp_path / "runs" / "first").locked(),
    ):
        pass


def test_a_second_driver_is_refused_until_the_first_is_gone_even_by_sigkill(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "first")
    holder = subprocess.Popen([sys.executable, "-P", "-c", HOLD, folder.path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="no other driver runs, but got one that is running"), folder.locked():
            pass
        assert (folder.path / "driver.lock").is_file()  # the refused one takes nothing away
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(10)
        with folder.locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert not (folder.path / "driver.lock").exists()


def test_launches_have_folders_of_their_own(run: RunFolder) -> None:
    first = run.next_launch()
    first.mkdir(parents=True)
    assert (first.name, run.next_launch().name) == ("launch-000", "launch-001")
