"""`segsweep demo`: everything once, on synthetic pictures."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["demo"]


def demo(out: Annotated[Path, typer.Option(help="Folder to write to; must be new or empty.")] = Path("demo")) -> None:
    """Runs a sweep and an ensemble on synthetic images, for both tasks: 2 to 8 minutes on two CPUs.

    Example: segsweep demo --out demo
    """
    from segsweep.cli.ensemble_tables import print_scores
    from segsweep.demo import run_demo
    from segsweep.leaderboard import leaderboard_table, rank

    console = Console(highlight=False)
    results = run_demo(out, os.cpu_count() or 1, console)
    console.rule("results")
    for result in results:
        config = result.sweep.config
        ranked = rank(result.trials.records, config.mode)
        console.print(leaderboard_table(ranked, config.metric, f"{config.name}: trials"))
        print_scores(result.ensemble, console)
        console.print(f"picture: {result.picture}", soft_wrap=True)
        console.print()
    console.print(f"sweep files, trials, ensembles, MLflow store: {out}", soft_wrap=True)
    console.print(f"next: segsweep ui {results[0].sweep.path}    (MLflow in the browser)", soft_wrap=True)
    console.print("      then write a sweep file for your own images: see examples/ and the README", soft_wrap=True)
