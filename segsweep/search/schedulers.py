"""Tune's schedulers by name, and rebuilding their rungs when a sweep is resumed.

Tune keeps rungs in memory only; replaying the study's intermediate scores through the public callbacks restores them.
"""

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from segsweep.search.study import Mode, TrialRecord

__all__ = ["build_scheduler", "replay", "replay_as"]


def build_scheduler(asha: tuple[int, float] | None, metric: str, mode: Mode, longest_epochs: int) -> TrialScheduler:
    """Returns ASHA on `epoch`, or first-in-first-out without stopping.

    Args:
        asha: Grace epochs and reduction factor, None for no stopping.
        metric: Name of the score.
        mode: Its direction.
        longest_epochs: The largest plan in the space; the last rung lies at or below it.
    """
    if asha is None:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    grace_epochs, reduction_factor = asha
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=metric,
        mode=mode,
        max_t=max(longest_epochs, grace_epochs + 1),
        grace_period=grace_epochs,
        reduction_factor=reduction_factor,
        stop_last_trials=False,  # a trial that reaches its planned end is complete, not stopped
    )


def replay(scheduler: TrialScheduler, metric: str, record: TrialRecord) -> None:
    """Puts the scores of a trial that has ended into the scheduler's rungs."""
    replay_as(scheduler, metric, record, f"study-{record.number}")


def replay_as(scheduler: TrialScheduler, metric: str, record: TrialRecord, tune_id: str) -> None:
    """Puts a trial's scores into the rungs under the id that Tune knows it by; decisions of the past are not redone."""
    if not isinstance(scheduler, AsyncHyperBandScheduler) or not record.scores:
        return
    trial: Any = SimpleNamespace(trial_id=tune_id)
    controller: Any = None  # ASHA asks neither of the two for more
    scheduler.on_trial_add(controller, trial)
    for epoch, score in sorted(record.scores.items()):
        scheduler.on_trial_result(controller, trial, {"epoch": epoch, metric: score})
