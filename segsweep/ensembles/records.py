"""What stays of an ensemble: its file, from which new images are labelled, and its run in MLflow."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord, write_ensemble
from segdata.errors import InputError
from segscore.metrics import METRICS
from segsweep.ensembles.making import Made, Part
from segsweep.ensembles.members import Shelf
from segsweep.run_folder import RunFolder
from segtrack.recorder import SweepRecorder, TrackingLostError

if TYPE_CHECKING:
    from segsweep.ensembles.building import EnsembleResult

__all__ = ["record_runs", "write_record"]

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


def record_runs(shelf: Shelf, made: Sequence[Made], result: "EnsembleResult", files: Sequence[Path]) -> None:
    """Writes a child run an ensemble to MLflow, where it is not there yet; if that fails it is only said.

    Args:
        shelf: Of the sweep.
        made: The ensembles, scored.
        result: What they are part of.
        files: `ensemble.json` of each.
    """
    sweep, folder = shelf.sweep, RunFolder(shelf.sweep.path)
    missing = [one.row.name for one in made]
    if not missing:
        return
    try:
        recorder = SweepRecorder(sweep.tracking_uri, sweep.project, sweep.config.name, folder.read_origin().id, {})
        for one, file in zip(made, files, strict=True):
            place = file.parent.relative_to(folder.ensembles).as_posix()
            parameters = parameters_of(shelf, one, result)
            recorder.record_ensemble(f"ensemble {one.row.name}", place, parameters, one.row.scores, [file])
            missing.remove(one.row.name)
    except (TrackingLostError, InputError) as error:
        who = f"ensemble {missing[0]} is" if len(missing) == 1 else f"ensembles {', '.join(missing)} are"
        logger.warning("%s missing in MLflow until the same command is run again: %s", who, error)


def parameters_of(shelf: Shelf, made: Made, result: "EnsembleResult") -> dict[str, object]:
    """Returns how an ensemble was made."""
    return {
        "method": made.row.method,
        "members": " ".join(dict.fromkeys(part.entry.name.replace(" ", "+") for part in made.parts)),
        "scored_on": result.role,
        "settings_chosen_on": result.judged_on,
        "dataset_fingerprint": shelf.roles.roles[result.role].fingerprint,
        **asdict(made.settings),
    }


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
