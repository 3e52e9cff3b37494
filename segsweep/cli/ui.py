"""`segsweep ui`: MLflow's own web pages on a sweep's store."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ui"]


def ui(
    sweep: Annotated[str | None, typer.Argument(help="A sweep's name, folder or file; none = ./mlflow.db.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    storage: Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")] = Path("runs"),
) -> None:
    """Opens MLflow's web pages on 127.0.0.1, until Ctrl-C.

    Example: segsweep ui --port 5000
    """
    from segsweep.run_folder import find_run
    from segtrack.store import resolve_uri

    if sweep is None:
        uri = resolve_uri("sqlite:///mlflow.db", Path.cwd())
    else:
        folder = find_run(sweep, storage)
        uri = resolve_uri(folder.config().tracking.uri, Path(folder.read_origin().folder))
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--port", str(port)])
