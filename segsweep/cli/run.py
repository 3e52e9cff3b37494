"""`segsweep check`, `run` and `resume`: from a sweep file to trials."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from segsweep.driver import SweepResult
    from segsweep.sweep_file import Sweep

__all__ = ["check", "resume", "run"]

Address = Annotated[str | None, typer.Option(help="Ray cluster to run on (`auto` on its head node); none = here.")]
Storage = Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")]
MORE = "as a number, or + and what comes on top."
Trials = Annotated[str | None, typer.Option(help=f"A larger number of trials, {MORE}")]
Hours = Annotated[str | None, typer.Option(help=f"Other hours a launch, {MORE}")]
Patience = Annotated[str | None, typer.Option(help=f"A larger patience, {MORE}")]
DeviceHours = Annotated[str | None, typer.Option(help=f"More device hours, {MORE}")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

ON_WITH = {  # end of a launch -> how the sweep goes on
    "out-of-time": "for as long again: segsweep resume {}",
    "out-of-patience": "for more: segsweep resume {} --patience +10",
    "out-of-device-hours": "for more: segsweep resume {} --device-hours +1",
}
INTERRUPTED = 130  # what shells give a command that Ctrl-C ended


def check(sweep: Annotated[Path, typer.Argument(help="The sweep file.")], address: Address = None) -> None:
    """Checks a sweep file, its data and its space; with --address, also the nodes of a cluster. Starts and writes
    nothing.

    Example: segsweep check nuclei.yaml
    """
    from segsweep.sweep_file import load_sweep

    loaded = load_sweep(sweep)  # most mistakes end here, before the seconds that the next imports take
    from segsweep.launch_checks import check_sweep
    from segsweep.preflight import check_devices
    from segsweep.resources import gpus_in_reach
    from segsweep.run_folder import RunFolder

    console, folder = Console(highlight=False, soft_wrap=True, markup=False), RunFolder(loaded.path)
    if address is None:  # a cluster has devices of its own
        wanted = loaded.config.resources
        gpu = gpus_in_reach(wanted)
        by_model = {name: gpus_in_reach(own, gpu) for name, own in wanted.models.items()}
        check_devices(loaded.space, loaded.config.task, gpu, by_model)
    checked = check_sweep(loaded, folder, console)
    roles = checked.roles
    if address is not None:
        from segsweep.clusters.fleet import check_on_cluster  # loads Ray

        check_on_cluster(loaded, checked, address, console)
    counts = ", ".join(f"{name} {len(role.names)}" for name, role in roles.roles.items())
    size = loaded.space.size()
    print_notes(loaded, console)
    there = "" if address is None else f" --address {address}"
    following = f"segsweep run {sweep}{there}"
    if folder.exists:
        following = f"segsweep resume {folder.path}{there}, as it has begun"
    console.print(f"{sweep}: fine. Images: {counts}.")
    console.print(
        f"space: {len(loaded.space.parameters)} parameters"
        + (f", {size} combinations" if size is not None else "")
        + f"; budget: {loaded.config.budget.trials} trials. Next: {following}"
    )


def run(
    sweep: Annotated[Path, typer.Argument(help="The sweep file.")],
    address: Address = None,
    trials: Trials = None,
    as_json: AsJson = False,
) -> None:
    """Starts a sweep and runs it to the end of its budget; with --trials, goes on with one that has begun.

    Example: segsweep run nuclei.yaml
    """
    if trials is not None:
        resume(str(sweep), address=address, trials=trials, as_json=as_json)
        return
    from segsweep.sweep_file import load_sweep

    loaded = load_sweep(sweep)
    with resume_hint(loaded.path):
        console = progress_console(as_json)
        print_notes(loaded, console)
        console.print(f"starting {loaded.config.name}: loading Ray and MLflow", highlight=False)
        from segsweep.driver import start

        result = start(loaded, console, address)
    show_result(loaded, result, as_json)


def resume(
    name: Annotated[str, typer.Argument(help="The sweep's name, folder or file.")],
    storage: Storage = Path("runs"),
    address: Address = None,
    trials: Trials = None,
    hours: Hours = None,
    patience: Patience = None,
    device_hours: DeviceHours = None,
    as_json: AsJson = False,
) -> None:
    """Goes on with a sweep after Ctrl-C, a crash or a reboot: no trial twice, none lost. A finished one goes on with a
    larger budget.

    Example: segsweep resume nuclei-search
    """
    from segsweep.run_folder import find_run

    loaded = find_run(name, storage).load()
    with resume_hint(loaded.path):
        console = progress_console(as_json)
        console.print(f"resuming {loaded.config.name}: loading Ray and MLflow", highlight=False)
        from segsweep.driver import resume as go_on
        from segsweep.ending import Extension

        result = go_on(loaded, console, address, Extension(trials, hours, patience, device_hours))
    show_result(loaded, result, as_json)


def print_notes(loaded: "Sweep", console: Console) -> None:
    """Says what won over what where presets and included files disagree."""
    for note in loaded.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def progress_console(as_json: bool) -> Console:
    """Progress goes to standard error when standard output carries JSON."""
    return Console(stderr=as_json, markup=False)


@contextmanager
def resume_hint(folder: Path) -> Iterator[None]:
    """Says how to go on after a Ctrl-C that came before or after the trials."""
    try:
        yield
    except KeyboardInterrupt:
        begun = (folder / "sweep.yaml").is_file()
        say_interrupted(folder if begun else None)
        raise typer.Exit(INTERRUPTED) from None


def say_interrupted(folder: Path | None) -> None:
    """Tells the user what a Ctrl-C left."""
    left = "nothing was started" if folder is None else f"go on with: segsweep resume {folder}"
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"interrupted; {left}")


def show_result(loaded: "Sweep", result: "SweepResult", as_json: bool) -> None:
    """Prints the leaderboard and the next command; exit code 1 if nothing has a score, 130 if interrupted."""
    from segsweep.cli.best import print_best
    from segsweep.leaderboard import rank
    from segsweep.run_folder import RunFolder

    config, folder = loaded.config, RunFolder(loaded.path)
    ranked = rank(result.records, config.mode)
    print_best(result.records, config, folder, 10, as_json)
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    if result.end == "interrupted":
        say_interrupted(folder.path)
        raise typer.Exit(INTERRUPTED)
    if result.end in ON_WITH:
        console.print(f"{result.reason}; {ON_WITH[result.end].format(folder.path)}")
    if not ranked:
        console.print(f"no trial has a score; see the reasons in {folder.trials}/*/train.log")
        raise typer.Exit(1)
    if not as_json and len(ranked) > 1:
        console.print(f"next: segsweep ensemble {folder.path} --top {min(3, len(ranked))}")
