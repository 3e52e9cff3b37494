"""What stays of an ensemble: its file, from which new images are labelled, and its run in MLflow."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord, write_ensemble
from segscore.metrics import METRICS
from segsweep.ensembles.making import Made, Part
from segsweep.ensembles.members import Shelf
from segsweep.ensembles.rows import ScoreRow
from segsweep.run_folder import RunFolder
from segtrack.recorder import SweepRecorder

__all__ = ["write_record"]


def write_record(shelf: Shelf, made: Made, members: Sequence[ScoreRow], scored: str, judged_on: str | None) -> Path:
    """Writes `ensemble.json` beside the ensemble's predictions, and a child run in MLflow; returns the file."""
    sweep, row = shelf.sweep, made.row
    known = (*METRICS, *sweep.config.own_metrics)
    record = EnsembleRecord(
        task=sweep.config.task,
        members=tuple(map(member_of, made.parts)),
        method=row.method,
        settings=made.settings,
        dataset_fingerprint=shelf.roles.roles[scored].fingerprint,
        scores={
            line.name: {name: line.scores[name] for name in known if name in line.scores} for line in (*members, row)
        },
        scored_on=scored,
        chosen_on=judged_on,
        chosen_score=None if row.selection is None else row.selection.score,
        code_version=version("segsweep"),
    )
    path = write_ensemble(record, row.predictions.parent)
    recorder = SweepRecorder(
        sweep.tracking_uri, sweep.project, sweep.config.name, RunFolder(sweep.path).read_origin().id, {}
    )
    parameters = {
        "method": row.method,
        "members": " ".join(dict.fromkeys(part.entry.name.replace(" ", "+") for part in made.parts)),
        "scored_on": scored,
        "settings_chosen_on": judged_on,
        "dataset_fingerprint": record.dataset_fingerprint,
        **asdict(made.settings),
    }
    recorder.record_ensemble(f"ensemble {row.name}", parameters, row.scores, [path])
    return path


def member_of(part: Part) -> EnsembleMember:
    """Returns a part as the ensemble file names it: by its network's folder, or another tool's predictions."""
    if part.network is None:
        return EnsembleMember(path=part.predictions, weight=part.weight, name=part.entry.name, network=False)
    return EnsembleMember(
        path=part.network.checkpoint.parent,
        weight=part.weight,
        name=part.entry.name,
        view=str(part.entry.view),
        trial=part.network.trial,
        config_hash=part.network.config_hash,
        weights=part.network.fingerprint(),
    )
