"""What goes wrong inside a running sweep stays inside one trial: crashes, kills, a worker that dies.

One sweep of five trials: 1 segfaults, 2 has its training process killed, 3 its Ray worker, 0 and 4 are left alone.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

# Imported by every training process; the trial's number is in the path of its log, which is its standard output.
SABOTEUR = """
import ctypes, os
if os.path.basename(os.path.dirname(os.readlink("/proc/self/fd/1"))) == "0001":
    ctypes.string_at(0)
"""
# Files of the user's that have the names of our packages and modules must never be imported in their place.
TRAP = "raise RuntimeError('a file of the user was imported in place of ours')\n"


@pytest.fixture(scope="module")
def swept(shared_workplace: Any, wait: Callable[..., None]) -> Any:
    place = shared_workplace
    place.synthesize()
    place.write_sweep(
        {"epochs": 3, "batch_size": 1},
        {"lr": {"float": [1e-5, 1e-3], "log": True}},
        budget={"trials": 5, "concurrent": 2},
        custom_imports="saboteur",
    )
    (place.folder / "saboteur.py").write_text(SABOTEUR)
    for name in ("segdata", "trainables", "ensembling", "search_spaces", "metrics", "resource"):
        (place.folder / f"{name}.py").write_text(TRAP)
    process = place.start("run", "sweep.yaml")
    try:
        files = place.run_folder.trial(2)
        wait(files.last.is_file, process)
        trainer = place.trainer(2)
        trainer.send_signal(signal.SIGKILL)

        files = place.run_folder.trial(3)
        wait(files.last.is_file, process)
        worker = ray_worker_of(place.trainer(3))
        place.killed_worker = worker.pid
        worker.send_signal(signal.SIGKILL)
        place.out, place.err = process.communicate(timeout=240)
        place.code = process.returncode
    finally:
        place.end_all()
    return place


def ray_worker_of(trainer: psutil.Process) -> psutil.Process:
    """The training process was forked by a fork server, which the Ray worker started."""
    worker = trainer.parent().parent()
    assert os.path.basename(worker.cmdline()[0]).startswith("ray::"), worker.cmdline()
    return worker


def test_the_sweep_ends_with_every_trial_done(swept: Any) -> None:
    assert swept.code == 0, swept.out + swept.err
    outcomes = {record.number: record.outcome for record in swept.records()}
    assert outcomes == {0: "completed", 1: "crashed", 2: "completed", 3: "completed", 4: "completed"}


def test_a_segfault_is_recorded_with_its_reason_and_the_next_trial_runs(swept: Any) -> None:
    reason = "the training process ended by SIGSEGV (signal 11)"
    assert swept.records()[1].reason.startswith(reason)
    assert "Segmentation fault" in swept.run_folder.trial(1).log.read_text()
    crashed = mlflow_trials(swept)[1]
    assert crashed.info.status == "FAILED"
    assert crashed.data.tags["segsweep.outcome"] == "crashed"
    assert crashed.data.tags["segsweep.reason"].startswith(reason)
    assert "trial 0001 crashed   no score" in swept.out and "SIGSEGV" in swept.out


@pytest.mark.parametrize("number", [2, 3])
def test_a_kill_costs_no_epoch_that_has_a_checkpoint(swept: Any, number: int) -> None:
    assert swept.history_epochs(number) == [1, 2, 3]
    record = swept.records()[number]
    assert sorted(record.scores) == [1, 2, 3]


def test_mlflow_shows_each_trial_once_with_each_epoch_once(swept: Any) -> None:
    trials = mlflow_trials(swept)
    assert sorted(trials) == [0, 1, 2, 3, 4]
    for number in (0, 2, 3, 4):
        history = swept.client.get_metric_history(trials[number].info.run_id, "segm_mAP")
        assert [entry.step for entry in history] == [1, 2, 3]
        assert trials[number].info.status == "FINISHED"


def test_no_process_is_left(swept: Any) -> None:
    assert swept.leftovers() == []


def mlflow_trials(place: Any) -> dict[int, Any]:
    place.client = MlflowClient(tracking_uri=f"sqlite:///{place.folder}/mlflow.db")
    experiment = place.client.get_experiment_by_name("tiny")
    runs = place.client.search_runs([experiment.experiment_id], "tags.`segsweep.kind` = 'trial'")
    numbers = [int(run.data.tags["segsweep.trial"]) for run in runs]
    assert len(set(numbers)) == len(numbers)
    return dict(zip(numbers, runs, strict=True))
