"""`segsweep best`: the trials of a sweep, each ranked by its best epoch; with several objectives its Pareto front."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from segsweep.run_folder import RunFolder
    from segsweep.search.study import TrialRecord
    from segsweep.sweep_config import SweepConfig

__all__ = ["best", "print_best"]


def best(
    name: Annotated[str, typer.Argument(help="The sweep's name, folder or file.")],
    top: Annotated[int, typer.Option(min=1, help="How many trials to show.")] = 5,
    beaten: Annotated[
        bool, typer.Option("--all", help="With several objectives: also trials that others beat in all of them.")
    ] = False,
    storage: Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Shows the best trials of a sweep, also while it runs; with several objectives those that no other one beats.

    Example: segsweep best nuclei-search --top 5
    """
    from segsweep.run_folder import find_run
    from segsweep.search import trial_records

    folder = find_run(name, storage)
    print_best(trial_records(folder.study()), folder.config(), folder, top, as_json, beaten=beaten)


def print_best(
    records: Sequence["TrialRecord"],
    config: "SweepConfig",
    folder: "RunFolder",
    top: int,
    as_json: bool,
    *,
    beaten: bool = False,
) -> None:
    """Prints a sweep's best trials and how many were over a limit, or the trials as JSON.

    Args:
        records: All trials.
        config: Of the sweep.
        folder: Of the sweep.
        top: How many are shown.
        as_json: Whether as JSON.
        beaten: With several objectives, whether trials are shown too that others beat.
    """
    from segsweep.leaderboard import rank
    from segsweep.pareto import over_limits_line

    if len(config.objectives) == 1:
        print_ranking(rank(records, config.mode)[:top], config.metric, folder, as_json)
    else:
        print_front(records, config, folder, top, as_json, beaten)
    if not as_json and (line := over_limits_line(records)):
        typer.echo(line)


def print_front(
    records: Sequence["TrialRecord"],
    config: "SweepConfig",
    folder: "RunFolder",
    top: int,
    as_json: bool,
    beaten: bool,
) -> None:
    """Prints the trials on the Pareto front, best score first, and how many of how many those are."""
    from segsweep.leaderboard import as_rows
    from segsweep.pareto import front_first, front_rows, front_table, numbers_on_front

    ranked, on_front = front_first(records, config.objectives), numbers_on_front(records, config.objectives)
    chosen = [record for record in ranked if beaten or record.number in on_front][:top]
    if as_json:
        rows = as_rows(chosen, config.metric, folder.trials)
        typer.echo(json.dumps(front_rows(rows, chosen, config.objectives, on_front), indent=2))
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not chosen:
        console.print(f"{folder.path.name}: no trial has a score yet")
        return
    name = f"{folder.path.name}: {'best trials' if beaten else 'Pareto front'}"
    table = front_table(chosen, config.objectives, name, on_front if beaten else ())
    Console(highlight=False, markup=False).print(table)
    more = f"; more by --top {len(on_front)}" if top < len(on_front) else ""
    console.print(f"on the Pareto front{' (*)' if beaten else ''}: {len(on_front)} of {len(ranked)} trials{more}")
    console.print(f"best {config.metric}: {folder.trial(chosen[0].number).best}")


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
