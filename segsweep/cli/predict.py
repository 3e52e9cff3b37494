"""`segsweep predict`: images through a trained network or an ensemble, into a prediction set."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from segdata.errors import InputError, TrialError

if TYPE_CHECKING:
    from segsweep.predicting import Predicted
    from segsweep.prediction_source import ImagesSource, Source

__all__ = ["predict"]


def predict(
    source: Annotated[
        str | None, typer.Argument(help="A trial's folder, an ensemble's, or a sweep by name or folder.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of images, labelled or not.")] = None,
    out: Annotated[Path, typer.Option(help="Prediction set to write; goes on with one that was broken off.")] = Path(
        "predictions"
    ),
    role: Annotated[str | None, typer.Option(help="Instead of --images: test, val ... of the sweep.")] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Of the sweep; none = the best with weights.")] = None,
    ensemble: Annotated[Path | None, typer.Option(help="Instead of SOURCE: an ensemble.json, or its folder.")] = None,
    config: Annotated[Path | None, typer.Option(help="Instead of SOURCE: config of an MMDet or MMSeg model.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="With --config: its weights.")] = None,
    window: Annotated[int | None, typer.Option(help="Side of sliding windows, px of the network's input.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of a window that neighbours see too.")] = 0.25,
    scale: Annotated[float | None, typer.Option(help="Network px for an image px; none = as in training.")] = None,
    tta: Annotated[str | None, typer.Option(help="More views to fuse, as hflip,rot90+scale1.25,window512.")] = None,
    tta_method: Annotated[str | None, typer.Option(help="Of fusing them; none = soft-vote or mask-fusion.")] = None,
    stride: Annotated[int, typer.Option(help="Image pixels per stored class probability, per side.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images or windows that go through the network together.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes, or Ray tasks, that share the images.")] = 1,
    address: Annotated[str | None, typer.Option(help="Ray cluster to predict on; none = this machine.")] = None,
    storage: Annotated[Path, typer.Option(help="Folder that holds the sweeps' folders.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Predicts images with a trial, a sweep's best trial, an ensemble, or any stock checkpoint.

    Example: segsweep predict nuclei --images photos --out predictions --window 512 --tta hflip,vflip
    """
    from segsweep.ensembles.predicting import ViewChoice, predict_source, read_views
    from segsweep.predicting import How
    from segsweep.prediction_source import images_of_folder, images_of_role
    from trainables.prediction_job import WindowChoice

    if scale is not None and window is None:
        raise InputError.of("expected --window with it, but got none", where="--scale", cure="Name both or neither.")
    if tta_method is not None and tta is None:
        raise InputError.of("expected --tta with it, but got none", where="--tta-method", cure="Name both or neither.")
    views = None if tta is None else ViewChoice(read_views(tta), tta_method)
    windows = None if window is None else WindowChoice(window, overlap, scale)
    how = How(windows, batch, processes, os.cpu_count() or 1, address, stride)
    network = chosen_source(source, ensemble, config, checkpoint, storage, trial)
    if (images is None) == (role is None):
        raise InputError.of(
            f"expected --images FOLDER or --role NAME, but got {'neither' if images is None else 'both'}",
            where="segsweep predict",
            cure="Name one of them.",
        )
    listed: ImagesSource = images_of_role(network, role) if role is not None else images_of_folder(Path(str(images)))
    console = Console(stderr=True, highlight=False, markup=False)
    result = predict_source(network, listed, out, how, console, views)
    report(result, network, as_json)


def chosen_source(
    source: str | None,
    ensemble: Path | None,
    config: Path | None,
    checkpoint: Path | None,
    storage: Path,
    trial: int | None,
) -> "Source":
    """Returns what to predict with.

    Raises:
        InputError: It is named twice, by half or not at all, or is not there.
    """
    from segsweep.prediction_source import ensemble_source, find_source, stock_source

    given = {"SOURCE": source, "--trial": trial, "--ensemble": ensemble, "--config": config, "--checkpoint": checkpoint}
    named = {name for name, value in given.items() if value is not None}
    if source is not None and named <= {"SOURCE", "--trial"}:
        return find_source(source, storage, trial)
    if ensemble is not None and named == {"--ensemble"}:
        return ensemble_source(ensemble)
    if config is not None and checkpoint is not None and named == {"--config", "--checkpoint"}:
        return stock_source(config, checkpoint)
    raise InputError.of(
        "expected SOURCE, --ensemble FILE, or --config FILE with --checkpoint FILE, "
        f"but got {', '.join(name for name in given if name in named) or 'neither'}",
        where="segsweep predict",
        cure="Name one network or ensemble.",
    )


def report(result: "Predicted", source: "Source", as_json: bool) -> None:
    """Prints what was predicted.

    Raises:
        TrialError: Images are left out of the set; each was named with its reason.
    """
    if as_json:
        values = {"predictions": str(result.out), "source": source.name, "images": result.images}
        typer.echo(json.dumps(values | {"predicted_now": result.fresh, "failed": result.failed}, indent=2))
    else:
        before = result.images - result.fresh
        known = f", {before} of them before" if before else ""
        typer.echo(f"{source.name}: {result.images} images predicted{known}")
        typer.echo(f"predictions: {result.out}")
    for reason in result.failed.values():
        typer.echo(f"left out: {reason}", err=True)
    if result.failed:
        raise TrialError.of(
            f"expected to predict {result.images + len(result.failed)} images, but {len(result.failed)} failed",
            where=result.out,
            cure="Replace them and run the same command: it predicts what is missing.",
        )
