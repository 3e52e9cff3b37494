"""The thin Ray Tune trainable: it forks the training process, passes its reports on, and ends it when told to.

The actor imports neither torch nor mm*; all that can crash or leak lives in the child. A crash is recorded, not
raised, so that Tune keeps the warm actor for the next trial.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ray import tune

from search_spaces.trial_config import TrialConfig
from trainables.description import DataDescription
from trainables.fork_server import Child, Ended, start_child, start_server
from trainables.requests import TrialRequest
from trainables.trial_files import EpochScores, Outcome, TrialFiles

__all__ = ["TrialContext", "trial_files", "train_trial"]

TRAIN = "trainables.trial:train"
POLL_S = 5.0


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


def trial_files(trials: Path, number: int) -> TrialFiles:
    """Returns the files of the trial with that number in the study."""
    return TrialFiles(trials / f"{number:04d}")


def train_trial(config: Mapping[str, Any], context: TrialContext) -> None:
    """The function trainable: `config` holds the trial's `number` and its `trial` (TrialConfig as a dict).

    A training process that is killed from outside is started again from its last checkpoint, `max_failures` times.
    """
    start_server()
    files = trial_files(context.trials, config["number"])
    files.directory.mkdir(parents=True, exist_ok=True)
    files.outcome.unlink(missing_ok=True)
    report_known_epochs(files)
    deadline_s = first_deadline(context)
    for attempt in range(context.max_failures + 1):
        outcome = run_once(config, context, files, deadline_s)
        if outcome.kind != "killed" or attempt == context.max_failures:
            break
    files.write_outcome(outcome)


def report_known_epochs(files: TrialFiles) -> None:
    """Reports the last epoch again: the driver may have died before it heard of it. It ignores what it knows."""
    if files.last.is_file():
        for row in files.read_history()[-1:]:
            report(files, row)


def first_deadline(context: TrialContext) -> float | None:
    """Returns the earlier of the trial's own deadline and the sweep's, in Unix seconds."""
    own = None if context.trial_timeout_s is None else time.time() + context.trial_timeout_s
    return min((moment for moment in (own, context.deadline_unix_s) if moment is not None), default=None)


def run_once(config: Mapping[str, Any], context: TrialContext, files: TrialFiles, deadline_s: float | None) -> Outcome:
    """Runs one training process to its end; a stop by Tune (SystemExit out of `report`) ends it too."""
    request = TrialRequest(
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
    )
    child = start_child(TRAIN, request, files.log)
    try:
        return follow(child, files, deadline_s)
    finally:
        child.stop()


def follow(child: Child, files: TrialFiles, deadline_s: float | None) -> Outcome:
    """Passes reports on until the child ends or time is up."""
    while True:
        left_s = None if deadline_s is None else deadline_s - time.time()
        if left_s is not None and left_s <= 0:
            return Outcome("out-of-time", "the time for this trial was up")
        message = child.receive(POLL_S if left_s is None else min(POLL_S, left_s))
        if isinstance(message, Ended):
            return Outcome("completed" if message.kind == "done" else message.kind, message.reason)
        if message is not None:
            values = dict(message[1])
            report(files, EpochScores(values.pop("epoch"), values))
            child.answer("go on")


def report(files: TrialFiles, row: EpochScores) -> None:
    """Hands one epoch to Tune with a checkpoint; raises SystemExit when Tune decides to stop the trial."""
    checkpoint = tune.Checkpoint.from_directory(str(files.write_pointer(row.epoch)))
    tune.report({"epoch": row.epoch, **row.scores}, checkpoint=checkpoint)
