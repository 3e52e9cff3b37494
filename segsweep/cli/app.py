"""The `segsweep` command: its subcommands, and how an error becomes one message and an exit code.

Exit codes: 0 done, 1 the work failed, 2 the input was wrong, 130 interrupted. Commands import what they need when
they run, so that `--help` is quick.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from segdata.errors import SegsweepError
from segsweep.cli.best import best
from segsweep.cli.data import data_app
from segsweep.cli.demo import demo
from segsweep.cli.doctor import doctor
from segsweep.cli.ensemble import ensemble
from segsweep.cli.predict import predict
from segsweep.cli.run import check, resume, run
from segsweep.cli.score import score
from segsweep.cli.spaces import spaces_app
from segsweep.cli.steer import enqueue, stop_trial
from segsweep.cli.ui import ui
from segsweep.cli.weights import weights_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="segsweep",
    help="Finds the best segmentation models for your images and combines them into an ensemble.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    """Prints the version and ends, before a command is asked for."""
    if wanted:
        typer.echo(f"segsweep {version('segsweep')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    show_version: Version = False,
) -> None:
    """Options of every command."""
    if debug:
        os.environ["SEGSWEEP_DEBUG"] = "1"


for command in (demo, doctor, check, run, resume, enqueue, stop_trial, best, ensemble, predict, score, ui):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(spaces_app, name="spaces")
app.add_typer(weights_app, name="weights")


def main() -> None:
    """Runs the command; errors that we raise on purpose end in one message on standard error."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a sweep reports to nobody
    try:
        app()
    except SegsweepError as error:
        if os.environ.get("SEGSWEEP_DEBUG"):
            raise
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", markup=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        sys.exit(130)
