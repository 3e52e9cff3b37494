"""Runs a sweep: study, searcher and scheduler into a Ray Tune `Tuner`, with observers that record and show it.

A launch and a resume are the same thing: whatever the study says is unfinished comes first, under its own number and
folder. Imports ray; the heavy packages stay in the trials' processes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ray import tune
from rich.console import Console

from segdata.errors import InputError
from segsweep.checkpoints import CheckpointKeeper
from segsweep.data_roles import SweepRoles, check_images, read_roles
from segsweep.leaderboard import rank
from segsweep.preflight import check_configs, longest_plan
from segsweep.progress import ProgressObserver
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources, node_resources, trial_resources
from segsweep.run_folder import RunFolder
from segsweep.search import (
    Study,
    StudySearcher,
    TrialRecord,
    build_scheduler,
    enqueue_baseline,
    open_study,
    trial_records,
)
from segsweep.search.schedulers import replay
from segsweep.sweep_file import Sweep
from segsweep.tracking import TrackingObserver
from segtrack.recorder import SweepRecorder
from trainables.description import DataDescription
from trainables.ray_trainable import TrialContext, train_trial

__all__ = ["SweepResult", "launch", "start", "study_of"]


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a launch leaves: all trials, and whether the budget is spent."""

    records: tuple[TrialRecord, ...]
    finished: bool


def start(sweep: Sweep, console: Console, address: str | None = None) -> SweepResult:
    """Starts a new sweep.

    Raises:
        InputError: Its name is taken, or something about it is wrong; nothing was written then.
    """
    folder = RunFolder(sweep.path)
    if folder.exists:
        finished = is_finished(sweep, trial_records(study_of(sweep)))
        raise InputError.of(
            f"expected a new name, but {sweep.config.name!r} is a sweep that has {'' if finished else 'not '}finished",
            where=folder.path,
            cure=f"Choose another name, or see it by `segsweep best {sweep.config.name}`"
            if finished
            else f"Go on with `segsweep resume {sweep.config.name}`, or choose another name.",
        )
    return launch(sweep, console, address)


def study_of(sweep: Sweep) -> Study:
    """Opens the sweep's study."""
    config = sweep.config
    return open_study(RunFolder(sweep.path).journal, config.mode, config.search.sampler, config.search.seed)


def is_finished(sweep: Sweep, records: tuple[TrialRecord, ...]) -> bool:
    """Tells whether all trials of the budget have ended."""
    return len(records) >= sweep.config.budget.trials and all(record.ended for record in records)


def launch(sweep: Sweep, console: Console, address: str | None = None) -> SweepResult:
    """Runs a sweep from wherever its study stands to the end of its budget."""
    folder = RunFolder(sweep.path)
    console.print(f"checking data and space of {sweep.config.name}", highlight=False)
    roles = read_roles(sweep)
    check_images(roles)
    description = roles.describe(folder.data)
    check_configs(sweep.space, description, sweep.folder)
    with ray_session(address, console):
        config = sweep.config
        resources = trial_resources(config.resources, config.budget.concurrent, node_resources())
        recorder = SweepRecorder(sweep.tracking_uri, sweep.project, config.name, sweep_tags(sweep, roles))
        recorder.start_sweep()
        with folder.locked():
            if not folder.exists:
                roles.write(folder.data)
                folder.create(sweep)
            return run_trials(sweep, description, recorder, resources, console)


def sweep_tags(sweep: Sweep, roles: SweepRoles) -> dict[str, str]:
    """Returns what the parent run says about the sweep as a whole."""
    tags = {
        "segsweep.version": version("segsweep"),
        "segsweep.task": sweep.config.task,
        "segsweep.metric": sweep.config.metric,
        "segsweep.seed": str(sweep.config.search.seed),
        "segsweep.fingerprint": roles.fingerprint,
    }
    return tags | {f"segsweep.fingerprint.{name}": role.fingerprint for name, role in roles.roles.items()}


