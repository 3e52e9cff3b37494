"""Cross-validation of configurations that a search has found: a network a fold, each trained once and kept.

    RUN/folds/k5/data/fold-0/   what a network of that fold trains on and what is held out
    RUN/folds/k5/0001/fold-0/   that network of trial 1, a folder like a trial's; `best.pth` is its last epoch (ADR 024)

Networks train as Ray tasks with the resources of a trial. Imports ray; mlflow only where it records.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayError
from rich.console import Console

from search_spaces.trial_config import TrialConfig
from segdata.errors import TrialError
from segdata.statistics import ObjectStatistics, PixelStatistics
from segsweep.data_roles import SweepRoles, read_roles
from segsweep.ensembles.pool import Pool, pool_of
from segsweep.initial_weights import other_sweeps
from segsweep.launch_checks import refuse_other_data
from segsweep.prediction_source import Network
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources, cluster_nodes, this_machine, trial_resources
from segsweep.run_folder import RunFolder, take_lock
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep
from segsweep.tuning import trial_context
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.ray_trainable import TrialContext, train_alone
from trainables.trial_files import Outcome, TrialFiles
from trainables.weights_plan import initial_parts, place_parts

if TYPE_CHECKING:
    from segtrack.recorder import SweepRecorder

__all__ = ["FoldedTrial", "train_folds"]

Statistics = ObjectStatistics | PixelStatistics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldedTrial:
    """One configuration with a network a fold of the pool.

    Attributes:
        sweep: The sweep of the trial.
        record: The trial whose configuration it is.
        pool: The images and their folds.
    """

    sweep: Sweep
    record: TrialRecord
    pool: Pool

    @property
    def name(self) -> str:
        """The trial's four-digit name."""
        return f"{self.record.number:04d}"

    @property
    def folder(self) -> Path:
        """Where its networks lie, a folder each."""
        return self.pool.folder / self.name

    @property
    def trial(self) -> TrialConfig:
        """What its networks train."""
        return TrialConfig.from_dict(self.record.config)

    @property
    def files(self) -> tuple[TrialFiles, ...]:
        """The networks' folders, in the order of the folds."""
        return tuple(TrialFiles(self.folder / f"fold-{fold}") for fold in range(len(self.pool.split.folds)))

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks; on new images each has an equal part of the configuration's weight."""
        return tuple(
            Network(
                config=files.config,
                checkpoint=files.best,
                trial=f"{self.name}-{files.directory.name}",
                config_hash=self.trial.hash(),
                custom_imports=self.sweep.config.custom_imports,
                folder=self.sweep.folder,
            )
            for files in self.files
        )


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
    def title(self) -> str:
        return f"fold {self.fold} of trial {self.folded.name}"


def train_folds(
    sweep: Sweep, records: Sequence[TrialRecord], folds: int, console: Console, address: str | None = None
) -> tuple[FoldedTrial, ...]:
    """Trains what is missing of a network a fold for each of some trials' configurations; all have the same folds.

    Each trains all its planned epochs on train and val without its fold. One that was broken off goes on from its last
    epoch; one that is finished stays as it is.

    Args:
        sweep: A sweep that has begun.
        records: Trials of it.
        folds: How many.
        console: Says what is trained, and how each ended.
        address: Of a Ray cluster whose nodes see the sweep's folder; None = Ray is started here.

    Raises:
        InputError: The data is not the sweep's or can't be cut into folds, or what a network starts from is not here.
        TrialError: A network did not get to its end; says which and where its log is. The others are kept.
    """
    run = RunFolder(sweep.path)
    roles = read_roles(sweep)
    refuse_other_data(run.read_origin(), roles, run)
    with take_lock(run.folds / "lock"):
        pool = pool_of(sweep, roles, folds)
        folded = tuple(FoldedTrial(sweep, record, pool) for record in records)
        missing = [(one, fold) for one in folded for fold in range(folds) if not is_trained(one.files[fold])]
        if missing:
            train_missing(sweep, roles, pool, missing, console, address)
    return folded


def is_trained(files: TrialFiles) -> bool:
    """Tells whether a network got to the end of its plan and is still there."""
    outcome = files.read_outcome()
    return outcome is not None and outcome.kind == "completed" and files.best.is_file()


