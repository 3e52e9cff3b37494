"""The Tune searcher over the study: it asks, reports and tells, and lets observers see what happens.

A stopped trial is told PRUNED with all its intermediate scores, a completed one its best epoch's score; a crash that
would come again and a broken limit are violated constraints, which the sampler learns from; only infrastructure
failures are FAIL.
The result that stops a trial reaches `on_trial_complete` alone, so it is reported there.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from optuna.trial import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from search_spaces.space import Space
from segsweep.objectives import Mode, Objective
from segsweep.search.budget import Budget, Spent, Standing
from segsweep.search.epochs import report_epoch, scores_of
from segsweep.search.journal import at_once
from segsweep.search.proposals import Proposals, discard_incomplete
from segsweep.search.schedulers import expect
from segsweep.search.study import Outcome, TrialRecord, frozen_trial, live_trial, trial_record, trial_records
from segsweep.search.verdict import judged, tell_end
from segsweep.wishes import Wishes
from trainables.limits import Limit
from trainables.trial_files import TrialFiles

__all__ = ["StudySearcher", "SweepObserver"]

STOPPING = "stopping"  # user attribute: the result with which the scheduler stopped the trial, its last one
# How a trial ended by its own account -> what the study calls it: the sampler learns from what would come again.
ENDED_BY_ITSELF: dict[str, Outcome] = {
    "crashed": "crashed",
    "out-of-memory": "crashed",
    "killed": "failed",
    "failed": "failed",
    "over-limit": "over-limit",
}


class SweepObserver(Protocol):
    """Sees a sweep as it goes; what it raises would end the sweep, so it handles its own troubles."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial was suggested, or taken up again."""

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """A trial reported; the same epoch may come twice after a restart."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial has its terminal state."""


@dataclass(slots=True)
class Running:
    """A trial that was handed to Tune: since when it has devices, what earlier launches took, how many devices."""

    since_s: float
    earlier_device_s: float
    devices: float
    placed: bool = False


