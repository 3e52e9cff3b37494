"""Asking the study for new trials: what waits in its queue first, then the sampler's or the grid's next one."""

from collections import deque
from collections.abc import Mapping
from functools import partial

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from search_spaces.parameters import Choice, Float, Int
from search_spaces.space import Parameter, Space
from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError
from segsweep.search.grid import combinations, identity
from segsweep.search.journal import at_once
from segsweep.search.samplers import was_discarded
from segsweep.search.study import live_trial, trial_records
from segsweep.wishes import Wish, Wishes

__all__ = ["Proposals", "discard_incomplete", "enqueue_baseline", "enqueue_wish", "params_of"]

REJECTED_IN_A_ROW = 1000


class Proposals:
    """New trials of a space, one by one.

    Args:
        study: Whose sampler chooses, or
        space: What there is to choose from.
        grid: Whether all combinations are tried instead, each once; those that the study has are left out.
        seed: Of the grid's order.
        wishes: Points that the user adds while the sweep runs.
    """

    def __init__(
        self, study: optuna.Study, space: Space, *, grid: bool = False, seed: int = 0, wishes: Wishes | None = None
    ) -> None:
        self.study, self.space, self.wishes = study, space, wishes
        self.tried = {identity(space, record.sample) for record in trial_records(study)} if grid else set()
        self.cells = deque(combinations(space, seed)) if grid else None
        self.discarded = sum(map(was_discarded, study.get_trials(deepcopy=False)))

    @property
    def left(self) -> int | None:
        """How many there still are, at most; None = as many as one likes."""
        if self.cells is None:
            return None
        untried = sum(identity(self.space, cell) not in self.tried for cell in self.cells)
        return untried + len(waiting_trials(self.study))

    def ask(self) -> Trial | None:
        """Returns a new trial with its `sample` and `config`, None where the grid has no more.

        Combinations that the space forbids are told as violated constraints.

        Raises:
            SpaceError: A thousand suggestions in a row were forbidden.
        """
        self._enqueue_wishes()
        for _ in range(REJECTED_IN_A_ROW):
            if not self._enqueue_cell():
                return None
            with at_once(self.study):
                trial = self._ask_whole()
            if trial is not None:
                return trial
        raise SpaceError(f"forbid: expected room for trials, but got {REJECTED_IN_A_ROW} forbidden ones. Forbid less")

    def _ask_whole(self) -> Trial | None:
        """Returns a new trial with all that belongs to it; None for a combination that the space forbids."""
        trial = self.study.ask()
        sample = self.space.draw(partial(suggest_value, trial))
        if self.cells is not None:
            self.tried.add(identity(self.space, sample))
        if self.space.forbidden(sample) is None:
            trial.set_user_attr("place", trial.number - self.discarded)
            trial.set_user_attr("sample", sample)
            trial.set_user_attr("config", self.space.decode(sample).to_dict())
            return trial
        trial.set_user_attr("outcome", "rejected")
        trial.set_constraint("crash", 1.0)
        self.study.tell(trial, state=TrialState.PRUNED)
        return None

    def _enqueue_wishes(self) -> None:
        """Puts what the user wants into the study's queue; a kill in between leaves a wish that the study knows."""
        if self.wishes is None:
            return
        for wish in self.wishes.waiting():
            enqueue_wish(self.study, wish, "user")
            self.wishes.fulfil(wish)

    def _enqueue_cell(self) -> bool:
        """Puts the grid's next combination into the study's queue if that is empty; False if there is none."""
        if self.cells is None or waiting_trials(self.study):
            return True
        while self.cells:
            cell = self.cells.popleft()
            if identity(self.space, cell) not in self.tried:
                self.study.enqueue_trial(params_of(self.space, cell))
                return True
        return False


def waiting_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials in the study's queue."""
    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def params_of(space: Space, sample: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Returns a sample by the ids of its parameters."""
    values = {**space.fixed, **sample}
    return {p.id: sample[p.knob] for p in space.parameters if space.active(p, values)}


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
    study.enqueue_trial(params_of(space, space.baseline(fitted)), user_attrs={"origin": "baseline"})


def enqueue_wish(study: optuna.Study, wish: Wish, origin: str) -> None:
    """Puts a point into the study's queue, unless the study has it already."""
    known = (trial for trial in study.get_trials(deepcopy=False) if not was_discarded(trial))
    if not any(trial.user_attrs.get("wish") == wish.id for trial in known):
        study.enqueue_trial(dict(wish.parameters), user_attrs={"origin": origin, "wish": wish.id})


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
