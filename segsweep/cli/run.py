"""`segsweep check`, `run` and `resume`: from a sweep file to trials."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["check", "resume", "run"]

Address = Annotated[str | None, typer.Option(help="Ray cluster to run on (`auto` on its head node); none = here.")]
Storage = Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def check(sweep: Annotated[Path, typer.Argument(help="The sweep file.")]) -> None:
    """Checks a sweep file, its data and its space; starts and writes nothing.

    Example: segsweep check nuclei.yaml
    """
    from segsweep.data_roles import check_images, read_roles
    from segsweep.preflight import check_configs
    from segsweep.run_folder import RunFolder
    from segsweep.sweep_file import load_sweep

    loaded = load_sweep(sweep)
    roles = read_roles(loaded)
    check_images(roles)
    check_configs(loaded.space, roles.describe(RunFolder(loaded.path).data), loaded.folder)
    counts = ", ".join(f"{name} {len(role.names)}" for name, role in roles.roles.items())
    size = loaded.space.size()
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{sweep}: fine. Images: {counts}.")
    console.print(
        f"space: {len(loaded.space.parameters)} parameters"
        + (f", {size} combinations" if size is not None else "")
        + f"; budget: {loaded.config.budget.trials} trials. Next: segsweep run {sweep}"
    )


def run(
    sweep: Annotated[Path, typer.Argument(help="The sweep file.")],
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Starts a sweep and runs it to the end of its budget.

    Example: segsweep run nuclei.yaml
    """
    from segsweep.driver import start
    from segsweep.sweep_file import load_sweep

    loaded = load_sweep(sweep)
    show_result(loaded, start(loaded, progress_console(as_json), address), as_json)


def resume(
    name: Annotated[str, typer.Argument(help="The sweep's name, folder or file.")],
    storage: Storage = Path("runs"),
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Goes on with a sweep after Ctrl-C, a crash or a reboot: no trial twice, none lost.

    Example: segsweep resume nuclei-search
    """
    from segsweep.driver import launch
    from segsweep.run_folder import find_run

    loaded = find_run(name, storage).load()
    show_result(loaded, launch(loaded, progress_console(as_json), address), as_json)


def progress_console(as_json: bool) -> Console:
    """Progress goes to standard error when standard output carries JSON."""
    return Console(stderr=as_json)


def show_result(loaded, result, as_json: bool) -> None:  # type: ignore[no-untyped-def]
    """Prints the leaderboard and the next command; exit code 1 if nothing has a score, 130 if interrupted."""
    from segsweep.cli.best import print_ranking
    from segsweep.leaderboard import rank
    from segsweep.run_folder import RunFolder

    config = loaded.config
    ranked = rank(result.records, config.mode)
    print_ranking(ranked[:10], config.metric, RunFolder(loaded.path), as_json)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not result.finished:
        console.print(f"not finished; go on with: segsweep resume {loaded.path}")
        raise typer.Exit(130)
    if not ranked:
        console.print(f"no trial has a score; see the reasons in {RunFolder(loaded.path).trials}/*/train.log")
        raise typer.Exit(1)
    if not as_json:
        console.print(f"next: segsweep ensemble {loaded.path} --top {min(3, len(ranked))}")
