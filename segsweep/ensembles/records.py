"""What stays of an ensemble: its file, from which new images are labelled, and its run in MLflow."""

import logging
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord, write_ensemble
from segscore.metrics import METRICS
from segsweep.ensembles.making import Made, Part
from segsweep.ensembles.members import Shelf
from segsweep.run_folder import RunFolder
from segtrack.recorder import SweepRecorder, TrackingLostError

if TYPE_CHECKING:
    from segsweep.ensembles.building import EnsembleResult

__all__ = ["record_run", "write_record"]

logger = logging.getLogger(__name__)


def write_record(shelf: Shelf, made: Made, result: "EnsembleResult") -> Path:
    """Writes `ensemble.json` beside the ensemble's predictions, and returns it."""
    config, row = shelf.sweep.config, made.row
    known = (*METRICS, *config.own_metrics)
    record = EnsembleRecord(
        task=config.task,
        members=tuple(map(member_of, made.parts)),
        method=row.method,
        settings=made.settings,
        dataset_fingerprint=shelf.roles.roles[result.role].fingerprint,
        scores={
            line.name: {name: line.scores[name] for name in known if name in line.scores}
            for line in (*result.members, row)
        },
        scored_on=result.role,
        chosen_on=result.judged_on,
        chosen_score=None if row.selection is None else row.selection.score,
        code_version=version("segsweep"),
    )
    return write_ensemble(record, row.predictions.parent)


def record_run(shelf: Shelf, made: Made, result: "EnsembleResult", file: Path) -> None:
    """Writes a child run to MLflow; if that fails it is only said."""
    sweep, row = shelf.sweep, made.row
    parameters = {
        "method": row.method,
        "members": " ".join(dict.fromkeys(part.entry.name.replace(" ", "+") for part in made.parts)),
        "scored_on": result.role,
        "settings_chosen_on": result.judged_on,
        "dataset_fingerprint": shelf.roles.roles[result.role].fingerprint,
        **asdict(made.settings),
    }
    origin = RunFolder(sweep.path).read_origin()
    try:
        recorder = SweepRecorder(sweep.tracking_uri, sweep.project, sweep.config.name, origin.id, {})
        recorder.record_ensemble(f"ensemble {row.name}", parameters, row.scores, [file])
    except TrackingLostError as error:
        logger.warning("ensemble %s is missing in MLflow: %s", row.name, error)


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
