"""The searcher of population-based training: all trials train up to the same epoch, exchange states, and go on.

To Tune each such leg is a trial of its own, which ends; to the study they are one trial, which only waits in between.
So trials that wait hold no place, and a trial goes on after an exchange as it does after a resume (ADR 017).
"""

import logging
import math
from collections import deque
from typing import Any

from ray.tune.search import Searcher

from segdata.errors import TrialSiteError
from segsweep.objectives import Mode
from segsweep.search.mutations import Mutation
from segsweep.search.population import exchanges, first_values
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import TrialRecord
from segsweep.search_config import PbtConfig

__all__ = ["PopulationSearcher"]

logger = logging.getLogger(__name__)


class PopulationSearcher(StudySearcher):
    """A `StudySearcher` whose trials are a population; takes the same arguments.

    Args:
        population: How often, how many and how much.
        mode: Direction of the score.
        seed: Of the exchanges.
    """

    def __init__(self, *arguments: Any, population: PbtConfig, mode: Mode, seed: int = 0, **others: Any) -> None:
        super().__init__(*arguments, mode=mode, seed=seed, **others)
        self.population, self.direction, self.seed = population, mode, seed
        self.plan_epochs = self.space.decode(self.space.baseline()).schedule.planned_epochs  # the same for all

    @property
    def left(self) -> int:
        """How many legs are to be run, at most: twice as many as there are, since one that was cut off comes again."""
        if self.spent() is not None:
            return 0
        new, proposed = max(0, self.budget.trials - self.count), self.proposals.left
        fresh = new if proposed is None else min(new, proposed)
        begun = sum(self._legs_after(record.stands_at) for record in self.unfinished)
        return 2 * (begun + fresh * self._legs_after(0))

    def suggest(self, trial_id: str) -> Any:
        """Returns the next leg, None while all wait for those that run, or FINISHED."""
        if self._is_over():
            return Searcher.FINISHED
        if self.numbers and not self._may_draw() and not self._ready():
            return None
        suggestion = super().suggest(trial_id)
        if suggestion == Searcher.FINISHED:
            return suggestion
        record = self._record(suggestion["number"])
        began = record.mutations[-1]
        boundary = self._boundary_after(record.stands_at)
        return suggestion | {
            "until": boundary if boundary < record.planned_epochs else None,
            "take_over": began.epoch if began.donor is not None and began.epoch == record.stands_at else None,
            "ran_s": (record.device_s or 0.0) / self.devices_of(record),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Lets a trial whose leg has ended wait for the others; tells the study how any other one ended."""
        number = self.numbers.get(trial_id)
        outcome = None if error or number is None else self.files_of(number).read_outcome()
        if number is None or outcome is None or outcome.kind != "paused":
            super().on_trial_complete(trial_id, result, error)
            return
        epoch, trial = self._report(number, result or {}), self._live(number)
        trial.set_user_attr("device_s", self._device_s(number))
        trial.set_user_attr("stands_at", epoch)
        del self.numbers[trial_id], self.started[number]
        self.unfinished.append(self._record(number))

    def _next(self) -> TrialRecord | None:
        """Returns the next trial of those that stand furthest back, with the values that it starts with written down.

        Trials that have not been drawn stand at epoch 0.
        """
        ready = self._ready()
        held = [record for record in self.unfinished if record not in ready]
        self.unfinished = deque(ready)
        record = super()._next()
        self.unfinished.extend(held)
        if record is not None and not record.mutations:
            self._live(record.number).set_user_attr("mutations", [first_values(record).to_dict()])
            record = self._record(record.number)
        return record

    def _ready(self) -> list[TrialRecord]:
        """Returns the waiting trials that may go on, after they have exchanged states if it is time for that."""
        lowest = self._lowest()
        standing = sorted(
            (record for record in self.unfinished if record.stands_at == lowest), key=lambda record: record.number
        )
        if any(record.exchanged_at < lowest for record in standing):
            self._exchange(standing, lowest)
            renewed = {record.number: self._record(record.number) for record in standing}
            self.unfinished = deque(renewed.get(record.number, record) for record in self.unfinished)
            standing = list(renewed.values())
        return standing

    def _lowest(self) -> int:
        """Returns the epoch at which those stand that are furthest back, running ones where their leg began."""
        if self._may_draw():
            return 0
        running = [self._record(number).stands_at for number in self.numbers.values()]
        return min([*running, *(record.stands_at for record in self.unfinished)], default=0)

    def _exchange(self, records: list[TrialRecord], epoch: int) -> None:
        """Hands the best trials' states to the worst, and writes down what changes.

        State first, then values, then that it was decided: whatever a kill leaves undone is decided again, in the same
        way, before any of them goes on.
        """
        found = exchanges(records, epoch, self.population, self.space, self.direction, self.seed)
        for record in records:
            trial = self._live(record.number)
            mutation = found.get(record.number)
            if mutation is not None and record.exchanged_at < epoch and self._hand(record.number, mutation):
                earlier = [known.to_dict() for known in record.mutations if known.epoch < epoch]
                trial.set_user_attr("mutations", [*earlier, mutation.to_dict()])
            trial.set_user_attr("exchanged_at", epoch)

    def _hand(self, number: int, mutation: Mutation) -> bool:
        """Puts the donor's state into a trial's folder; without it the trial goes on as it is."""
        assert mutation.donor is not None
        try:
            self.files_of(number).hand(self.files_of(mutation.donor), mutation.epoch)
        except TrialSiteError as error:
            logger.warning("trial %04d goes on from its own state: %s", number, error)
            return False
        return True

    def _may_draw(self) -> bool:
        return self.count < self.budget.trials and self.proposals.left != 0

    def _boundary_after(self, epoch: int) -> int:
        """Returns the epoch up to which a leg goes that begins after `epoch`."""
        interval = self.population.interval_epochs
        return (epoch // interval + 1) * interval

    def _legs_after(self, epoch: int) -> int:
        return math.ceil(self.plan_epochs / self.population.interval_epochs) - epoch // self.population.interval_epochs
