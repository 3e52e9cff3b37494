"""Handing a launch to Ray Tune: the trainable's context, the scheduler with its rungs, the `Tuner`. Imports ray."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray import tune
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from segdata.errors import SegsweepError
from segsweep.preflight import longest_plan
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder
from segsweep.search.schedulers import build_scheduler, replay
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import TrialRecord
from segsweep.sweep_file import Sweep
from trainables.description import DataDescription
from trainables.ray_trainable import TrialContext, train_trial

__all__ = ["fit", "scheduler_of", "trial_context"]


def scheduler_of(sweep: Sweep, before: tuple[TrialRecord, ...]) -> TrialScheduler:
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


def fit(searcher: StudySearcher, context: TrialContext, resources: TrialResources, folder: RunFolder) -> None:
    """Runs what is left of the searcher's budget; returns when no trial is left, or after Ctrl-C.

    Raises:
        SegsweepError: The searcher could not go on.
    """
    launch_folder = folder.next_launch()
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_trial, context=context), resources.request()),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=searcher.scheduler,
            num_samples=searcher.left,
            max_concurrent_trials=resources.concurrent,
            reuse_actors=True,
            trial_dirname_creator=trial_directory,
        ),
        run_config=tune.RunConfig(
            name=launch_folder.name,
            storage_path=str(launch_folder.parent),
            failure_config=tune.FailureConfig(max_failures=context.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            verbose=0,
        ),
    )
    with sigint_given_back():
        try:
            tuner.fit()
        except TuneError as error:
            ours = our_error_in(error)
            if ours is None:
                raise
            raise ours from error


def trial_directory(trial: Trial) -> str:
    """Names Tune's folder of a trial by the trial's number."""
    return f"{trial.config['number']:04d}-{trial.trial_id}"


@contextmanager
def sigint_given_back() -> Iterator[None]:
    """Tune keeps its handler of Ctrl-C after a sweep that was not interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def our_error_in(error: BaseException) -> SegsweepError | None:
    """Returns the error of ours that Tune wrapped in its own, if there is one."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, SegsweepError):
            return link
        link = link.__cause__ or link.__context__
    return None
