"""How networks of folds take turns on Ray, with a stand-in for their training."""

import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segdata.errors import TrialSiteError
from segsweep.data_roles import read_roles
from segsweep.ensembles import fold_tasks
from segsweep.ensembles.fold_tasks import FoldTask, as_task, outcome_of, run_tasks
from segsweep.ensembles.folded_trial import FoldedTrial
from segsweep.ensembles.folds import context_of
from segsweep.ensembles.pool import pool_of
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep
from trainables.trial_files import EpochScores, Outcome, TrialFiles

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with ray_session(None, Console(quiet=True)):
        yield


class Recorder:
    """Takes the place of MLflow's."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, int, int]] = []

    def record_fold(self, number: int, fold: int, folds: int, *others: Any) -> None:
        self.recorded.append((number, fold, folds))


def test_a_crash_ends_its_configuration_and_a_lost_worker_only_itself(
    begun: Callable[..., Sweep],
    record_of: Callable[..., TrialRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: Mapping[str, str] = {"0001/fold-0": "crashed", "0002/fold-1": "lost"}

    def stand_in(trial: Any, context: Any, directory: Path) -> Outcome:
        end = ends.get(f"{directory.parent.name}/{directory.name}", "completed")
        if end == "lost":
            os._exit(1)
        directory.mkdir(parents=True)
        TrialFiles(directory).append_history(EpochScores(4, {"mIoU": 0.5}))
        return Outcome(end, f"{end} on purpose")  # type: ignore[arg-type]

    monkeypatch.setattr(fold_tasks, "train_fold", stand_in)
    sweep = begun(tmp_path, "semantic", 4, 2, max_failures=0)
    roles = read_roles(sweep)
    pool, resources = pool_of(sweep, roles, 3), TrialResources(1, 0, 1)
    context = context_of(sweep, roles.describe(RunFolder(sweep.path).data), resources, {})
    assert (context.keep_last, context.on_tune, context.store) == (True, False, None)
    folded = [FoldedTrial(sweep, record_of(number, "segformer", 4), pool) for number in (1, 2)]
    stale = folded[1].folder / "out-of-fold"
    stale.mkdir(parents=True)
    recorder, console = Recorder(), Console(file=io.StringIO(), width=200)
    tasks = [FoldTask(one, fold, context) for one in folded for fold in range(3)]
    failures = run_tasks(tasks, resources, recorder, console)  # type: ignore[arg-type]
    assert [(task.title, outcome.kind) for task, outcome in failures] == [
        ("fold 0 of trial 0001", "crashed"),
        ("fold 1 of trial 0002", "failed"),
    ]
    assert recorder.recorded == [(2, 0, 3), (2, 2, 3)]
    assert not stale.exists()  # earlier networks' predictions
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "fold 2 of trial 0002: mIoU 0.5000 on its fold after epoch 4" in said
    assert "fold 1 of trial 0001" not in said


def test_a_network_leaves_a_node_that_is_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(tries: int, context: Any, directory: Path) -> Outcome:
        (directory / str(len(list(directory.iterdir())))).touch()
        if len(list(directory.iterdir())) < tries:
            raise TrialSiteError("node a: expected the module nowhere")
        return Outcome("completed")

    monkeypatch.setattr(fold_tasks, "train_fold", stand_in)
    task = as_task(TrialResources(1, 0, 1), 1)
    for tries, outcome in {
        2: Outcome("completed"),
        3: Outcome("failed", "node a: expected the module nowhere"),
    }.items():
        (tmp_path / str(tries)).mkdir()
        assert outcome_of(task.remote(tries, None, tmp_path / str(tries))) == outcome
        assert len(list((tmp_path / str(tries)).iterdir())) == 2


def test_each_network_with_a_gpu_gets_a_worker_of_its_own() -> None:
    """Its fork server would hand the first one's GPU to all that come after it."""
    assert as_task(TrialResources(1, 0.5, 1), 0)._default_options["max_calls"] == 1
    assert "max_calls" not in as_task(TrialResources(1, 0, 1), 0)._default_options
