"""The thin Ray Tune trainable: it forks the training process, passes its reports on, and ends it when told to.

The actor imports neither torch nor mm*; all that can crash or leak lives in the child. A crash is recorded, not
raised, so that Tune keeps the warm actor for the next trial.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

from ray import tune

from search_spaces.trial_config import TrialConfig
from segdata.errors import TrialSiteError
from segscore.own_metric import OwnMetric
from trainables.checkpoint_store import CheckpointStore
from trainables.crew import Crew, start_crew
from trainables.description import DataDescription
from trainables.fork_server import Ended, start_server
from trainables.kernel_kills import kernel_kills
from trainables.limits import Limit, broken_at_once
from trainables.node_images import on_this_node
from trainables.requests import TrialRequest
from trainables.trial_files import EpochScores, Outcome, TrialFiles

__all__ = ["Computing", "Site", "TrialContext", "train_alone", "train_trial", "trial_files"]

TRAIN = "trainables.trial:train"
POLL_S = 5.0
START_S = 900.0  # until the first batch at least: imports on a busy disk, another trial that parses the annotations
MOST_PARTS = 4  # of a batch, for want of memory
UNFIT_S = 30.0  # until a trial leaves an unfit node, whose places the driver takes meanwhile


class Site(Protocol):
    """Knows what a trial depends on where it trains."""

    def problem(self) -> str | None:
        """Says why no trial should train on this node; None if it is fit."""


@dataclass(frozen=True, slots=True)
class Computing:
    """What trials of a model compute with: threads and loader workers of each of so many training processes."""

    threads: int
    loader_workers: int
    processes: int


@dataclass(frozen=True, slots=True)
class TrialContext:
    """What all trials of one launch share; times are in seconds, `deadline_unix_s` since the epoch."""

    data: DataDescription
    trials: Path
    metric: str
    mode: Literal["max", "min"]
    seed: int
    threads: int
    loader_workers: int
    max_failures: int
    custom_imports: Sequence[str] = ()
    folder: Path | None = None  # the sweep file's: where relative paths and the user's modules lie
    weights: Path | None = None  # where published weights lie; None = torch's cache
    local: Mapping[str, Path] = field(default_factory=dict)  # what `init: sweep:NAME` stands for
    trial_timeout_s: float | None = None
    deadline_unix_s: float | None = None
    processes: int = 1  # of a trial, one for each of its GPUs
    stall_s: float = 1800.0  # without a batch; then the training process counts as stuck
    store: CheckpointStore | None = None  # where checkpoints are copied to
    own_metrics: Sequence[OwnMetric] = ()  # the user's, recorded beside the stock ones
    boundaries: bool = False  # whether an objective or a limit is a score of boundaries
    costs: Sequence[str] = ()  # that an objective or a limit names
    limits: Sequence[Limit] = ()
    keep_epochs: int = 0  # so many more whose weights a trial keeps
    keep_last: bool = False  # whether `best.pth` is to hold the last epoch, whatever the scores
    on_tune: bool = True  # whether Ray Tune hears of each epoch
    shared: DataDescription | None = None  # what `config.py` names in the place of `data`, which lies on this node only
    computing: Mapping[str, Computing] = field(default_factory=dict)  # by model, where it is not as above
    site: Site | None = None  # of a cluster, whose nodes may differ

    def for_trial(self, config: Mapping[str, Any]) -> "TrialContext":
        """Returns what a trial of this `TrialConfig` as a dict computes with, and all else as it is."""
        own = self.computing.get(config["model"]["name"])
        if own is None:
            return self
        return replace(self, threads=own.threads, loader_workers=own.loader_workers, processes=own.processes)


def trial_files(trials: Path, number: int) -> TrialFiles:
    """Returns the files of the trial with that number in the study."""
    return TrialFiles(trials / f"{number:04d}")


def train_trial(config: Mapping[str, Any], context: TrialContext) -> None:
    """The function trainable: `config` holds the trial's `number` and its `trial` (TrialConfig as a dict).

    A training process that is killed from outside is started again from its last checkpoint, `max_failures` times;
    one that runs out of memory, with each batch in twice as many parts, twice.

    In population-based training `config` may also hold `until` (the epoch after which the trial pauses), `take_over`
    (the epoch at which it was handed another trial's state to go on from) and `ran_s` (how long it has run before).

    Raises:
        TrialSiteError: The node is not fit; Tune starts the trial again, `max_failures` times.
    """
    context = context.for_trial(config["trial"])
    leave_unfit(context.site)
    start_server()
    files = trial_files(context.trials, config["number"])
    files.directory.mkdir(parents=True, exist_ok=True)
    files.outcome.unlink(missing_ok=True)
    try:
        take_up(files, context)
        if config.get("take_over") is not None:
            files.take_handed(config["take_over"])
    except TrialSiteError as error:
        files.write_outcome(Outcome("failed", str(error)))
    else:
        files.write_outcome(paused_or(run_to_outcome(config, context, files), config, files))


def leave_unfit(site: Site | None) -> None:
    """Raises TrialSiteError on a node that is not fit, before anything is written there."""
    problem = None if site is None else site.problem()
    if problem is not None:
        time.sleep(UNFIT_S)
        raise TrialSiteError(problem)


def train_alone(trial: TrialConfig, context: TrialContext, files: TrialFiles) -> Outcome:
    """Trains one configuration that no search hears of, from `last.pth` if there is one, and writes how it ended.

    `context.on_tune` must be false; its `trials` is not read.

    Raises:
        TrialSiteError: The node is not fit.
    """
    context = context.for_trial(trial.to_dict())
    leave_unfit(context.site)
    files.directory.mkdir(parents=True, exist_ok=True)
    files.outcome.unlink(missing_ok=True)
    outcome = run_to_outcome({"trial": trial.to_dict()}, context, files)
    files.write_outcome(outcome)
    return outcome


def paused_or(outcome: Outcome, config: Mapping[str, Any], files: TrialFiles) -> Outcome:
    """Returns `paused` if the trial got to the end of its leg and that is not the plan's; its state stays then."""
    if config.get("until") is None or outcome.kind != "completed":
        return outcome
    epoch = files.read_history()[-1].epoch
    if epoch >= TrialConfig.from_dict(config["trial"]).schedule.planned_epochs:
        return outcome
    files.keep_state(epoch)
    return Outcome("paused", f"waits after epoch {epoch}")


def take_up(files: TrialFiles, context: TrialContext) -> None:
    """Fetches what the trial goes on from, and reports its last epoch again if Tune has not heard of that: the driver
    may have died before. It ignores what it knows.

    A trial that was paused, or whose Ray worker died, goes on from its own `last.pth`.

    Raises:
        TrialSiteError: The state can't be had here.
    """
    if context.store is not None:
        context.store.pull(files)
    heard, handed = 0, tune.get_checkpoint()
    if handed is not None:
        with handed.as_directory() as folder:
            heard = TrialFiles.read_pointer(Path(folder))
    for row in files.read_history()[-1:]:
        if files.last.is_file() and row.epoch > heard:
            report(files, row)


def run_to_outcome(config: Mapping[str, Any], context: TrialContext, files: TrialFiles) -> Outcome:
    """Runs training processes, one after the other, until one ends for good."""
    try:
        files.reserve_outcome()
        for row in files.read_history():  # its driver may have died before it heard
            if (over := over_limit(context, row.scores, f"at epoch {row.epoch}")) is not None:
                return over
        context = at_this_node(context, files)
        deadline_s = first_deadline(context, config.get("ran_s", 0.0))  # the trial's own time begins here
        kills = 0
        while True:
            outcome = run_once(config, context, files, deadline_s)
            parts = files.read_parts()
            if outcome.kind == "out-of-memory" and parts < most_parts(config, context.processes):
                files.write_parts(2 * parts)
                files.note(f"{outcome.reason}; going on with each batch in {2 * parts} parts")
            elif outcome.kind == "killed" and kills < context.max_failures:
                kills += 1
                files.note(f"{outcome.reason}; starting again")
            else:
                return outcome
    except TrialOverError as over:
        return over.outcome
    except TrialSiteError as error:
        return Outcome("failed", str(error))
    except OSError as error:  # the folder can't be written, so nothing can be trained there
        return Outcome("failed", f"{files.directory}: expected a writable folder, but got: {error.strerror}")


def at_this_node(context: TrialContext, files: TrialFiles) -> TrialContext:
    """Returns the context with the data where this node reads it.

    Raises:
        TrialOverError: The sweep's time was up, or the user stopped the trial, while images were copied.
        TrialSiteError: An image can't be had.
    """

    def refuse_if_over() -> None:
        if (outcome := over_from_outside(context, files, context.deadline_unix_s)) is not None:
            raise TrialOverError(outcome)

    data = on_this_node(context.data, files.note, refuse_if_over)
    return context if data is context.data else replace(context, data=data, shared=context.data)


def most_parts(config: Mapping[str, Any], processes: int) -> int:
    """Returns the most parts in which a process takes its batch: a part has an image at least."""
    batch_size = TrialConfig.from_dict(config["trial"]).optimization.batch_size or MOST_PARTS
    return min(MOST_PARTS, max(1, batch_size // processes))


def first_deadline(context: TrialContext, ran_s: float = 0.0) -> float | None:
    """Returns the earlier of the trial's own deadline and the sweep's, in Unix seconds."""
    own = None if context.trial_timeout_s is None else time.time() + context.trial_timeout_s - ran_s
    return min((moment for moment in (own, context.deadline_unix_s) if moment is not None), default=None)


def run_once(config: Mapping[str, Any], context: TrialContext, files: TrialFiles, deadline_s: float | None) -> Outcome:
    """Runs the training processes once to their end; a stop by Tune (SystemExit out of `report`) ends it too."""
    with TemporaryDirectory(prefix="segsweep-") as meeting:
        return run_processes(
            requests_of(config, context, files, Path(meeting) / "rendezvous"), context, files, deadline_s
        )


def requests_of(
    config: Mapping[str, Any], context: TrialContext, files: TrialFiles, rendezvous: Path
) -> list[TrialRequest]:
    """Returns what each training process of the trial is asked to do."""
    first = TrialRequest(
        trial=TrialConfig.from_dict(config["trial"]),
        data=context.data,
        directory=files.directory,
        metric=context.metric,
        mode=context.mode,
        seed=context.seed,
        threads=context.threads,
        loader_workers=context.loader_workers,
        custom_imports=context.custom_imports,
        folder=context.folder,
        weights=context.weights,
        local=context.local,
        parts=files.read_parts(),
        processes=context.processes,
        rendezvous=rendezvous,
        own_metrics=context.own_metrics,
        boundaries=context.boundaries,
        costs=context.costs,
        until=config.get("until"),
        keep_epochs=context.keep_epochs,
        keep_last=context.keep_last,
        shared=context.shared,
    )
    return [replace(first, rank=rank) for rank in range(context.processes)]


def run_processes(
    requests: Sequence[TrialRequest], context: TrialContext, files: TrialFiles, deadline_s: float | None
) -> Outcome:
    """Starts the processes, follows them to their end, and leaves none behind."""
    kills = kernel_kills()
    crew = start_crew(TRAIN, requests, files.log)
    try:
        outcome = follow(crew, files, context, deadline_s)
    finally:
        crew.stop()
    if outcome.kind == "killed" and kernel_kills() > kills:
        return Outcome("out-of-memory", f"the kernel ended it for want of memory: {outcome.reason}")
    return outcome


def follow(crew: Crew, files: TrialFiles, context: TrialContext, deadline_s: float | None) -> Outcome:
    """Passes reports on until the crew ends, its time is up, or it makes no progress."""
    while True:
        if (over := over_from_outside(context, files, deadline_s)) is not None:
            return over
        left_s = None if deadline_s is None else max(0.0, deadline_s - time.time())
        patience_s = context.stall_s if crew.place else max(context.stall_s, START_S)
        if time.monotonic() - crew.heard_s > patience_s:
            crew.write_stacks()
            place = crew.place or "before the first batch"
            return Outcome("killed", f"no progress for {patience_s:g} s {place}; its stacks are in {crew.log}")
        message = crew.receive(POLL_S if left_s is None else min(POLL_S, left_s))
        if isinstance(message, Ended):
            return Outcome("completed" if message.kind == "done" else message.kind, message.reason)
        if message is not None:
            values = dict(message[1])
            if message[0] == "built":
                if (over := over_limit(context, values, "before the training")) is not None:
                    return over
                continue
            if context.store is not None:
                context.store.push(files, values["epoch"])
            row = EpochScores(values.pop("epoch"), values)
            if context.on_tune:
                report(files, row)
            if (over := over_limit(context, values, f"at epoch {row.epoch}")) is not None:
                return over
            crew.answer("go on")
            crew.heard()  # Tune may have thought about it for long


class TrialOverError(Exception):
    """The trial is over before its training began."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def over_from_outside(context: TrialContext, files: TrialFiles, deadline_s: float | None) -> Outcome | None:
    """Returns the end of a trial whose deadline has passed or that the user stopped; None if it goes on."""
    if deadline_s is not None and time.time() >= deadline_s:
        return time_is_up(context, deadline_s)
    return Outcome("asked-to-stop", "ended by `segsweep stop-trial`") if files.is_asked_to_stop() else None


def time_is_up(context: TrialContext, deadline_s: float | None) -> Outcome:
    """Returns the end of a trial whose deadline has passed: the sweep's, or its own, which says something about it."""
    if deadline_s == context.deadline_unix_s or context.trial_timeout_s is None:
        return Outcome("out-of-time", "the time of the sweep was up")
    return Outcome("over-time", f"took longer than {context.trial_timeout_s / 60:g} min (trial_timeout_minutes)")


def over_limit(context: TrialContext, values: Mapping[str, float], when: str) -> Outcome | None:
    """Returns the end of a trial that broke a limit for good; None if it goes on."""
    limit = broken_at_once(context.limits, values)
    if limit is None:
        return None
    limited = {known.name: values[known.name] for known in context.limits if known.name in values}
    return Outcome("over-limit", limit.reason(values, when), limited)


def report(files: TrialFiles, row: EpochScores) -> None:
    """Hands one epoch to Tune with a checkpoint; raises SystemExit when Tune decides to stop the trial."""
    checkpoint = tune.Checkpoint.from_directory(str(files.write_pointer(row.epoch)))
    tune.report({"epoch": row.epoch, **row.scores}, checkpoint=checkpoint)
