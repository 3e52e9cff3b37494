"""From a sweep's best trials to an ensemble: predict, choose fusion settings, fuse, score members and ensemble alike.

Settings are chosen on one role and everything is scored on another, which the search did not see. Imports ensembling
and segscore.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord, write_ensemble
from ensembling.fusion import METHODS, fuse
from ensembling.settings import FusionSettings
from ensembling.tuning import CANDIDATES, TunedSettings, tune_settings
from segdata.errors import InputError
from segdata.predictions import PredictionSet
from segscore.metrics import METRICS, names_boundaries, score_predictions
from segsweep.data_roles import SweepRoles, read_roles
from segsweep.ensembles.fusion_config import FusionConfig
from segsweep.ensembles.members import Members, choose_members
from segsweep.leaderboard import rank
from segsweep.run_folder import RunFolder
from segsweep.search import trial_records
from segsweep.search.study import Mode
from segsweep.sweep_file import Sweep
from segtrack.recorder import SweepRecorder

__all__ = ["EnsembleResult", "ScoreRow", "build_ensembles"]

UNSEEN_ROLES = ("test", "select")  # in this order; the search sees neither
TUNING_ROLES = ("select", "val")  # in this order; never the role that is scored


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of the table: a member or an ensemble, its prediction set, its scores, how it was fused."""

    name: str
    predictions: Path
    scores: dict[str, float]
    settings: FusionSettings | None = None
    tuned: TunedSettings | None = None


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """All rows, members first, scored on `role`; `folder` holds an `ensemble.json` for each method."""

    role: str
    tuning_role: str | None
    metric: str
    members: tuple[ScoreRow, ...]
    ensembles: tuple[ScoreRow, ...]
    folder: Path
    mode: Mode = "max"

    @property
    def gain(self) -> float:
        """How much better the best ensemble is than the best member, in the sweep's metric; NaN if one has no score."""
        gain = self.best(self.ensembles) - self.best(self.members)
        return gain if self.mode == "max" else -gain

    def best(self, rows: Sequence[ScoreRow]) -> float:
        """Returns the best score of the sweep's metric, NaN if there is none."""
        known = [row.scores[self.metric] for row in rows if not math.isnan(row.scores[self.metric])]
        return (max if self.mode == "max" else min)(known, default=math.nan)


def build_ensembles(
    sweep: Sweep,
    top: int,
    methods: Sequence[str],
    role: str | None,
    threads: int,
    console: Console,
    fixed: FusionConfig | None = None,
) -> EnsembleResult:
    """Predicts with the best `top` trials, fuses them by each method, scores everything, and records it in MLflow.

    Args:
        sweep: A sweep with trials.
        top: How many members.
        methods: Names of `ensembling.fusion.METHODS` for the sweep's task.
        role: Role of the data to predict and score; None = test, else select.
        threads: Computing threads of a predicting process.
        console: Shows progress.
        fixed: Settings of fusion that are not tuned; None = those of the sweep file.

    Raises:
        InputError: Too few trials have weights, or there is no unseen role.
    """
    folder = RunFolder(sweep.path)
    refuse_unknown_methods(methods, sweep.config.task)
    records = choose_members(rank(trial_records(folder.study()), sweep.config.mode), top, folder)
    roles = read_roles(sweep)
    scored = choose_role(roles, role)
    tuning = next((name for name in TUNING_ROLES if name in roles.roles and name != scored), None)
    members = Members(sweep, roles, records, threads, console)
    rows = tuple(
        ScoreRow(f"trial {name}", path, scores_of(PredictionSet.open(path), members, scored))
        for name, path in zip(members.names, members.predict(scored), strict=True)
    )
    out = folder.ensembles / f"{scored}-top{top}"
    named = (sweep.config.ensemble.settings if fixed is None else fixed).named()
    ensembles = tuple(fuse_and_score(members, method, scored, tuning, out, named) for method in methods)
    result = EnsembleResult(scored, tuning, sweep.config.metric, rows, ensembles, out, sweep.config.mode)
    for row in ensembles:
        write_record(members, result, row)
    return result