def run_trials(
    sweep: Sweep, data: DataDescription, recorder: SweepRecorder, resources: TrialResources, console: Console
) -> SweepResult:
    """Runs what the study lacks, and records it."""
    config, folder = sweep.config, RunFolder(sweep.path)
    study = study_of(sweep)
    enqueue_baseline(study, sweep.space)
    before = trial_records(study)

    def records() -> tuple[TrialRecord, ...]:
        return trial_records(study)

    keeper = CheckpointKeeper(folder, config.storage.keep_checkpoints, lambda: rank(records(), config.mode))
    tracking = TrackingObserver(recorder, folder.trial, keeper.keeps)
    tracking.synchronize(before)
    ended = sum(record.ended for record in before)
    show_plan(sweep, folder, ended, resources, console)
    deadline_unix_s = None if config.budget.hours is None else time.time() + 3600 * config.budget.hours
    scheduler = scheduler_of(sweep, before)
    with ProgressObserver(console, config.metric, config.mode, config.budget.trials, ended) as progress:
        searcher = StudySearcher(
            study,
            sweep.space,
            metric=config.metric,
            mode=config.mode,
            budget=config.budget.trials,
            files_of=folder.trial,
            scheduler=scheduler,
            observers=[tracking, keeper, progress],
            deadline_unix_s=deadline_unix_s,
        )
        left = len(searcher.unfinished) + max(0, config.budget.trials - len(before))
        if left:
            fit(searcher, left, trial_context(sweep, data, resources, deadline_unix_s), resources, folder)
    tracking.synchronize([record for record in records() if record.number in tracking.missed])
    finished = is_finished(sweep, records())
    end_run(recorder, sweep, records, finished)
    return SweepResult(records(), finished)


def scheduler_of(sweep: Sweep, before: tuple[TrialRecord, ...]) -> tune.schedulers.TrialScheduler:
    """Returns the scheduler with the rungs that earlier launches filled."""
    config = sweep.config
    asha = config.search.scheduler.asha
    scheduler = build_scheduler(
        None if asha is None else (asha.grace_epochs, asha.reduction_factor),
        config.metric,
        config.mode,
        longest_plan(sweep.space),
    )
    for record in before:
        if record.ended:
            replay(scheduler, config.metric, record)
    return scheduler


def trial_context(
    sweep: Sweep, data: DataDescription, resources: TrialResources, deadline_unix_s: float | None
) -> TrialContext:
    """Returns what all trials of this launch share."""
    config = sweep.config
    minutes = config.trial_timeout_minutes
    return TrialContext(
        data=data,
        trials=RunFolder(sweep.path).trials,
        metric=config.metric,
        mode=config.mode,
        seed=config.search.seed,
        threads=resources.threads,
        loader_workers=resources.loader_workers,
        max_failures=config.max_failures,
        custom_imports=config.custom_imports,
        folder=sweep.folder,
        trial_timeout_s=None if minutes is None else 60 * minutes,
        deadline_unix_s=deadline_unix_s,
    )


def fit(
    searcher: StudySearcher, trials: int, context: TrialContext, resources: TrialResources, folder: RunFolder
) -> None:
    """Hands the launch to Tune and returns when no trial is left, or after Ctrl-C."""
    launch_folder = folder.next_launch()
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_trial, context=context), resources.request()),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=searcher.scheduler,
            num_samples=trials,
            max_concurrent_trials=resources.concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=launch_folder.name,
            storage_path=str(launch_folder.parent),
            failure_config=tune.FailureConfig(max_failures=context.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            verbose=0,
        ),
    )
    tuner.fit()


def show_plan(sweep: Sweep, folder: RunFolder, ended: int, resources: TrialResources, console: Console) -> None:
    """Prints what is about to run, and where."""
    each = f"{resources.cpu:g} CPU" + (f", {resources.gpu:g} GPU" if resources.gpu else "")
    console.print(
        f"{sweep.config.name}: {sweep.config.budget.trials} trials ({ended} have ended), "
        f"{resources.concurrent} at a time with {each} each",
        f"folder: {folder.path}",
        f"mlflow: {sweep.tracking_uri}",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )


def end_run(
    recorder: SweepRecorder, sweep: Sweep, records: Callable[[], tuple[TrialRecord, ...]], finished: bool
) -> None:
    """Closes the sweep's own MLflow run with its best score."""
    best = rank(records(), sweep.config.mode)[:1]
    summary = {f"best_{sweep.config.metric}": record.best_score for record in best}
    summary["trials"] = float(len(records()))
    artifacts: list[Path] = [RunFolder(sweep.path).sweep_file]
    recorder.end_sweep("FINISHED" if finished else "KILLED", summary, artifacts)
