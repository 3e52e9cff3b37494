"""`segsweep best`: the trials of a sweep, each ranked by its best epoch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from segsweep.run_folder import RunFolder
    from segsweep.search.study import TrialRecord

__all__ = ["best", "print_ranking"]


def best(
    name: Annotated[str, typer.Argument(help="The sweep's name, folder or file.")],
    top: Annotated[int, typer.Option(min=1, help="How many trials to show.")] = 5,
    storage: Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Shows the best trials of a sweep, also while it runs.

    Example: segsweep best nuclei-search --top 5
    """
    from segsweep.leaderboard import rank
    from segsweep.run_folder import find_run
    from segsweep.search import trial_records

    folder = find_run(name, storage)
    config = folder.config()
    ranked = rank(trial_records(folder.study()), config.mode)
    print_ranking(ranked[:top], config.metric, folder, as_json)


def print_ranking(ranked: Sequence["TrialRecord"], metric: str, folder: "RunFolder", as_json: bool) -> None:
    """Prints ranked trials as a table with the best one's folder, or as JSON."""
    from segsweep.leaderboard import as_rows, initial_weights, leaderboard_table

    if as_json:
        typer.echo(json.dumps(as_rows(ranked, metric, folder.trials), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not ranked:
        console.print(f"{folder.path.name}: no trial has a score yet")
        return
    Console(highlight=False, markup=False).print(leaderboard_table(ranked, metric, f"{folder.path.name}: best trials"))
    console.print(f"best weights: {folder.trial(ranked[0].number).best}")
    started = initial_weights(folder.trials, ranked[0])
    if started is not None:
        console.print(f"started from {started}")
