"""The study: one append-only journal beside the trials, which alone decides what a sweep has done (ADR 003).

User attributes of a study trial: `sample` (knob -> scalar), `config` (TrialConfig as a dict), `origin`, `place`,
`device_s`, `losses`, `epoch:N` (what else the sweep weighs or limits, see `epochs`), `stopping` (the result that it was
stopped with), and once it has ended `outcome` and `reason`; under population-based training also `stands_at`,
`exchanged_at` and `mutations` (see `TrialRecord`). Of the study itself: `budget`, how far it was extended beyond the
sweep file, `end`, why its last launch ended, and `limits`. Imports optuna; only this folder does.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from search_spaces.trial_config import ScheduleChoice
from segdata.errors import InputError
from segsweep.objectives import Mode, Objective
from segsweep.search.epochs import scores_of, values_of
from segsweep.search.journal import load_journal
from segsweep.search.mutations import Mutation, config_in_force, mutations_from
from segsweep.search.samplers import build_sampler
from segsweep.search_config import SamplerConfig
from trainables.limits import GROWING_COSTS, Limit

__all__ = [
    "Mode",
    "Outcome",
    "Study",
    "TrialRecord",
    "frozen_trial",
    "live_trial",
    "mend_journal",
    "open_study",
    "read_study",
    "trial_record",
    "trial_records",
]

Study = optuna.Study
Outcome = Literal["running", "completed", "stopped", "crashed", "failed", "over-limit", "rejected"]

STUDY_NAME = "sweep"
LIMITS = "limits"  # user attribute of the study
CRASH = "crash"  # the constraint that a trial breaks by a crash
DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
ENDED: "WeakKeyDictionary[Study, dict[int, TrialRecord]]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial as the study tells it; `scores` maps epoch -> the searched metric, NaN epochs left out.

    `device_s` is the time it ran times the GPUs that it had, or the CPUs of a trial without one; None if not known.
    `place` is its number, the tries that a kill cut short left out.
    `epochs` maps epoch -> what else the sweep weighs or limits, by name; `broken` are the limits that it breaks.
    Under population-based training `sample` is what was drawn and `config` what is in force; `mutations` says what came
    in between, beginning with the values at epoch 0. `stands_at` is the epoch after which the trial waits or went on
    last, `exchanged_at` the last one at which it was decided whether it goes on from another trial.
    """

    number: int
    origin: str
    sample: Mapping[str, Any]
    config: Mapping[str, Any]
    outcome: Outcome
    reason: str
    scores: Mapping[int, float]
    best_epoch: int | None
    best_score: float
    planned_epochs: int
    duration_s: float | None
    ended_unix_s: float | None = None
    device_s: float | None = None
    place: int = 0
    epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    mutations: tuple[Mutation, ...] = ()
    stands_at: int = 0
    exchanged_at: int = 0

    @property
    def in_force(self) -> dict[str, Any]:
        """The sample with the values that are in force now."""
        return {**self.sample, **(self.mutations[-1].values if self.mutations else {})}

    @property
    def ended(self) -> bool:
        return self.outcome != "running"

    @property
    def values(self) -> dict[str, float]:
        """What the sweep weighs or limits beside the score: at the best epoch, what grows as of the last one."""
        return values_at(self.epochs, self.best_epoch)


def open_study(
    journal: Path,
    mode: Mode,
    sampler: SamplerConfig,
    seed: int,
    *,
    further: Sequence[Objective] = (),
    limits: Sequence[Limit] = (),
) -> Study:
    """Opens the sweep's study to write to it, or creates it with its folder; for the one process that has the lock.

    Args:
        journal: Its file.
        mode: Direction of the score.
        sampler: Who chooses.
        seed: The sampler's.
        further: Objectives beside the score.
        limits: What each trial has to keep.

    Raises:
        InputError: It was started for other directions.
    """
    wanted = [DIRECTIONS[mode], *(DIRECTIONS[objective.mode] for objective in further)]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    study = load_journal(journal, STUDY_NAME, wanted)
    assert study is not None
    if study.directions != wanted:
        found, expected = (", ".join(one.name.lower() for one in each) for each in (study.directions, wanted))
        raise InputError.of(
            f"expected a study with the directions {expected}, but got {found}",
            where=journal,
            cure="Go on with the objectives that the sweep was started with, or start a new one.",
        )
    if study.user_attrs.get(LIMITS, []) != [limit.text for limit in limits]:
        study.set_user_attr(LIMITS, [limit.text for limit in limits])
    study.sampler = build_sampler(sampler, seed)
    return study


