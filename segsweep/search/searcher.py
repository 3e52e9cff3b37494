"""The Tune searcher over the study: it asks, reports and tells, and lets observers see what happens.

A stopped trial is told PRUNED with all its intermediate scores, a completed one its best epoch's score; a crash that
would come again is a violated constraint, which the sampler learns from; only infrastructure failures are FAIL.
The result that stops a trial reaches `on_trial_complete` alone, so it is reported there.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from search_spaces.parameters import Choice, Float, Int
from search_spaces.space import Parameter, Space
from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError
from segsweep.search.schedulers import replay_as
from segsweep.search.study import Mode, Outcome, TrialRecord, live_trial, trial_record, trial_records
from trainables.trial_files import TrialFiles

__all__ = ["StudySearcher", "SweepObserver", "discard_incomplete", "enqueue_baseline"]

REJECTED_IN_A_ROW = 1000
# How a trial ended by its own account -> what the study calls it: the sampler learns from what would come again.
ENDED_BY_ITSELF: dict[str, Outcome] = {
    "crashed": "crashed",
    "out-of-memory": "crashed",
    "killed": "failed",
    "failed": "failed",
}


class SweepObserver(Protocol):
    """Sees a sweep as it goes; what it raises would end the sweep, so it handles its own troubles."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial was suggested, or taken up again."""

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """A trial reported; the same epoch may come twice after a restart."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial has its terminal state."""


