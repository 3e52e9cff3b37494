"""From a sweep's best trials to an ensemble: predict, fuse, and score members and ensemble alike on unseen data.

Predictions lie in the sweep's folder, one set a trial, fold and role, and are made once. Imports ensembling,
segscore and trainables' fork server.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord, write_ensemble
from ensembling.fusion import fuse
from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError, TrialError
from segdata.predictions import PredictionSet
from segscore.metrics import METRICS, score_predictions
from segsweep.data_roles import RoleData, SweepRoles, read_roles
from segsweep.driver import study_of
from segsweep.leaderboard import rank
from segsweep.run_folder import RunFolder
from segsweep.search import TrialRecord, trial_records
from segsweep.sweep_file import Sweep
from segtrack.recorder import SweepRecorder
from trainables.fork_server import Ended, start_child
from trainables.requests import PredictRequest

__all__ = ["EnsembleResult", "ScoreRow", "build_ensembles"]

UNSEEN_ROLES = ("test", "select")  # in this order; the search sees neither
PREDICT = "trainables.predict:predict"


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of the table: a member or an ensemble, its prediction set and its scores."""

    name: str
    predictions: Path
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """All scored rows, members first, on one role; `folder` holds an `ensemble.json` for each method."""

    role: str
    metric: str
    members: tuple[ScoreRow, ...]
    ensembles: tuple[ScoreRow, ...]
    folder: Path

    @property
    def gain(self) -> float:
        """How much the best ensemble lies above the best member, in the sweep's metric."""
        best_member = max(row.scores[self.metric] for row in self.members)
        return max(row.scores[self.metric] for row in self.ensembles) - best_member


def build_ensembles(
    sweep: Sweep, top: int, methods: Sequence[str], role: str | None, threads: int, console: Console
) -> EnsembleResult:
    """Predicts with the best `top` trials, fuses them by each method, scores everything, and records it in MLflow.

    Args:
        sweep: A sweep with trials.
        top: How many members.
        methods: Names of `ensembling.fusion.METHODS` for the sweep's task.
        role: Role of the data to predict and score; None = test, else select.
        threads: Computing threads of a predicting process.
        console: Shows progress.

    Raises:
        InputError: Too few trials have weights, or there is no unseen role.
    """
    folder, config = RunFolder(sweep.path), sweep.config
    members = choose_members(rank(trial_records(study_of(sweep)), config.mode), top, folder)
    roles = read_roles(sweep)
    name = choose_role(roles, role)
    truth = roles.roles[name]
    sets = [predict_member(sweep, folder, record, roles, name, threads, console) for record in members]
    rows = tuple(
        ScoreRow(f"trial {record.number:04d}", path, score_predictions(truth.truth, PredictionSet.open(path)))
        for record, path in zip(members, sets, strict=True)
    )
    out = folder.ensembles / f"{name}-top{top}"
    ensembles = tuple(fuse_and_score(sets, truth, out / method, method, console) for method in methods)
    result = EnsembleResult(name, config.metric, rows, ensembles, out)
    for row, method in zip(ensembles, methods, strict=True):
        write_record(sweep, members, sets, result, row, method, truth.fingerprint)
    return result


def choose_members(ranked: Sequence[TrialRecord], top: int, folder: RunFolder) -> list[TrialRecord]:
    """Returns the best trials whose weights are still there."""
    kept = [record for record in ranked if folder.trial(record.number).best.is_file()]
    if len(kept) < top:
        raise InputError.of(
            f"expected {top} trials with weights, but got {len(kept)}",
            where=folder.path,
            cure="Ask for fewer by --top, or raise storage.keep_checkpoints in the next sweep.",
        )
    return kept[:top]


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


def predict_member(
    sweep: Sweep,
    folder: RunFolder,
    record: TrialRecord,
    roles: SweepRoles,
    role: str,
    threads: int,
    console: Console,
) -> Path:
    """Predicts one role with one trial's best weights, unless that was done before."""
    fingerprint = roles.roles[role].fingerprint
    out = folder.ensembles / "members" / f"{record.number:04d}-{role}-{fingerprint}"
    if (out / "meta.json").is_file():
        return out
    files = folder.trial(record.number)
    request = PredictRequest(
        directory=files.directory,
        task=sweep.config.task,
        role=roles.files(role, folder.data),
        fingerprint=fingerprint,
        out=out,
        config_hash=TrialConfig.from_dict(record.config).hash(),
        threads=threads,
        custom_imports=sweep.config.custom_imports,
        folder=sweep.folder,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    run_prediction(request, files.directory / "predict.log", f"trial {record.number:04d} predicts {role}", console)
    return out


def run_prediction(request: PredictRequest, log: Path, title: str, console: Console) -> None:
    """Runs one predicting child to its end and shows how far it is.

    Raises:
        TrialError: The child failed.
    """
    child = start_child(PREDICT, request, log)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(title, total=None)
            while not isinstance(message := child.receive(None), Ended):
                if message is not None:
                    progress.update(bar, completed=message[1]["done"], total=message[1]["of"])
    finally:
        child.stop()
    if message.kind != "done":
        raise TrialError(f"{title}: {message.reason}")


def fuse_and_score(sets: Sequence[Path], truth: RoleData, out: Path, method: str, console: Console) -> ScoreRow:
    """Fuses anew (an ensemble of the same name is replaced) and scores."""
    predictions = out / "predictions"
    if predictions.exists():
        shutil.rmtree(predictions)
    out.mkdir(parents=True, exist_ok=True)
    with console.status(f"fusing by {method}"):
        fuse(sets, predictions, method=method)
        return ScoreRow(method, predictions, score_predictions(truth.truth, PredictionSet.open(predictions)))


def write_record(
    sweep: Sweep,
    members: Sequence[TrialRecord],
    sets: Sequence[Path],
    result: EnsembleResult,
    row: ScoreRow,
    method: str,
    fingerprint: str,
) -> None:
    """Writes `ensemble.json` and a child run in MLflow."""
    config = sweep.config
    hashes = [TrialConfig.from_dict(record.config).hash() for record in members]
    record = EnsembleRecord(
        task=config.task,
        members=tuple(
            EnsembleMember(path=path, trial=f"{member.number:04d}", config_hash=config_hash)
            for path, member, config_hash in zip(sets, members, hashes, strict=True)
        ),
        method=method,
        dataset_fingerprint=fingerprint,
        scores={line.name: known_metrics(line.scores) for line in (*result.members, row)},
        code_version=version("segsweep"),
    )
    path = write_ensemble(record, result.folder / method)
    recorder = SweepRecorder(sweep.tracking_uri, sweep.project, config.name, {})
    parameters = {
        "method": method,
        "members": " ".join(f"{member.number:04d}" for member in members),
        "scored_on": result.role,
        "dataset_fingerprint": fingerprint,
    }
    recorder.record_ensemble(f"ensemble {method} of {len(members)}", parameters, row.scores, [path])


def known_metrics(scores: dict[str, float]) -> dict[str, float | None]:
    """Leaves out the per-class values."""
    return {name: value for name, value in scores.items() if name in METRICS}
