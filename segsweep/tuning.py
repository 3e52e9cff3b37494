"""Handing a launch to Ray Tune: the trainable's context, the scheduler with its rungs, the `Tuner`. Imports ray."""

import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ray import tune
from ray.tune import Callback
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import TrialScheduler
from ray.tune.stopper import Stopper

from segdata.errors import SegsweepError
from segscore.metrics import names_boundaries
from segsweep.checkpoints import store_of
from segsweep.ended_trials import EndedTrials
from segsweep.preflight import longest_plan
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder
from segsweep.search.schedulers import build_scheduler, expect
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import TrialRecord
from segsweep.sweep_file import Sweep
from trainables.description import DataDescription
from trainables.limits import COSTS
from trainables.ray_trainable import Computing, Site, TrialContext, train_trial

__all__ = ["fit", "scheduler_of", "trial_context"]

logger = logging.getLogger(__name__)


class SilentTune(TrialProgressCallback):
    """Takes the place of Tune's own printing, which at verbosity 0 still puts a line for a trial without a result
    on standard output, where `--json` writes; `segsweep.progress` shows how trials end.
    """

    def on_trial_result(self, *args: object, **info: object) -> None:
        """Prints nothing."""

    def on_trial_error(self, *args: object, **info: object) -> None:
        """Prints nothing."""

    def on_trial_complete(self, *args: object, **info: object) -> None:
        """Prints nothing."""


class BudgetStopper(Stopper):
    """Ends all trials at once when the searcher says that the budget is used up; Tune asks ten times a second."""

    def __init__(self, searcher: StudySearcher) -> None:
        self.searcher: StudySearcher | None = searcher

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Ends no trial alone."""
        return False

    def stop_all(self) -> bool:
        """Tells whether it is over."""
        return self.searcher is not None and self.searcher.spent() is not None

    def __getstate__(self) -> dict[str, object]:
        """Tune pickles it into a file that nothing of ours reads back."""
        return {"searcher": None}


def scheduler_of(sweep: Sweep, before: tuple[TrialRecord, ...]) -> TrialScheduler:
    """Returns the scheduler with the rungs that earlier launches filled."""
    config = sweep.config
    plan = longest_plan(sweep.space)
    scheduler = build_scheduler(config.search.scheduler, config.metric, config.mode, plan, config.limits)
    for record in before:
        expect(scheduler, record, f"study-{record.number}")
    return scheduler


def trial_context(
    sweep: Sweep,
    data: DataDescription,
    resources: TrialResources,
    deadline_unix_s: float | None,
    local: Mapping[str, Path] | None = None,
    site: Site | None = None,
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
        weights=sweep.weights,
        local=local or {},
        trial_timeout_s=None if minutes is None else 60 * minutes,
        deadline_unix_s=deadline_unix_s,
        processes=resources.processes,
        stall_s=60 * config.stall_minutes,
        store=store_of(config, RunFolder(sweep.path).read_origin()),
        own_metrics=sweep.own_metrics,
        boundaries=names_boundaries(config.named_metrics),
        costs=tuple(sorted({*config.further_metrics, *(limit.name for limit in config.limits)} & set(COSTS))),
        limits=config.limits,
        keep_epochs=config.storage.keep_epochs,
        computing={
            model: Computing(own.threads, own.loader_workers, own.processes) for model, own in resources.models.items()
        },
        site=site,
    )


def fit(
    searcher: StudySearcher,
    context: TrialContext,
    resources: TrialResources,
    folder: RunFolder,
    *,
    last_attempt: bool = True,
    callbacks: Sequence[Callback] = (),
) -> bool:
    """Runs what is left of the searcher's budget; returns when no trial is left, or after Ctrl-C.

    Tune itself may fall over, for example when Ray ends several workers at once for want of memory. The study knows
    where things stand, so another attempt goes on from there.

    Returns:
        False if Tune fell over and this was not the last attempt.

    Raises:
        SegsweepError: The searcher could not go on, or Tune fell over for the last time.
    """
    launch_folder = folder.next_launch()
    tuner = tuner_of(searcher, context, resources, launch_folder, callbacks)
    with sigint_given_back():
        try:
            tuner.fit()
            return True
        except TuneError as error:
            ours = our_error_in(error)
            if ours is not None:
                raise ours from error
            problem = f"Ray Tune fell over: {(str(error).strip() or repr(error)).splitlines()[-1]}"
            if last_attempt:
                raise SegsweepError.of(
                    f"expected a sweep to its end, but {problem}",
                    where=launch_folder,
                    cure=f"Go on with `segsweep resume {folder.path}`.",
                ) from error
            logger.warning("%s; going on from the study", problem)
            return False


def tuner_of(
    searcher: StudySearcher,
    context: TrialContext,
    resources: TrialResources,
    launch_folder: Path,
    callbacks: Sequence[Callback] = (),
) -> tune.Tuner:
    """Returns the Tuner of one launch; its own state in `launch_folder` is read by nobody.

    All checkpoints of a running trial stay: `num_to_keep` would have Tune write the state of all trials at each epoch
    of each of them (ADR 031). They are pointers of some bytes, and go when the trial ends.
    """
    asked = resources.placement if resources.models else resources.request()
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(train_trial, context=context), asked),
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
            stop=BudgetStopper(searcher),
            verbose=0,
            callbacks=[SilentTune(), EndedTrials(), *callbacks],
        ),
    )


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