def train_missing(
    sweep: Sweep,
    roles: SweepRoles,
    pool: Pool,
    missing: Sequence[tuple[FoldedTrial, int]],
    console: Console,
    address: str | None,
) -> None:
    """Checks all that can be checked beforehand, then trains."""
    from segsweep.driver import open_recorder  # loads MLflow

    local = other_sweeps(sweep, RunFolder(sweep.path))
    data = describe_folds(pool, roles, {fold for _, fold in missing})
    for one in {one.name: one for one, _ in missing}.values():
        place_parts(initial_parts(one.trial.model, sweep.config.task, local), sweep.folder, sweep.weights)
    for one, fold in missing:
        build_config(one.trial, data[fold], seed=sweep.config.search.seed)
    recorder = open_recorder(sweep, RunFolder(sweep.path).read_origin(), {})
    with ray_session(address, console):
        nodes = this_machine() if address is None else cluster_nodes()
        resources = trial_resources(sweep.config.resources, sweep.config.budget.concurrent, nodes)
        tasks = [FoldTask(one, fold, context_of(sweep, data[fold], resources, local)) for one, fold in missing]
        failures = run_tasks(tasks, resources, recorder, console)
    if failures:
        task, reason = failures[0]
        more = f" ({len(failures)} of {len(tasks)} networks failed)" if len(failures) > 1 else ""
        raise TrialError.of(
            f"expected {task.title} to train to its end, but it ended: {reason}{more}",
            where=task.files.log,
            cure="What is trained is kept: the same command trains the rest.",
        )


def describe_folds(pool: Pool, roles: SweepRoles, folds: set[int]) -> dict[int, DataDescription]:
    """Writes the files of these folds, and returns what their networks are told.

    What a configuration fits to the data set (anchors, limits of objects) is fitted to the sweep's train role as in
    the search, so that all its networks keep to the same limits.
    """
    fitted, descriptions = roles.describe(pool.folder).statistics, {}
    for fold in sorted(folds):
        own, folder = pool.fold(fold), pool.folder / "data" / f"fold-{fold}"
        own.write(folder)
        described = own.describe(folder)
        descriptions[fold] = replace(described, statistics=with_counts(fitted, described.statistics))
    return descriptions


def with_counts(fitted: Statistics, own: Statistics) -> Statistics:
    """Returns statistics with the numbers of images of others, by which the length of an epoch is known."""
    if isinstance(fitted, ObjectStatistics) and isinstance(own, ObjectStatistics):
        return replace(fitted, images=own.images, annotated_images=own.annotated_images)
    return replace(fitted, images=own.images)


def context_of(
    sweep: Sweep, data: DataDescription, resources: TrialResources, local: Mapping[str, Path]
) -> TrialContext:
    """Returns how a fold trains: as the sweep's trials, to its end, without a second place for checkpoints."""
    return replace(
        trial_context(sweep, data, resources, None, local),
        keep_last=True,
        keep_epochs=0,
        on_tune=False,
        limits=(),
        costs=(),
        trial_timeout_s=None,
        store=None,
    )


def run_tasks(
    tasks: Sequence[FoldTask], resources: TrialResources, recorder: "SweepRecorder", console: Console
) -> list[tuple[FoldTask, str]]:
    """Trains as many at a time as the sweep's trials; returns those that failed, with reasons."""
    train = ray.remote(train_fold).options(
        num_cpus=resources.cpu, num_gpus=resources.gpu, max_retries=tasks[0].context.max_failures
    )
    waiting, failures = list(tasks), []
    running: dict[ray.ObjectRef[Outcome], FoldTask] = {}
    while waiting or running:
        while waiting and len(running) < resources.concurrent:
            task = waiting.pop(0)
            forget_predictions(task)
            console.print(f"training {task.title}", highlight=False)
            running[train.remote(task.folded.trial, task.context, task.files.directory)] = task
        (done,), _ = ray.wait(list(running))
        task = running.pop(done)
        if (reason := failure_of(done)) is None:
            task.files.drop_states()
            console.print(f"{task.title}: {told(task)}", highlight=False)
            record(task, recorder)
        else:
            console.print(f"{task.title} failed: {reason}", highlight=False, markup=False, soft_wrap=True)
            failures.append((task, reason))
    return failures


def train_fold(trial: TrialConfig, context: TrialContext, directory: Path) -> Outcome:
    """The Ray task: trains in a child of the worker's fork server."""
    return train_alone(trial, context, TrialFiles(directory))


def failure_of(done: "ray.ObjectRef[Outcome]") -> str | None:
    """Returns why a network is not trained, None if it is."""
    try:
        outcome: Outcome = ray.get(done)
    except RayError as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None if outcome.kind == "completed" else f"{outcome.kind}: {outcome.reason}"


def forget_predictions(task: FoldTask) -> None:
    """Removes what earlier networks of this configuration predicted."""
    for path in task.folded.folder.glob("out-of-fold*"):
        shutil.rmtree(path)


def told(task: FoldTask) -> str:
    """Says how well a network does on its fold."""
    row, metric = task.files.read_history()[-1], task.context.metric
    return f"{metric} {row.scores[metric]:.4f} on its fold after epoch {row.epoch}"


def record(task: FoldTask, recorder: "SweepRecorder") -> None:
    """Writes a network to MLflow; if that fails it is only said."""
    from segtrack.recorder import TrackingLostError

    files, source = task.files, task.folded.record
    epochs = {row.epoch: row.scores for row in files.read_history()}
    folds = len(task.folded.pool.split.folds)
    try:
        recorder.record_fold(source.number, task.fold, folds, dict(source.in_force), epochs, [files.config, files.log])
    except TrackingLostError as error:
        logger.warning("%s is missing in MLflow: %s", task.title, error)
