"""`segsweep weights fetch`: all published weights that a sweep can need, once on each node."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from segsweep.weights_fetch import Row

__all__ = ["weights_app"]

weights_app = typer.Typer(help="Published weights that trials start from.", no_args_is_help=True)


@weights_app.callback()
def group() -> None:
    """Published weights that trials start from."""


@weights_app.command("fetch")
def fetch(
    sweep: Annotated[Path, typer.Argument(help="The sweep file.")],
    mirror: Annotated[str | None, typer.Option(help="URL that serves the files by their names.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to; trials look in SEGSWEEP_WEIGHTS.")] = None,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Longest silence of a server, in seconds.")] = 30.0,
    tries: Annotated[int, typer.Option(min=1, help="How often to ask again without a byte gained.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Downloads all weights that a sweep's `init` can need; run it once on each node. It goes on where it stopped.

    The files go to SEGSWEEP_WEIGHTS, else to `weights: {folder: ...}` of the sweep file, else to torch's cache.

    Example: segsweep weights fetch nuclei.yaml
    """
    from segsweep.downloads import Patience
    from segsweep.initial_weights import needed_files, other_sweeps
    from segsweep.run_folder import RunFolder
    from segsweep.sweep_file import load_sweep
    from segsweep.weights_fetch import fetch_all
    from trainables.initial_parts import weights_folder

    loaded = load_sweep(sweep)
    needed = needed_files(loaded, other_sweeps(loaded, RunFolder(loaded.path)))
    place = folder.expanduser().absolute() if folder is not None else weights_folder(loaded.weights)
    source = mirror or os.environ.get("SEGSWEEP_WEIGHTS_MIRROR") or loaded.config.weights.mirror
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    rows = fetch_all(needed, place, source, console, Patience(timeout_s, tries))
    show(rows, place, as_json)
    failed = [row for row in rows if row.state == "failed"]
    for row in failed:
        console.print(f"error: {row.problem}")
    if failed:
        raise typer.Exit(1)


def show(rows: Sequence["Row"], folder: Path, as_json: bool) -> None:
    """Prints what became of each file."""
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "files": [asdict(row) for row in rows]}, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if not rows:
        console.print("this sweep needs no published weights")
        return
    table = Table(Column("file", overflow="fold"), "MB", "from", "state", box=None, pad_edge=False)
    for row in rows:
        size = "-" if row.bytes is None else f"{row.bytes / 1e6:.1f}"
        table.add_row(row.file, size, row.source, row.state)
    console.print(table)
    console.print(f"{sum(row.state != 'failed' for row in rows)} of {len(rows)} files in {folder}")
