"""What `segsweep ensemble --json` prints, unrounded; null stands for what is absent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensembling.selection import Selection
    from segsweep.ensembles.building import EnsembleResult
    from segsweep.ensembles.rows import ScoreRow

__all__ = ["ensemble_record"]


def ensemble_record(result: "EnsembleResult") -> Any:
    """Returns the result: all rows, and what was chosen where."""
    return as_json(
        {
            "role": result.role,
            "images": result.images,
            "chosen_on": result.judged_on,
            "chosen": result.chosen,
            "metric": result.metric,
            "gain": result.gain,
            "rows": [row_values(row) for row in (*result.members, *result.ensembles)],
        }
    )


def row_values(row: "ScoreRow") -> dict[str, Any]:
    return {
        "name": row.name,
        "predictions": row.predictions,
        "scores": row.scores,
        "interval": None if row.interval is None else asdict(row.interval),
        "against_best_member": None if row.against is None else asdict(row.against),
        "networks": row.models,
        "milliseconds": row.milliseconds,
        "selection": None if row.selection is None else selection_values(row.selection),
    }


def selection_values(selection: "Selection") -> dict[str, Any]:
    name, score = selection.best_single
    return {
        "method": selection.method,
        "settings": asdict(selection.settings),
        "score": selection.score,
        "best_single": {"name": name, "score": score},
        "fell_back": selection.fell_back,
        "estimate": None if selection.estimate is None else asdict(selection.estimate),
        "evaluations": selection.evaluations,
        "members": [
            {
                "name": member.candidate.name,
                "weight": member.weight,
                "alone": member.alone,
                "without": member.without,
                "joined": member.joined,
            }
            for member in selection.members
        ],
    }


def as_json(value: Any) -> Any:
    """Returns a value with null for NaN, which JSON does not have, and text for paths."""
    if isinstance(value, Mapping):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(inner) for inner in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, Path) else value