class StudySearcher(Searcher):
    """Suggests unfinished trials first, then new ones until the study holds `budget.trials` of them or has had enough.

    Args:
        study: What there is so far, with its sampler.
        space: What is searched.
        metric: The searched score.
        mode: Its direction.
        budget: What may be spent over all launches.
        files_of: Returns a trial's files by its number.
        scheduler: Hears of each trial before Tune does.
        observers: See `SweepObserver`.
        deadline_unix_s: When this launch ends.
        grid: Whether all combinations are tried instead of what the sampler chooses.
        seed: Of the grid's order.
        wishes: Points that the user adds while the sweep runs.
        devices: GPUs of a trial, or its CPUs if it has no GPU.
        devices_by_model: The same of models whose trials have others.
        clock: Seconds that never run backwards.
        further: Objectives beside `metric`.
        limits: What each trial has to keep.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        *,
        metric: str,
        mode: Mode,
        budget: Budget,
        files_of: Callable[[int], TrialFiles],
        scheduler: TrialScheduler,
        observers: Sequence[SweepObserver] = (),
        deadline_unix_s: float | None = None,
        grid: bool = False,
        seed: int = 0,
        wishes: Wishes | None = None,
        devices: float = 1.0,
        devices_by_model: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        further: Sequence[Objective] = (),
        limits: Sequence[Limit] = (),
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        self.study, self.space, self.budget = study, space, budget
        self.files_of, self.scheduler, self.observers = files_of, scheduler, observers
        self.deadline_unix_s, self.devices, self.clock = deadline_unix_s, devices, clock
        self.devices_by_model = devices_by_model or {}
        self.further, self.limits = further, limits
        self.numbers: dict[str, int] = {}
        self.live: dict[int, Trial] = {}
        self.started: dict[int, Running] = {}
        discard_incomplete(study)
        records = trial_records(study)
        self.count = len(records)
        self.unfinished = deque(record for record in records if not record.ended)
        self.standing = Standing(mode, devices, records, further)
        self.proposals = Proposals(study, space, grid=grid, seed=seed, wishes=wishes)
        self._finish_stopped()

    @property
    def left(self) -> int:
        """How many trials are to be run, at most: unfinished ones, and new ones up to the budget."""
        if self.spent() is not None:
            return 0
        new, proposed = max(0, self.budget.trials - self.count), self.proposals.left
        return len(self.unfinished) + (new if proposed is None else min(new, proposed))

    def spent(self) -> Spent | None:
        """Returns what of the budget is used up, apart from the number of trials."""
        waiting = sum(record.device_s or 0.0 for record in self.unfinished)
        return self.standing.spent(self.budget, waiting + sum(self._device_s(number) for number in self.started))

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's `number` and `trial`, or FINISHED."""
        record = self._next()
        if record is None:
            return Searcher.FINISHED
        self.numbers[trial_id] = record.number
        self.started[record.number] = Running(self.clock(), record.device_s or 0.0, self.devices_of(record))
        for observer in self.observers:
            observer.trial_started(record)
        expect(self.scheduler, record, trial_id)
        return {"number": record.number, "trial": without_none(record.config)}

    def _next(self) -> TrialRecord | None:
        """Returns the next trial, None if there is none left or the time or the budget is over."""
        if self._is_over():
            return None
        if self.unfinished:
            return self.unfinished.popleft()
        if self.count >= self.budget.trials:
            return None
        trial = self.proposals.ask()
        if trial is None:
            return None
        self.count += 1
        self.live[trial.number] = trial
        return self._record(trial.number)

    def _is_over(self) -> bool:
        """Tells whether the time or the budget is over."""
        late = self.deadline_unix_s is not None and time.time() >= self.deadline_unix_s
        return late or self.spent() is not None

    def end_unfinished(self, reason: str) -> None:
        """Ends the trials that have not ended, because the sweep has; their scores stay."""
        for number in [*self.numbers.values(), *(record.number for record in self.unfinished)]:
            self._catch_up(number, max(self._record(number).scores, default=0))
            self._end(number, "stopped" if self._record(number).scores else "failed", reason)
        self.numbers.clear()
        self.unfinished.clear()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports one epoch to the study and the observers."""
        self._report(self.numbers[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the study how the trial ended."""
        number = self.numbers.pop(trial_id, None)
        if number is None:  # Tune calls again, with an error, after an exception of this method
            return
        if not error and self._is_stop(number, result or {}):
            last = {name: value for name, value in (result or {}).items() if name == "epoch" or is_score(name, value)}
            self._live(number).set_user_attr(STOPPING, last)
        self._finish(number, result or {}, error)

    def _is_stop(self, number: int, result: Mapping[str, Any]) -> bool:
        """Tells whether this is the result with which the scheduler stopped a trial, and new."""
        record = self._record(number)
        epoch = result.get("epoch", record.planned_epochs)
        return epoch < record.planned_epochs and self.files_of(number).read_outcome() is None

    def _finish(self, number: int, result: Mapping[str, Any], error: bool = False) -> None:
        last_epoch = self._catch_up(number, self._report(number, result))
        self._end(number, *self._outcome(number, last_epoch, error))

    def _finish_stopped(self) -> None:
        """Ends trials that a scheduler had stopped when the driver was killed before it had told the study all."""
        trials = self.study.get_trials(deepcopy=False)
        for record in [record for record in self.unfinished if STOPPING in trials[record.number].user_attrs]:
            self.unfinished.remove(record)
            for observer in self.observers:
                observer.trial_started(record)
            live = self._live(record.number)
            self._finish(record.number, trials[record.number].user_attrs[STOPPING])
            expect(self.scheduler, trial_record(self.study, live), f"study-{record.number}")

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a file that nothing of ours reads back; the study holds the state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed sweep opens its study."""

    def _end(self, number: int, outcome: Outcome, reason: str) -> None:
        """Writes down how a trial ended, and lets the observers know."""
        with at_once(self.study):
            self._tell(number, *judged(outcome, reason, self._record(number), self.further, self.limits))
        self.started.pop(number, None)
        record = self._record(number)
        del self.live[number]
        self.standing.add(record)
        for observer in self.observers:
            observer.trial_ended(record)

    def _device_s(self, number: int) -> float:
        """Returns what a trial took so far: the time that it runs, times its devices."""
        running = self.started[number]
        return running.earlier_device_s + (self.clock() - running.since_s) * running.devices

    def devices_of(self, record: TrialRecord) -> float:
        """Returns the GPUs of a trial, or its CPUs if it has no GPU."""
        return self.devices_by_model.get(record.config["model"]["name"], self.devices)

    def trial_placed(self, trial_id: str) -> None:
        """Counts a trial's device time from now on if it has come to a node for the first time; until now it waited."""
        running = self.started.get(self.numbers.get(trial_id, -1))
        if running is not None and not running.placed:
            running.since_s, running.placed = self.clock(), True

    def _live(self, number: int) -> Trial:
        """Returns a trial that has not ended; making one of a number has Optuna look through all trials."""
        if number not in self.live:
            self.live[number] = live_trial(self.study, number)
        return self.live[number]

    def _record(self, number: int) -> TrialRecord:
        return trial_record(self.study, self._live(number))

    def _report(self, number: int, result: Mapping[str, Any]) -> int:
        """Reports the epoch in `result`, if there is one and it is new; returns the last epoch."""
        trial = self._live(number)
        known = scores_of(frozen_trial(trial))
        epoch, score = result.get("epoch"), result.get(self.metric, math.nan)
        if epoch is None:
            return max(known, default=0)
        with at_once(self.study):
            self._report_loss(trial, epoch, result.get("train_loss", math.nan))
            if epoch not in known and not math.isnan(score):
                names = {one.name for one in self.further} | {one.name for one in self.limits}
                values = {name: result[name] for name in names if name in result}
                report_epoch(trial, epoch, score, values, several=bool(self.further))
                if self.budget.device_hours is not None and number in self.started:  # else its end is enough
                    trial.set_user_attr("device_s", self._device_s(number))
        scores = {name: value for name, value in result.items() if is_score(name, value)}
        for observer in self.observers:
            observer.epoch_ended(number, epoch, scores)
        return int(epoch)

    def _catch_up(self, number: int, last_epoch: int) -> int:
        """Reports the epochs after `last_epoch` that the trial wrote down before its end came, which kept Tune from
        hearing of them: a full disk, a kill. Returns the last one.
        """
        for row in self.files_of(number).read_history():
            if row.epoch > last_epoch:
                last_epoch = self._report(number, {**row.scores, "epoch": row.epoch})
        return last_epoch

    def _report_loss(self, trial: Trial, epoch: int, loss: float) -> None:
        """Notes the training loss of an epoch where that decides which epoch's weights are kept."""
        if trial.user_attrs["config"]["schedule"].get("best_by") != "loss":
            return
        losses = trial.user_attrs.get("losses", {})
        if str(epoch) not in losses:
            trial.set_user_attr("losses", losses | {str(epoch): float(loss)})

    def _outcome(self, number: int, last_epoch: int, error: bool) -> tuple[Outcome, str]:
        known = self.files_of(number).read_outcome()
        record = self._record(number)
        if error:
            return "failed", "its worker failed more often than max_failures allows; see error.txt in the folder tune/"
        if known is not None and known.kind in ENDED_BY_ITSELF:
            return ENDED_BY_ITSELF[known.kind], known.reason
        if last_epoch >= record.planned_epochs:
            if record.best_epoch is None:
                return "crashed", f"{self.metric} was NaN at every epoch"
            return "completed", ""
        if known is not None and known.kind == "out-of-time":
            return ("stopped" if record.scores else "failed"), known.reason
        if known is not None and known.kind in ("over-time", "asked-to-stop"):
            return "stopped", known.reason
        return "stopped", f"stopped by the scheduler after epoch {last_epoch} of {record.planned_epochs}"

    def _tell(self, number: int, outcome: Outcome, reason: str) -> None:
        trial, record = self._live(number), self._record(number)
        trial.set_user_attr("outcome", outcome)
        trial.set_user_attr("reason", reason)
        if number in self.started:
            trial.set_user_attr("device_s", self._device_s(number))
        known = self.files_of(number).read_outcome()
        values = dict(known.values) if known is not None and outcome == "over-limit" else {}
        tell_end(
            self.study,
            trial,
            record,
            outcome,
            further=self.further,
            limits=self.limits,
            values=values or record.values,
            over_time=known is not None and known.kind == "over-time",
        )


def without_none(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a trial's config as Tune gets it, which keeps half a dozen copies of each: `TrialConfig.from_dict` reads
    the same from it, as what is left out is None there by default.
    """
    groups = {name: group for name, group in config.items() if isinstance(group, Mapping)}
    short = {name: {key: value for key, value in group.items() if value is not None} for name, group in groups.items()}
    return {**config, **short}


def is_score(name: str, value: object) -> bool:
    """Tells our scores from what Tune adds to a result (times, ids, the config)."""
    return isinstance(value, float) and not name.startswith(("time_", "config/")) and name != "timestamp"
