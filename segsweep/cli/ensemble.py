"""`segsweep ensemble`: candidates from a sweep's best trials, fused and chosen, scored on unseen data."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["ensemble"]

OPTIONS = {  # field of the sweep file's section -> option
    "top": "--top",
    "methods": "--method",
    "select": "--select",
    "tta": "--tta",
    "folds": "--folds",
    "epochs": "--epochs",
    "averages": "--averages",
    "add": "--add",
    "most_models": "--most-models",
    "most_milliseconds": "--most-ms",
    "stride": "--stride",
}


def ensemble(
    name: Annotated[str, typer.Argument(help="The sweep's name, folder or file.")],
    top: Annotated[int | None, typer.Option(min=1, help="How many trials; none = the sweep file's.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Fusion method; may be given several times.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="all, greedy, or both by giving it twice.")] = None,
    tta: Annotated[str | None, typer.Option(help="Views as further candidates: hflip,rot90,scale1.25")] = None,
    folds: Annotated[int | None, typer.Option(help="Train each configuration on so many folds; goes on.")] = None,
    epochs: Annotated[bool | None, typer.Option("--epochs/--no-epochs", help="Kept epochs are candidates.")] = None,
    averages: Annotated[
        bool | None, typer.Option("--averages/--no-averages", help="Averages of weights are candidates.")
    ] = None,
    add: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of another tool's predictions.")] = None,
    most_models: Annotated[int | None, typer.Option(help="Networks that a chosen ensemble may have.")] = None,
    most_ms: Annotated[float | None, typer.Option(help="Milliseconds that it may take for an image.")] = None,
    on: Annotated[str | None, typer.Option(help="Role to score on; none = test, else select.")] = None,
    setting: Annotated[list[str] | None, typer.Option(help="Setting of fusion, NAME=VALUE; may be repeated.")] = None,
    stride: Annotated[int | None, typer.Option(help="Pixels a side that share a stored probability.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes, or Ray tasks, that share the work.")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster to work on; none = this machine.")] = None,
    storage: Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Combines the best trials, chooses the best combination, and scores it on data that the search did not see.

    Example: segsweep ensemble nuclei --top 3 --tta hflip,rot90 --method wbf --method mask-fusion
    """
    from segsweep.ensembles.ensemble_config import with_options
    from segsweep.ensembles.fusion_config import FusionConfig, read_settings
    from segsweep.ensembles.other_tools import read_pairs
    from segsweep.run_folder import find_run

    given = {
        "top": top,
        "methods": tuple(method) if method else None,
        "select": tuple(select) if select else None,
        "tta": None if tta is None else tuple(part.strip() for part in tta.split(",") if part.strip()),
        "folds": folds,
        "epochs": epochs,
        "averages": averages,
        "add": read_pairs(add) if add else None,
        "most_models": most_models,
        "most_milliseconds": most_ms,
        "stride": stride,
    }
    own = read_settings(setting or [])
    sweep = find_run(name, storage).load()
    section = with_options(sweep.config.ensemble, given, OPTIONS)
    fixed = FusionConfig(**(section.settings.named() | own.named()))
    from segsweep.cli.ensemble_record import ensemble_record
    from segsweep.cli.ensemble_tables import print_result
    from segsweep.ensembles.building import build_ensembles  # loads MLflow: a wrong name is told sooner
    from segsweep.predicting import How

    console = Console(stderr=as_json, highlight=False, markup=False)
    how = How(processes=processes, threads=os.cpu_count() or 1, address=address)
    result = build_ensembles(sweep, section.model_copy(update={"settings": fixed}), on, how, console)
    if as_json:
        typer.echo(json.dumps(ensemble_record(result), indent=2, allow_nan=False))
    else:
        print_result(result, console)
