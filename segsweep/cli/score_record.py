"""What `segsweep score --json` prints, unrounded; null stands for what the truth or the prediction set lacks."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segscore import Calibration, Difference, Evaluation, InstanceScores, Interval
from segsweep.cli.score_tables import averaging

__all__ = ["comparison_record", "score_record"]


def score_record(
    path: Path, evaluation: Evaluation, sure: Mapping[str, Interval], settings: Mapping[str, int]
) -> dict[str, Any]:
    """Returns one prediction set's scores with their intervals, calibration and confusion matrix."""
    instance = next((scores for scores in evaluation.scores if isinstance(scores, InstanceScores)), None)
    return {
        "predictions": str(path),
        "images": evaluation.scores[0].images,
        "max_detections": None if instance is None else instance.max_detections,
        "objects_left_out": 0 if instance is None else instance.left_out,
        "objects_found": evaluation.objects_found,
        "batch": evaluation.batch if instance is None else None,
        "averaging": averaging(evaluation),
        "metrics": {name: _number(value) for name, value in evaluation.values.items()},
        "intervals": {name: [interval.low, interval.high] for name, interval in sure.items()},
        **settings,
        "calibration": None if evaluation.calibration is None else _calibration(evaluation.calibration),
        "confusion": None if evaluation.confusion is None else evaluation.confusion.tolist(),
    }


def comparison_record(path: str, other: Evaluation, apart: Mapping[str, Difference]) -> dict[str, Any]:
    """Returns the other set's scores, and by how much the first differs from it."""
    return {
        "predictions": path,
        "metrics": {name: _number(value) for name, value in other.values.items()},
        "differences": {
            name: {
                "value": _number(found.value),
                "interval": [found.interval.low, found.interval.high],
                "p": found.p,
                "is_real": found.is_real,
            }
            for name, found in apart.items()
        },
    }


def _calibration(calibration: Calibration) -> dict[str, Any]:
    bins = [{key: _number(value) for key, value in asdict(row).items()} for row in calibration.bins]
    return {"error": _number(calibration.error), "bins": bins}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