def refuse_unknown_methods(methods: Sequence[str], task: str) -> None:
    """Raises InputError before an hour of predicting, not after it."""
    known = [name for name, method in METHODS.items() if method.task == task]
    for name in methods:
        if name not in known:
            raise InputError.of(
                f"expected a fusion method of the task {task} ({', '.join(known)}), but got {name!r}",
                where="--method",
                cure="Choose one of these.",
            )


def choose_role(roles: SweepRoles, wanted: str | None) -> str:
    """Returns the role to score on: what was asked for, else test or select, which the search did not see."""
    if wanted is not None and wanted not in roles.roles:
        raise InputError.of(
            f"expected one of the sweep's roles ({', '.join(roles.roles)}), but got {wanted!r}",
            where="--on",
            cure="Choose one of these.",
        )
    found = wanted or next((role for role in UNSEEN_ROLES if role in roles.roles), None)
    if found is None:
        raise InputError.of(
            "expected data that the search did not see (test or select), but got train and val only",
            where="data",
            cure="Add `test` to the sweep file's data, or accept optimistic scores with --on val.",
        )
    return found


def scores_of(predictions: PredictionSet, members: Members, role: str) -> dict[str, float]:
    """Scores a prediction set against the truth of a role, by the user's metrics as well."""
    truth = members.roles.roles[role].truth
    own = {metric.name: metric.of_set(truth, predictions) for metric in members.sweep.own_metrics}
    boundaries = names_boundaries(members.sweep.config.named_metrics)
    return score_predictions(truth, predictions, boundaries=boundaries) | own


def fuse_and_score(
    members: Members, method: str, scored: str, tuning: str | None, out: Path, fixed: Mapping[str, Any]
) -> ScoreRow:
    """Chooses the settings on `tuning`, fuses anew (an ensemble of the same name is replaced), scores on `scored`."""
    tuned, config = None, members.sweep.config
    if tuning is not None and method in CANDIDATES:
        sets = members.predict(tuning)
        with members.console.status(f"choosing the settings of {method} on {tuning}"):
            tuned = tune_settings(
                sets,
                method=method,
                weights=members.weights,
                score=lambda found: scores_of(found, members, tuning)[config.metric],
                mode=config.mode,
                fixed=fixed,
            )
    predictions = out / method / "predictions"
    shutil.rmtree(predictions, ignore_errors=True)
    predictions.parent.mkdir(parents=True, exist_ok=True)
    with members.console.status(f"fusing by {method}"):
        settings = FusionSettings(**fixed) if tuned is None else tuned.settings
        fuse(members.predict(scored), predictions, method=method, weights=members.weights, settings=settings)
        scores = scores_of(PredictionSet.open(predictions), members, scored)
        return ScoreRow(method, predictions, scores, settings, tuned)


def write_record(members: Members, result: EnsembleResult, row: ScoreRow) -> None:
    """Writes `ensemble.json` and a child run in MLflow."""
    sweep = members.sweep
    fingerprint = members.roles.roles[result.role].fingerprint
    parts = zip(members.predict(result.role), members.weights, members.names, members.hashes, strict=True)
    record = EnsembleRecord(
        task=sweep.config.task,
        members=tuple(
            EnsembleMember(path=path, weight=weight, trial=name, config_hash=config_hash)
            for path, weight, name, config_hash in parts
        ),
        method=row.name,
        **({} if row.settings is None else {"settings": row.settings}),
        dataset_fingerprint=fingerprint,
        scores={line.name: known_metrics(line.scores, sweep) for line in (*result.members, row)},
        code_version=version("segsweep"),
    )
    path = write_ensemble(record, result.folder / row.name)
    origin = RunFolder(sweep.path).read_origin()
    recorder = SweepRecorder(sweep.tracking_uri, sweep.project, sweep.config.name, origin.id, {})
    parameters = {
        "method": row.name,
        "members": " ".join(members.names),
        "scored_on": result.role,
        "settings_chosen_on": result.tuning_role,
        "dataset_fingerprint": fingerprint,
        **({} if row.settings is None else asdict(row.settings)),
    }
    recorder.record_ensemble(f"ensemble {row.name} of {len(members.records)}", parameters, row.scores, [path])


def known_metrics(scores: dict[str, float], sweep: Sweep) -> dict[str, float | None]:
    """Leaves out the per-class values."""
    return {name: value for name, value in scores.items() if name in (*METRICS, *sweep.config.own_metrics)}
