"""What `segsweep ensemble` prints at 80 columns: members and ensembles with intervals, and what was chosen why."""

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ensembling.selection import Selection
    from segsweep.ensembles.building import EnsembleResult
    from segsweep.ensembles.rows import ScoreRow

__all__ = ["print_result", "print_scores"]

FEW_IMAGES = 30


def print_result(result: "EnsembleResult", console: Console) -> None:
    """Prints the table, what was chosen, and where it lies."""
    print_scores(result, console)
    for row in result.ensembles:
        if row.selection is not None:
            print_choice(row, row.selection, result, console)
    for line in closing_lines(result):
        console.print(line, soft_wrap=line.startswith(("predictions", "label")))


def print_scores(result: "EnsembleResult", console: Console) -> None:
    """Prints members and ensembles with the sweep's metric, its interval, the gain and the cost."""
    console.print(
        f"{result.metric} on {result.role} ({result.images} images), 95 % intervals; gain over the best member"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold", min_width=17)
    for name in ("score", "interval", "gain", "interval", "p", "nets", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    best = result.best((*result.members, *result.ensembles))
    for row in (*result.members, *result.ensembles):
        value, of = row.scores[result.metric], row.interval
        gain = ("", "", "") if row.against is None else gain_cells(row)
        table.add_row(
            row.name,
            f"{value:.4f}",
            "" if of is None else f"{of.low:.3f} {of.high:.3f}",
            *gain,
            f"{row.models}",
            "" if row.milliseconds is None else f"{row.milliseconds:.0f}",
            style="bold" if value == best else "",
        )
    console.print(table)


def gain_cells(row: "ScoreRow") -> tuple[str, str, str]:
    """Returns difference, interval and p."""
    assert row.against is not None
    low, high = row.against.interval.low, row.against.interval.high
    return f"{row.against.value:+.4f}", f"{low:+.3f} {high:+.3f}", f"{row.against.p:.2f}"


def print_choice(row: "ScoreRow", chosen: "Selection", result: "EnsembleResult", console: Console) -> None:
    """Prints the members of an ensemble with weights and what each adds where choices were made."""
    console.print(f"\n{row.name}: {result.metric} {chosen.score:.4f} on {result.judged_on}, where choices were made")
    console.print(f"best single there: {chosen.best_single[1]:.4f} ({chosen.best_single[0]}); {settings_line(chosen)}")
    if chosen.estimate is not None:
        ensemble, single = chosen.estimate.ensemble, chosen.estimate.single
        console.print(f"chosen on one half, scored on the other: {number(ensemble)}; best single {number(single)}")
    if chosen.fell_back and chosen.evaluations > 1:
        console.print("no combination was better than that one alone")
    table = Table(box=None, pad_edge=False)
    table.add_column("member", overflow="fold")
    for name in ("weight", "alone", "without it", "adds"):
        table.add_column(name, justify="right", no_wrap=True)
    for member in chosen.members:
        adds = math.nan if member.without is None else chosen.score - member.without
        adds = adds if result.mode == "max" else -adds
        scores = number(member.alone), number(member.without), signed(adds)
        table.add_row(member.candidate.name, f"{member.weight:.3f}", *scores)
    console.print(table)


def settings_line(chosen: "Selection") -> str:
    """Says which settings of fusion are not the defaults."""
    defaults = asdict(type(chosen.settings)())
    named = [f"{name}={told(value)}" for name, value in asdict(chosen.settings).items() if value != defaults[name]]
    return " ".join(named) or "default settings"


def told(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.4f}"


def closing_lines(result: "EnsembleResult") -> list[str]:
    """Says what the numbers mean, and how to label new images."""
    row = result.recommended
    if row is None:
        return []
    seen = " (the search saw these images: optimistic)" if result.role in ("train", "val") else ""
    gap = f"{abs(result.gain):.4f}"
    verdict = f"{gap} better than" if result.gain > 0 else f"{gap} worse than" if result.gain < 0 else "as good as"
    verdict = f"not comparable by {result.metric} with" if math.isnan(result.gain) else verdict
    lines = [f"{row.name} is {verdict} the best single member on {result.role}{seen}"]
    if result.judged_on == "val":
        lines.append("chosen on val, which the search saw: add `select` to the data, or take --folds 5")
    if result.images < FEW_IMAGES:
        lines.append(f"{result.images} images are few: the true intervals are likely wider")
    lines.append(f"predictions and ensemble files: {result.folder}")
    file = row.predictions.parent / "ensemble.json"
    if row.labels_new:
        lines.append(f"label images by {row.name}: segsweep predict --ensemble {file} --images FOLDER")
    else:
        lines.append(f"{row.name} labels no new images: another tool is among its members")
    return lines
