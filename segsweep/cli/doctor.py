"""`segsweep doctor`: prints the table of segsweep.doctor."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segsweep.doctor import Check, Machine, run_checks

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    storage: Annotated[Path, typer.Option(help="Folder that sweeps are stored in.")] = Path("runs"),
    tracking_uri: Annotated[str, typer.Option(help="MLflow store.")] = "sqlite:///mlflow.db",
    start_ray: Annotated[bool, typer.Option("--start-ray", help="Start a local Ray and run a task on it.")] = False,
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster file of your own machines: ask these, not this one, over SSH.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Checks that this machine can run sweeps, or that `ray up` is let in on those of a cluster file; exit code 1 when
    something fails.

    Example: segsweep doctor --storage runs --start-ray
    """
    if cluster is None:
        checks = run_checks(Machine(storage=storage, tracking_uri=tracking_uri, start_ray=start_ray))
    else:
        from segsweep.clusters.hosts import check_hosts

        checks = check_hosts(cluster)
    healthy = all(check.status != "fail" for check in checks)
    if as_json:
        print(json.dumps({"ok": healthy, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        Console().print(table_of(checks))
    if not healthy:
        raise typer.Exit(1)


def table_of(checks: tuple[Check, ...]) -> Table:
    """One row a check, the cure on lines of its own under what was found."""
    table = Table(box=None, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        style = STYLES[check.status]
        found = escape(check.found) + (f"\n[bold]cure:[/] {escape(check.cure)}" if check.cure else "")
        table.add_row(check.name, f"[{style}]{check.status}[/]", found)
    return table
