"""Training networks of folds as Ray tasks, and recording each in MLflow. Imports ray; mlflow only where it records."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError
from rich.console import Console

from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError, TrialSiteError
from segsweep.ensembles.folded_trial import FoldedTrial
from segsweep.resources import TrialResources
from trainables.ray_trainable import TrialContext, train_alone
from trainables.trial_files import Outcome, TrialFiles

if TYPE_CHECKING:
    from segtrack.recorder import SweepRecorder

__all__ = ["FoldTask", "record", "run_tasks"]

WOULD_COME_AGAIN = ("crashed", "out-of-memory")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldTask:
    """A network that is still to be trained."""

    folded: FoldedTrial
    fold: int
    context: TrialContext

    @property
    def files(self) -> TrialFiles:
        return self.folded.files[self.fold]

    @property
    def model(self) -> str:
        return self.folded.trial.model.name

    @property
    def title(self) -> str:
        return f"fold {self.fold} of trial {self.folded.name}"


def run_tasks(
    tasks: Sequence[FoldTask], resources: TrialResources, recorder: "SweepRecorder", console: Console
) -> list[tuple[FoldTask, Outcome]]:
    """Trains as many at a time as the sweep's trials; returns those that failed.

    Where a network crashed or ran out of memory, no more of its configuration are begun.
    """
    retries = tasks[0].context.max_failures
    trains = {task.model: as_task(resources.of(task.model), retries) for task in tasks}
    waiting, failures = list(tasks), []
    running: dict[ray.ObjectRef[Outcome], FoldTask] = {}
    while waiting or running:
        while waiting and len(running) < resources.concurrent:
            task = waiting.pop(0)
            forget_predictions(task)
            console.print(f"training {task.title}", highlight=False)
            running[trains[task.model].remote(task.folded.trial, task.context, task.files.directory)] = task
        (done,), _ = ray.wait(list(running))
        task = running.pop(done)
        outcome = outcome_of(done)
        if outcome.kind == "completed":
            task.files.drop_states()
            console.print(f"{task.title}: {told(task)}", highlight=False)
            record([(task.folded, task.fold)], lambda: recorder)
            continue
        failures.append((task, outcome))
        console.print(f"{task.title} failed: {outcome.reason}", highlight=False, markup=False, soft_wrap=True)
        if outcome.kind in WOULD_COME_AGAIN:
            waiting = [other for other in waiting if other.folded.name != task.folded.name]
    return failures


def train_fold(trial: TrialConfig, context: TrialContext, directory: Path) -> Outcome:
    """The Ray task: trains in a child of the worker's fork server."""
    return train_alone(trial, context, TrialFiles(directory))


def as_task(resources: TrialResources, max_retries: int) -> Any:
    """Returns the Ray task.

    One that finds itself on a node that is not fit is tried elsewhere, as a trial is.

    A worker's fork server sees the GPU of the worker's first task for good. Ray gives each task with a GPU a worker of
    its own if the GPU is asked for where the task is made, but not by `options`; a test pins it.
    """
    again: dict[str, Any] = {"max_retries": max_retries, "retry_exceptions": [TrialSiteError]}  # Ray types it as bool
    made = ray.remote(num_cpus=resources.cpu, num_gpus=resources.gpu, **again)
    return made(train_fold)


def outcome_of(done: "ray.ObjectRef[Outcome]") -> Outcome:
    """Returns how a network's training ended, also where Ray lost it."""
    try:
        outcome: Outcome = ray.get(done)
    except RayTaskError as error:  # the last node that it was tried on was not fit either
        return Outcome("failed", str(error.cause))
    except RayError as error:
        return Outcome("failed", (str(error).strip() or type(error).__name__).splitlines()[0])
    return outcome


def forget_predictions(task: FoldTask) -> None:
    """Removes what earlier networks of this configuration predicted."""
    for path in task.folded.folder.glob("out-of-fold*"):
        shutil.rmtree(path)


def told(task: FoldTask) -> str:
    """Says how well a network does on its fold."""
    row, metric = task.files.read_history()[-1], task.context.metric
    return f"{metric} {row.scores[metric]:.4f} on its fold after epoch {row.epoch}"


def record(networks: Sequence[tuple[FoldedTrial, int]], open_recorder: Callable[[], "SweepRecorder"]) -> None:
    """Writes trained networks to MLflow, where they are not there yet; if that fails it is only said."""
    from segtrack.recorder import TrackingLostError

    missing = [f"fold {fold} of trial {one.name}" for one, fold in networks]
    try:
        recorder = open_recorder()
        for one, fold in networks:
            files, folds = one.files[fold], len(one.pool.split.folds)
            epochs = {row.epoch: row.scores for row in files.read_history()}
            shown = [files.config, files.log]
            recorder.record_fold(one.record.number, fold, folds, dict(one.record.in_force), epochs, shown)
            del missing[0]
    except (TrackingLostError, InputError) as error:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        logger.warning("%s%s missing in MLflow until the same command is run again: %s", missing[0], more, error)
