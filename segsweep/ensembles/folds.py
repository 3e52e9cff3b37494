"""Cross-validation of configurations that a search has found: a network a fold, each trained once and kept.

    RUN/folds/k5/data/fold-0/   what a network of that fold trains on and what is held out
    RUN/folds/k5/0001/fold-0/   that network of trial 1, a folder like a trial's; `best.pth` is its last epoch (ADR 024)

Networks train as Ray tasks with the resources of a trial. Imports ray.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from search_spaces.models import is_checkpoint_file, is_sweep_reference
from segdata.errors import TrialError
from segdata.statistics import ObjectStatistics, PixelStatistics
from segsweep.clusters.fleet import checked_fleet
from segsweep.clusters.node_facts import gpu_memory_in_reach
from segsweep.clusters.site import NodeSite
from segsweep.data_roles import SweepRoles, read_roles
from segsweep.ensembles.fold_tasks import FoldTask, record, run_tasks
from segsweep.ensembles.folded_trial import FoldedTrial
from segsweep.ensembles.pool import Pool, pool_of
from segsweep.image_sums import with_sums
from segsweep.initial_weights import other_sweeps
from segsweep.launch_checks import refuse_other_data
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources, cluster_nodes, this_machine, trial_resources
from segsweep.run_folder import RunFolder, take_lock
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep
from segsweep.tuning import trial_context
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.ray_trainable import TrialContext
from trainables.trial_files import TrialFiles
from trainables.weights_plan import initial_parts, place_parts

__all__ = ["train_folds"]

Statistics = ObjectStatistics | PixelStatistics


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
    with locked(run.folds):
        pool = pool_of(sweep, roles, folds)
        folded = tuple(FoldedTrial(sweep, record, pool) for record in records)
        networks = [(one, fold) for one in folded for fold in range(folds)]
        trained = [(one, fold) for one, fold in networks if is_trained(one.files[fold])]
        missing = [network for network in networks if network not in trained]
        if missing:
            train_missing(sweep, roles, pool, missing, console, address)
        record_earlier(sweep, trained)
    return folded


def record_earlier(sweep: Sweep, trained: Sequence[tuple[FoldedTrial, int]]) -> None:
    """Writes to MLflow what it has missed of networks that earlier commands trained."""
    from segsweep.driver import open_recorder  # loads MLflow

    if trained:
        record(trained, lambda: open_recorder(sweep, RunFolder(sweep.path).read_origin(), {}))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder of all folds for one command; one that came to nothing goes again.

    Raises:
        InputError: Another command holds it.
    """
    with take_lock(folder / "lock"):
        try:
            yield
        finally:
            if all(path.name == "lock" for path in folder.iterdir()):
                shutil.rmtree(folder)


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
    from segsweep.driver import open_recorder, stopped_by_sigterm  # loads MLflow

    say_what_may_have_seen(missing, console)
    local = other_sweeps(sweep, RunFolder(sweep.path))
    data = describe_folds(sweep, pool, roles, {fold for _, fold in missing}, console)
    for one in {one.name: one for one, _ in missing}.values():
        place_parts(initial_parts(one.trial.model, sweep.config.task, local), sweep.folder, sweep.weights)
    for one, fold in missing:
        build_config(one.trial, data[fold], seed=sweep.config.search.seed)
    recorder = open_recorder(sweep, RunFolder(sweep.path).read_origin(), {})
    with stopped_by_sigterm(), ray_session(address, console), ExitStack() as stack:
        fleet = None if address is None else checked_fleet(sweep, roles, local, console)
        nodes = this_machine() if address is None else cluster_nodes()
        gpus_gb = gpu_memory_in_reach() if fleet is None else fleet.checked.gpus_gb
        resources = trial_resources(sweep.config.resources, sweep.config.budget.concurrent, nodes, gpus_gb)
        if fleet is not None:
            stack.enter_context(fleet.late_nodes(resources, console))
        site = None if fleet is None else fleet.site(RunFolder(sweep.path).origin)
        contexts = {fold: context_of(sweep, one, resources, local, site) for fold, one in data.items()}
        tasks = [FoldTask(one, fold, contexts[fold]) for one, fold in missing]
        failures = run_tasks(tasks, resources, recorder, console)
    if failures:
        task, outcome = failures[0]
        more = f" ({len(failures)} of {len(tasks)} networks failed)" if len(failures) > 1 else ""
        raise TrialError.of(
            f"expected {task.title} to train to its end, but it ended: {outcome.kind}: {outcome.reason}{more}",
            where=task.files.log,
            cure="What is trained is kept: the same command trains the rest.",
        )


def say_what_may_have_seen(missing: Sequence[tuple[FoldedTrial, int]], console: Console) -> None:
    """Says where networks start from weights that may have been trained on the images that are held out."""
    inits = {one.trial.model.init for one, _ in missing}
    for init in sorted(init for init in inits if is_sweep_reference(init) or is_checkpoint_file(init)):
        text = f"init {init}: if it was trained on these images, out-of-fold scores are optimistic"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def describe_folds(
    sweep: Sweep, pool: Pool, roles: SweepRoles, folds: set[int], console: Console
) -> dict[int, DataDescription]:
    """Writes the files of these folds, and returns what their networks are told.

    The images of all folds are the same, and so are a node's copies of them.

    What a configuration fits to the data set (anchors, limits of objects) is fitted to the sweep's train role as in
    the search, so that all its networks keep to the same limits.
    """
    fitted, descriptions = roles.describe(pool.folder).statistics, {}
    for fold in sorted(folds):
        own, folder = pool.fold(fold), pool.folder / "data" / f"fold-{fold}"
        own.write(folder)
        described = with_sums(sweep, own, own.describe(folder), pool.folder / "data", console)
        descriptions[fold] = replace(described, statistics=with_counts(fitted, described.statistics))
    return descriptions


def with_counts(fitted: Statistics, own: Statistics) -> Statistics:
    """Returns statistics with the numbers of images of others, by which the length of an epoch is known."""
    if isinstance(fitted, ObjectStatistics) and isinstance(own, ObjectStatistics):
        return replace(fitted, images=own.images, annotated_images=own.annotated_images)
    return replace(fitted, images=own.images)


def context_of(
    sweep: Sweep,
    data: DataDescription,
    resources: TrialResources,
    local: Mapping[str, Path],
    site: NodeSite | None = None,
) -> TrialContext:
    """Returns how a fold trains: as the sweep's trials, to its end, without a second place for checkpoints."""
    return replace(
        trial_context(sweep, data, resources, None, local, site),
        keep_last=True,
        keep_epochs=0,
        on_tune=False,
        limits=(),
        costs=(),
        trial_timeout_s=None,
        store=None,
    )
