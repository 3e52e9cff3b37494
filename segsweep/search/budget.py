"""When a sweep has had enough, beside its number of trials: no better score for long, or its share of the machines.

Both are counted over all launches, from what the study says of the trials that have ended.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from segsweep.objectives import Mode, Objective, matches_or_beats
from segsweep.search.study import TrialRecord

__all__ = ["Budget", "End", "Spent", "Standing", "point_of"]

End = Literal["finished", "out-of-time", "out-of-patience", "out-of-device-hours", "interrupted"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a sweep may spend.

    Attributes:
        trials: How many trials.
        patience: How many trials may end one after the other without a better best score; with several objectives,
            without one that no earlier trial matches or beats.
        device_hours: Running time of all trials times the GPUs of each, or the CPUs of trials without one.
    """

    trials: int
    patience: int | None = None
    device_hours: float | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What of a budget is used up: the kind of end, and the reason in words."""

    end: End
    reason: str


def point_of(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Returns a trial's objectives, signed so that more is better; None if one is missing or a limit is broken."""
    if record.best_epoch is None or record.broken or record.outcome == "over-limit":
        return None
    values = record.values
    if not all(objective.name in values for objective in objectives[1:]):
        return None
    found = (record.best_score, *(values[objective.name] for objective in objectives[1:]))
    return tuple(objective.signed(value) for objective, value in zip(objectives, found, strict=True))


class Standing:
    """Where a sweep stands: its best score, how long ago that was, and what its ended trials took.

    Args:
        mode: Direction of the score.
        devices: Of a trial whose own account is missing.
        records: Trials; those that have not ended are left out.
        further: Objectives beside the score.
    """

    def __init__(
        self, mode: Mode, devices: float, records: Iterable[TrialRecord] = (), further: Sequence[Objective] = ()
    ) -> None:
        self.objectives = (Objective("", mode), *further)
        self.devices = devices
        self.best: list[tuple[float, ...]] = []  # points that none before them matched or beat; more is better
        self.since_better = 0
        self.device_s = 0.0
        for record in sorted(records, key=lambda record: (record.ended_unix_s or 0.0, record.number)):
            if record.ended:
                self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Counts a trial that has just ended; one that the machines failed says nothing about the search."""
        self.device_s += (record.duration_s or 0.0) * self.devices if record.device_s is None else record.device_s
        point = point_of(record, self.objectives)
        if point is not None and not any(matches_or_beats(past, point) for past in self.best):
            self.best = [past for past in self.best if not matches_or_beats(point, past)] + [point]
            self.since_better = 0
        elif record.outcome != "failed":
            self.since_better += 1

    def spent(self, budget: Budget, running_device_s: float = 0.0) -> Spent | None:
        """Returns what is used up, if anything is.

        Args:
            budget: What there was.
            running_device_s: What the trials that have not ended took so far.
        """
        if budget.patience is not None and self.since_better >= budget.patience:
            better = "a better score" if len(self.objectives) == 1 else "one that no earlier trial matches or beats"
            return Spent("out-of-patience", f"{self.since_better} trials ended without {better} (patience)")
        hours = (self.device_s + running_device_s) / 3600
        if budget.device_hours is not None and hours >= budget.device_hours:
            return Spent("out-of-device-hours", f"the trials took {hours:.3g} of {budget.device_hours:g} device hours")
        return None