class StudySearcher(Searcher):
    """Suggests unfinished trials first, then new ones until the study holds `budget` of them."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        *,
        metric: str,
        mode: Mode,
        budget: int,
        files_of: Callable[[int], TrialFiles],
        scheduler: TrialScheduler,
        observers: Sequence[SweepObserver] = (),
        deadline_unix_s: float | None = None,
    ) -> None:
        super().__init__(metric=metric, mode=mode)
        self.study, self.space, self.budget = study, space, budget
        self.files_of, self.scheduler, self.observers = files_of, scheduler, observers
        self.deadline_unix_s = deadline_unix_s
        self.numbers: dict[str, int] = {}
        discard_incomplete(study)
        self.unfinished = deque(record for record in trial_records(study) if not record.ended)

    @property
    def left(self) -> int:
        """How many trials are to be run: unfinished ones, and new ones up to the budget."""
        return len(self.unfinished) + max(0, self.budget - len(trial_records(self.study)))

    def suggest(self, trial_id: str) -> Any:
        """Returns the next trial's `number` and `trial`, or FINISHED."""
        if self.deadline_unix_s is not None and time.time() >= self.deadline_unix_s:
            return Searcher.FINISHED
        if self.unfinished:
            record = self.unfinished.popleft()
            replay_as(self.scheduler, self.metric, record, trial_id)
        elif len(trial_records(self.study)) >= self.budget:
            return Searcher.FINISHED
        else:
            record = self._record(ask(self.study, self.space).number)
        self.numbers[trial_id] = record.number
        for observer in self.observers:
            observer.trial_started(record)
        return {"number": record.number, "trial": dict(record.config)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Reports one epoch to the study and the observers."""
        self._report(self.numbers[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the study how the trial ended."""
        number = self.numbers.pop(trial_id, None)
        if number is None:  # Tune calls again, with an error, after an exception of this method
            return
        last_epoch = self._report(number, result or {})
        outcome, reason = self._outcome(number, last_epoch, error)
        self._tell(number, outcome, reason)
        for observer in self.observers:
            observer.trial_ended(self._record(number))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a file that nothing of ours reads back; the study holds the state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed sweep opens its study."""

    def _record(self, number: int) -> TrialRecord:
        return trial_record(self.study, number)

    def _report(self, number: int, result: Mapping[str, Any]) -> int:
        """Reports the epoch in `result`, if there is one and it is new; returns the last epoch."""
        trial = live_trial(self.study, number)
        known = self.study.get_trials(deepcopy=False)[number].intermediate_values
        epoch, score = result.get("epoch"), result.get(self.metric, math.nan)
        if epoch is None:
            return max(known, default=0)
        self._report_loss(trial, epoch, result.get("train_loss", math.nan))
        if epoch not in known and not math.isnan(score):
            trial.report(float(score), epoch)
        scores = {name: value for name, value in result.items() if is_score(name, value)}
        for observer in self.observers:
            observer.epoch_ended(number, epoch, scores)
        return int(epoch)

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
        return "stopped", f"stopped by the scheduler after epoch {last_epoch} of {record.planned_epochs}"

    def _tell(self, number: int, outcome: Outcome, reason: str) -> None:
        trial, record = live_trial(self.study, number), self._record(number)
        trial.set_user_attr("outcome", outcome)
        trial.set_user_attr("reason", reason)
        trial.set_constraint("crash", 1.0 if outcome == "crashed" else 0.0)
        if outcome == "completed":
            self.study.tell(trial, record.best_score)
        else:
            self.study.tell(trial, state=TrialState.FAIL if outcome == "failed" else TrialState.PRUNED)


def is_score(name: str, value: object) -> bool:
    """Tells our scores from what Tune adds to a result (times, ids, the config)."""
    return isinstance(value, float) and not name.startswith(("time_", "config/")) and name != "timestamp"


def ask(study: optuna.Study, space: Space) -> Trial:
    """Asks for a new trial and fixes its sample; combinations that the space forbids are told as violated constraints.

    Raises:
        SpaceError: A thousand suggestions in a row were forbidden.
    """
    for _ in range(REJECTED_IN_A_ROW):
        trial = study.ask()
        sample = draw(trial, space)
        if space.forbidden(sample) is None:
            trial.set_user_attr("sample", sample)
            trial.set_user_attr("config", space.decode(sample).to_dict())
            return trial
        trial.set_user_attr("outcome", "rejected")
        trial.set_constraint("crash", 1.0)
        study.tell(trial, state=TrialState.PRUNED)
    raise SpaceError(f"forbid: expected room for trials, but got {REJECTED_IN_A_ROW} forbidden ones. Forbid less")


def draw(trial: Trial, space: Space) -> dict[str, Scalar]:
    """Walks the active parameters, parents first."""
    sample: dict[str, Scalar] = {}
    for parameter in space.parameters:
        if space.active(parameter, sample | dict(space.fixed)):
            sample[parameter.knob] = suggest_value(trial, parameter)
    return sample


def suggest_value(trial: Trial, parameter: Parameter) -> Scalar:
    """Draws one parameter by its domain."""
    domain = parameter.domain
    if isinstance(domain, Float):
        return trial.suggest_float(parameter.id, domain.low, domain.high, log=domain.log, step=domain.step)
    if isinstance(domain, Int):
        return trial.suggest_int(parameter.id, domain.low, domain.high, log=domain.log, step=domain.step or 1)
    assert isinstance(domain, Choice)
    value = trial.suggest_categorical(parameter.id, list(domain.values))
    assert value is not None  # a choice holds scalars
    return value


def enqueue_baseline(study: optuna.Study, space: Space, fitted: Mapping[str, Scalar] | None = None) -> None:
    """Puts the untuned baseline first, unless the study has it already.

    Args:
        study: New, or that of a sweep which goes on.
        space: What is searched.
        fitted: Values of knobs that fit the data set, to stand in for the stock ones.
    """
    discard_incomplete(study)
    if any(is_baseline(trial) for trial in study.get_trials(deepcopy=False)):
        return
    sample = space.baseline(fitted)
    values = sample | dict(space.fixed)
    params = {p.id: sample[p.knob] for p in space.parameters if space.active(p, values)}
    study.enqueue_trial(params, user_attrs={"origin": "baseline"})


def is_baseline(trial: FrozenTrial) -> bool:
    """Tells the baseline, waiting or further on, from a try at it that a kill cut short."""
    return trial.user_attrs.get("origin") == "baseline" and trial.user_attrs.get("outcome") != "rejected"


def discard_incomplete(study: optuna.Study) -> None:
    """Ends trials that a killed driver had asked for but not yet written down whole; they never ran."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING and "config" not in trial.user_attrs:
            live = live_trial(study, trial.number)
            live.set_user_attr("outcome", "rejected")
            study.tell(live, state=TrialState.FAIL)
