"""Where a study keeps what an epoch gave.

With one objective its scores are Optuna's intermediate values. Optuna takes none with several: then they are part of
the user attribute `epoch:N`, {"score": ..., "values": {...}}, as is, with one or with several, whatever else the sweep
weighs or limits. Imports optuna.
"""

import math
from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial, Trial

__all__ = ["report_epoch", "scores_of", "values_of"]

PREFIX = "epoch:"


def report_epoch(trial: Trial, epoch: int, score: float, values: Mapping[str, float], *, several: bool) -> None:
    """Writes an epoch down; once its score is there, so is the rest.

    Args:
        trial: That reports it.
        epoch: A finished one.
        score: The first objective.
        values: What else is weighed or limited, by name; NaN is left out.
        several: Whether there are several objectives.
    """
    row: dict[str, Any] = {"score": float(score)} if several else {}
    known = {name: float(value) for name, value in values.items() if not math.isnan(value)}
    row |= {"values": known} if known else {}
    if row:
        trial.set_user_attr(f"{PREFIX}{epoch}", row)
    if not several:
        trial.report(float(score), epoch)


def scores_of(trial: FrozenTrial) -> dict[int, float]:
    """Returns epoch -> score, NaN left out."""
    rows = {epoch: row["score"] for epoch, row in rows_of(trial).items() if "score" in row}
    return rows | {epoch: score for epoch, score in trial.intermediate_values.items() if not math.isnan(score)}


def values_of(trial: FrozenTrial) -> dict[int, dict[str, float]]:
    """Returns epoch -> what else was written down, by name."""
    return {epoch: row["values"] for epoch, row in rows_of(trial).items() if "values" in row}


def rows_of(trial: FrozenTrial) -> dict[int, dict[str, Any]]:
    rows = {name: row for name, row in trial.user_attrs.items() if name.startswith(PREFIX)}
    return {int(name.removeprefix(PREFIX)): row for name, row in rows.items()}
