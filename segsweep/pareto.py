"""The Pareto front of a sweep with several objectives: the trials that no other one beats, and their table.

Imports rich.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from segsweep.leaderboard import describe_sample, rank
from segsweep.objectives import Objective, front
from segsweep.search.budget import point_of
from segsweep.search.study import TrialRecord
from trainables.limits import COSTS

__all__ = ["front_first", "front_rows", "front_table", "numbers_on_front", "over_limits_line", "shown"]


def numbers_on_front(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> set[int]:
    """Returns the numbers of the trials that no other one beats; those over a limit take no part."""
    points = [(record.number, point_of(record, objectives)) for record in records]
    known = [(number, point) for number, point in points if point is not None]
    return {known[index][0] for index in front(point for _, point in known)}


def front_first(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Returns the trials that have a score and break no limit: the Pareto front, best score first, then the others.

    With one objective this is `rank`.
    """
    ranked = rank(records, objectives[0].mode)
    if len(objectives) == 1:
        return ranked
    on_front = numbers_on_front(ranked, objectives)
    return sorted(ranked, key=lambda record: record.number not in on_front)


def front_table(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], title: str, starred: Iterable[int] = ()
) -> Table:
    """Returns trials as a table of at most 80 columns: a column an objective, then the knobs.

    Args:
        records: In the order of the rows.
        objectives: The score first.
        title: Above the table.
        starred: Numbers of the trials that get a star.
    """
    marked = set(starred)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("trial")
    for objective in objectives:
        table.add_column(header(objective.name), justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    for place, record in enumerate(records, start=1):
        values = values_of(record, objectives)
        cells = [shown(one.name, values[one.name]) if one.name in values else "-" for one in objectives]
        star = "*" if record.number in marked else ""
        table.add_row(str(place), f"{record.number:04d}{star}", *cells, Text(describe_sample(record.sample)))
    return table


def front_rows(
    rows: Sequence[dict[str, Any]],
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    on_front: set[int],
) -> list[dict[str, Any]]:
    """Adds `objectives` and `on_front` to what `--json` says of these trials."""
    return [
        {**row, "objectives": values_of(record, objectives), "on_front": record.number in on_front}
        for row, record in zip(rows, records, strict=True)
    ]


def values_of(record: TrialRecord, objectives: Sequence[Objective]) -> dict[str, float]:
    """Returns a trial's objectives by name, as far as they are known."""
    values: Mapping[str, float] = {**record.values, objectives[0].name: record.best_score}
    return {objective.name: values[objective.name] for objective in objectives if objective.name in values}


def over_limits_line(records: Iterable[TrialRecord]) -> str:
    """Returns how many trials were over a limit, by limit; nothing if none was."""
    over = [record for record in records if record.outcome == "over-limit"]
    counts = Counter(limit for record in over for limit in record.broken)
    named = ", ".join(f"{limit} ({count})" for limit, count in sorted(counts.items()))
    return f"{len(over)} {'trial was' if len(over) == 1 else 'trials were'} over a limit: {named}" if over else ""


def header(name: str) -> str:
    """Returns a column's head: a cost's unit stands below its name."""
    return "\n".join(name.rsplit("_", 1)) if name in COSTS else name


def shown(name: str, value: float) -> str:
    """Returns an objective's value for a table: a cost with three digits, or all before the point."""
    if name not in COSTS:
        return f"{value:.4f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
