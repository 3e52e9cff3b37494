"""`segsweep ensemble`: fuse the best trials and score members and ensemble on unseen data."""

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from segsweep.ensembles.building import EnsembleResult, ScoreRow

__all__ = ["ensemble", "ensemble_table"]

# Columns beside the sweep's own metric, by task.
COLUMNS = {
    "instance": ("segm_mAP", "segm_mAP_50", "segm_mAP_75", "bbox_mAP"),
    "semantic": ("mIoU", "mIoU_per_image", "accuracy"),
}


def ensemble(
    name: Annotated[str, typer.Argument(help="The sweep's name, folder or file.")],
    top: Annotated[int | None, typer.Option(min=1, help="How many trials; none = the sweep file's.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Fusion method; may be given several times.")] = None,
    on: Annotated[str | None, typer.Option(help="Role to score on; none = test, else select.")] = None,
    setting: Annotated[list[str] | None, typer.Option(help="Setting of fusion, NAME=VALUE; may be repeated.")] = None,
    storage: Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Combines the best trials and scores them on data that the search did not see.

    Example: segsweep ensemble nuclei-search --top 3 --method nms --setting overlap=box
    """
    from segsweep.ensembles.fusion_config import FusionConfig, read_settings
    from segsweep.run_folder import find_run

    own = read_settings(setting or [])
    sweep = find_run(name, storage).load()
    from segsweep.ensembles.building import build_ensembles  # loads MLflow: a wrong name is told sooner

    config = sweep.config
    methods = tuple(method) if method else config.ensemble_methods()
    console = Console(stderr=as_json, highlight=False, markup=False)
    threads = os.cpu_count() or 1
    fixed = FusionConfig(**(config.ensemble.settings.named() | own.named()))
    result = build_ensembles(sweep, top or config.ensemble.top, methods, on, threads, console, fixed)
    if as_json:
        typer.echo(json.dumps(as_values(result), indent=2))
        return
    console.print(ensemble_table(result, config.task))
    for row in result.ensembles:
        if row.tuned is not None:
            console.print(settings_line(row, result))
    seen = " (the search saw these images: optimistic)" if result.role in ("train", "val") else ""
    gap = f"{abs(result.gain):.4f}"
    verdict = f"{gap} better than" if result.gain > 0 else f"{gap} worse than" if result.gain < 0 else "as good as"
    verdict = f"not comparable by {result.metric} with" if math.isnan(result.gain) else verdict
    console.print(f"the ensemble is {verdict} its best member on {result.role}{seen}")
    console.print(f"predictions and ensemble file: {result.folder}", soft_wrap=True)


def settings_line(row: "ScoreRow", result: "EnsembleResult") -> str:
    """Says which fusion settings were chosen, where, and what they gained there."""
    assert row.tuned is not None
    settings, tuned = row.tuned.settings, row.tuned
    defaults = type(settings)()
    named = [f"{name}={value}" for name, value in asdict(settings).items() if value != getattr(defaults, name)]
    told = " ".join(named) or "the defaults"
    return (
        f"{row.name}: {told}, chosen on "
        f"{result.tuning_role} ({result.metric} {tuned.score:.4f}; with the defaults {tuned.default_score:.4f})"
    )


def ensemble_table(result: "EnsembleResult", task: str) -> Table:
    """Returns members and ensembles with the task's main scores, at most 80 columns."""
    names = tuple(dict.fromkeys((result.metric, *COLUMNS[task])))
    table = Table(title=f"scores on {result.role}", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    best = result.best((*result.members, *result.ensembles))
    for row in (*result.members, *result.ensembles):
        style = "bold" if row.scores[result.metric] == best else ""
        table.add_row(row.name, *(f"{row.scores[name]:.4f}" for name in names), style=style)
    return table


def as_values(result: "EnsembleResult") -> dict[str, Any]:
    """Returns the result for `--json`."""
    rows = [
        {"name": row.name, "predictions": str(row.predictions), "scores": row.scores}
        for row in (*result.members, *result.ensembles)
    ]
    return {"role": result.role, "metric": result.metric, "gain": result.gain, "rows": rows}
