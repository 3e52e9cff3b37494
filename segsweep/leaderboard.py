"""The ranking of a sweep's trials, each by its best epoch, and the table that shows it; `front_table` has the one of
several objectives.

Read from the study, which is the truth; MLflow shows the same. Imports rich.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from segsweep.search.study import Mode, TrialRecord
from trainables.loaded_weights import LoadedWeights
from trainables.trial_files import TrialFiles

__all__ = ["as_rows", "initial_weights", "leaderboard_table", "rank"]

SHOWN_KNOBS = ("model", "backbone", "optimizer", "lr")


def rank(records: Iterable[TrialRecord], mode: Mode) -> list[TrialRecord]:
    """Returns the trials that have a score and break no limit, best first; of equal ones the earlier trial first."""
    kept = (record for record in records if record.outcome != "over-limit" and not record.broken)
    scored = [record for record in kept if record.best_epoch is not None]
    sign = -1.0 if mode == "max" else 1.0
    return sorted(scored, key=lambda record: (sign * record.best_score, record.number))


def as_rows(records: Sequence[TrialRecord], metric: str, trials: Path) -> list[dict[str, Any]]:
    """Returns the ranked trials as plain values for `--json`."""
    return [
        {
            "rank": place,
            "trial": record.number,
            metric: record.best_score,
            "epoch": record.best_epoch,
            "planned_epochs": record.planned_epochs,
            "outcome": record.outcome,
            "origin": record.origin,
            "parameters": dict(record.sample),
            **({"mutations": [mutation.to_dict() for mutation in record.mutations]} if record.mutations else {}),
            "directory": str(trials / f"{record.number:04d}"),
            "initial_weights": initial_weights(trials, record),
        }
        for place, record in enumerate(records, start=1)
    ]


def initial_weights(trials: Path, record: TrialRecord) -> str | None:
    """Says what a trial started from and what of it was loaded; None if from nothing."""
    loaded = LoadedWeights.read(TrialFiles(trials / f"{record.number:04d}").initial)
    return None if loaded is None else f"init {loaded.init}: {loaded.text()}"


def leaderboard_table(records: Sequence[TrialRecord], metric: str, title: str) -> Table:
    """Returns the ranked trials as a table of at most 80 columns; knobs that never differ are left out."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("trial")
    table.add_column(metric, justify="right", no_wrap=True)
    table.add_column("epoch", justify="right")
    table.add_column("outcome")
    table.add_column("parameters", overflow="fold")
    for place, record in enumerate(records, start=1):
        table.add_row(
            str(place),
            f"{record.number:04d}",
            f"{record.best_score:.4f}",
            f"{record.best_epoch}/{record.planned_epochs}",
            record.outcome,
            Text(describe_sample(record.in_force)),
        )
    return table


def describe_sample(sample: Mapping[str, Any]) -> str:
    """Returns the values of a sample in a line, the best-known knobs first and without their names."""
    known = [str(sample[name]) for name in SHOWN_KNOBS[:3] if name in sample]
    rest = [f"{name}={short(value)}" for name, value in sample.items() if name not in SHOWN_KNOBS[:3]]
    return " ".join([*known, *rest])


def short(value: Any) -> str:
    """Returns a number with three digits, anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
