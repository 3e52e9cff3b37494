"""The study: one append-only journal beside the trials, which alone decides what a sweep has done (ADR 003).

User attributes of a study trial: `sample` (knob -> scalar), `config` (TrialConfig as a dict), `origin`, `device_s`,
`losses`, `stopping` (the result that it was stopped with), and once it has ended `outcome` and `reason`; under
population-based training also `stands_at`, `exchanged_at` and `mutations` (see `TrialRecord`). Of the study itself:
`budget`, how far it was extended beyond the sweep file, and `end`, why its last launch ended. Imports optuna; only this
folder does.
"""

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from search_spaces.trial_config import ScheduleChoice
from segsweep.search.mutations import Mutation, config_in_force, mutations_from
from segsweep.search.samplers import build_sampler
from segsweep.search_config import SamplerConfig

__all__ = [
    "Mode",
    "Outcome",
    "Study",
    "TrialRecord",
    "live_trial",
    "mend_journal",
    "open_study",
    "read_study",
    "trial_record",
    "trial_records",
]

Study = optuna.Study
Mode = Literal["max", "min"]
Outcome = Literal["running", "completed", "stopped", "crashed", "failed", "rejected"]

STUDY_NAME = "sweep"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial as the study tells it; `scores` maps epoch -> the searched metric, NaN epochs left out.

    `device_s` is the time it ran times the GPUs that it had, or the CPUs of a trial without one; None if not known.
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
    mutations: tuple[Mutation, ...] = ()
    stands_at: int = 0
    exchanged_at: int = 0

    @property
    def values(self) -> dict[str, Any]:
        """The sample with the values that are in force now."""
        return {**self.sample, **(self.mutations[-1].values if self.mutations else {})}

    @property
    def ended(self) -> bool:
        return self.outcome != "running"


def open_study(journal: Path, mode: Mode, sampler: SamplerConfig, seed: int) -> Study:
    """Opens the sweep's study to write to it, or creates it with its folder; for the one process that has the lock."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    try:
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    except KeyError:
        direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
        study = optuna.create_study(study_name=STUDY_NAME, storage=storage, direction=direction)
    study.sampler = build_sampler(sampler, seed)
    return study


def read_study(journal: Path) -> Study:
    """Opens the sweep's study to read it, beside whoever writes; one that is not there yet is empty, and stays away."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if journal.is_file():  # the storage would make the file
        with contextlib.suppress(KeyError):  # its writer is just about to create it
            return optuna.load_study(study_name=STUDY_NAME, storage=JournalStorage(JournalFileBackend(str(journal))))
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


def trial_records(study: Study) -> tuple[TrialRecord, ...]:
    """Returns all trials in the order of their numbers; those that the space forbade are left out."""
    records = (record_of(study, trial) for trial in study.get_trials(deepcopy=False))
    return tuple(record for record in records if record is not None and record.outcome != "rejected")


def trial_record(study: Study, number: int) -> TrialRecord:
    """Returns the record of one trial that has its sample."""
    record = record_of(study, study.get_trials(deepcopy=False)[number])
    assert record is not None
    return record


def record_of(study: Study, trial: FrozenTrial) -> TrialRecord | None:
    """Returns one trial's record; None while it waits in the queue or was killed before it was complete on disk."""
    maximize = study.direction == StudyDirection.MAXIMIZE
    if trial.state == TrialState.WAITING or "config" not in trial.user_attrs:
        return None
    scores = {epoch: score for epoch, score in trial.intermediate_values.items() if not math.isnan(score)}
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
        mutations=mutations,
        stands_at=trial.user_attrs.get("stands_at", 0),
        exchanged_at=trial.user_attrs.get("exchanged_at", 0),
    )


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