def read_study(journal: Path) -> Study:
    """Opens the sweep's study to read it, beside whoever writes; one that is not there yet is empty, and stays away."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if journal.is_file():  # the storage would make the file
        study = load_journal(journal, STUDY_NAME)
        if study is not None:  # else its writer is just about to create it
            return study
    return optuna.create_study()


def mend_journal(journal: Path) -> None:
    """Removes what a writer that was killed may have left: its lock, which would hold us up for 30 s, and half a line.

    Only whoever knows that nobody else writes may call this.
    """
    for leftover in journal.parent.glob(f"{journal.name}.lock*"):
        leftover.unlink(missing_ok=True)
    if journal.is_file():
        whole = journal.read_bytes().rfind(b"\n") + 1
        if whole < journal.stat().st_size:
            os.truncate(journal, whole)


def live_trial(study: Study, number: int) -> Trial:
    """Returns the trial of that number so that it can be reported to again, after a resume.

    Optuna's public `Trial` is built from a storage id, which a `FrozenTrial` keeps in `_trial_id`; a test pins it.
    """
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def frozen_trial(trial: Trial) -> FrozenTrial:
    """Returns what the study knows of a live trial now; unlike `get_trials`, without a look at all others."""
    return trial.storage.get_trial(trial._trial_id)


def trial_records(study: Study) -> tuple[TrialRecord, ...]:
    """Returns all trials in the order of their numbers; those that the space forbade are left out.

    A trial that has ended never changes, so its record is made once: observers ask at the end of every trial.
    """
    limits, ended, records = limits_of(study), ENDED.setdefault(study, {}), []
    for trial in study.get_trials(deepcopy=False):
        record = ended.get(trial.number) or record_of(study, trial, limits)
        if record is not None and record.outcome != "rejected":
            records.append(record)
            if record.ended:
                ended[record.number] = record
    return tuple(records)


def trial_record(study: Study, trial: Trial) -> TrialRecord:
    """Returns the record of one trial that has its sample."""
    record = record_of(study, frozen_trial(trial), limits_of(study))
    assert record is not None
    return record


def limits_of(study: Study) -> tuple[Limit, ...]:
    """Returns what each trial has to keep."""
    return tuple(Limit.parse(text) for text in study.user_attrs.get(LIMITS, []))


def record_of(study: Study, trial: FrozenTrial, limits: Sequence[Limit] = ()) -> TrialRecord | None:
    """Returns one trial's record; None while it waits in the queue or was killed before it was complete on disk."""
    maximize = study.directions[0] == StudyDirection.MAXIMIZE
    if trial.state == TrialState.WAITING or "config" not in trial.user_attrs:
        return None
    scores, epochs = scores_of(trial), values_of(trial)
    schedule = ScheduleChoice(**trial.user_attrs["config"]["schedule"])
    mutations = mutations_from(trial.user_attrs.get("mutations", ()))
    best = best_epoch_of(scores, maximize, trial.user_attrs.get("losses") if schedule.best_by == "loss" else None)
    return TrialRecord(
        number=trial.number,
        origin=trial.user_attrs.get("origin", "sampler"),
        sample=trial.user_attrs["sample"],
        config=config_in_force(trial.user_attrs["config"], mutations),
        outcome=trial.user_attrs.get("outcome", "running") if trial.state.is_finished() else "running",
        reason=trial.user_attrs.get("reason", ""),
        scores=scores,
        best_epoch=best,
        best_score=math.nan if best is None else scores[best],
        planned_epochs=schedule.planned_epochs,
        duration_s=None if trial.duration is None else trial.duration.total_seconds(),
        ended_unix_s=None if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
        device_s=trial.user_attrs.get("device_s"),
        place=trial.user_attrs.get("place", trial.number),
        epochs=epochs,
        broken=broken_limits(trial, limits, values_at(epochs, best)),
        mutations=mutations,
        stands_at=trial.user_attrs.get("stands_at", 0),
        exchanged_at=trial.user_attrs.get("exchanged_at", 0),
    )


def values_at(epochs: Mapping[int, Mapping[str, float]], epoch: int | None) -> dict[str, float]:
    """Returns the values at an epoch; of a cost that grows, the last one."""
    last = epochs[max(epochs)] if epochs else {}
    chosen = {} if epoch is None else epochs.get(epoch, {})
    return {**chosen, **{name: last[name] for name in GROWING_COSTS if name in last}}


def broken_limits(trial: FrozenTrial, limits: Sequence[Limit], values: Mapping[str, float]) -> tuple[str, ...]:
    """Returns the limits that a trial broke, or breaks as it stands while it runs."""
    if trial.state.is_finished():
        return tuple(name for name, excess in trial.constraints.items() if excess > 0 and name != CRASH)
    return tuple(limit.text for limit in limits if limit.excess(values) > 0)


def best_epoch_of(scores: Mapping[int, float], maximize: bool, losses: Mapping[str, float] | None) -> int | None:
    """Returns the epoch whose weights the trial keeps, the earliest of several: best score, or lowest training loss.

    Args:
        scores: Epoch -> score, NaN left out.
        maximize: Direction of the score.
        losses: Epoch -> mean training loss if that decides, else None.
    """
    if losses is None:
        sign = -1.0 if maximize else 1.0
        return min(scores, key=lambda epoch: (sign * scores[epoch], epoch), default=None)
    known = {epoch: losses[str(epoch)] for epoch in scores if not math.isnan(losses.get(str(epoch), math.nan))}
    return min(known, key=lambda epoch: (known[epoch], epoch), default=None)
