"""`segsweep data pseudo-label`: predictions become labels to train on. Imports segdata."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from segdata.errors import InputError
from segdata.images import list_images
from segdata.predictions import PredictionSet
from segdata.pseudo_labels import SureObjects, SurePixels, overlapping, write_pseudo_labels
from segsweep.cli.image_progress import image_progress

__all__ = ["pseudo_label"]

_SHOWN = 3  # names in a message
SEMANTIC_ONLY = ("below", "unsure", "max_unsure", "background")


def pseudo_label(
    predictions: Annotated[Path, typer.Argument(help="A prediction set: a folder with meta.json.")],
    images: Annotated[Path, typer.Option(help="Folder of the predicted images.")],
    out: Annotated[Path, typer.Option(help="Dataset folder to write.")],
    min_confidence: Annotated[
        float | None, typer.Option(help="Objects below it are left out (0.5); pixels below it become --below.")
    ] = None,
    below: Annotated[str | None, typer.Option(help="What such pixels become: background or ignored.")] = None,
    unsure: Annotated[float | None, typer.Option(help="Pixels up to this confidence are unsure: 0.8.")] = None,
    max_unsure: Annotated[
        float | None, typer.Option(help="Images with more of their foreground unsure are dropped: 0.1.")
    ] = None,
    background: Annotated[str | None, typer.Option(help="Class that is no foreground: background.")] = None,
    keep_empty: Annotated[bool, typer.Option("--keep-empty", help="Keep images without sure labels.")] = False,
    test: Annotated[Path | None, typer.Option(help="Warn of images that are also in this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Writes sure predictions as a data set to train on, with where they come from.

    Example: segsweep data pseudo-label photos-fused --images photos --out data/pseudo
    """
    given: dict[str, Any] = {
        "min_confidence": min_confidence,
        "below": below,
        "unsure": unsure,
        "max_unsure": max_unsure,
        "background": background,
    }
    set_ = {name: value for name, value in given.items() if value is not None}
    found = PredictionSet.open(predictions)
    rules: SureObjects | SurePixels
    if found.meta.task == "instance":
        refuse_semantic_only(set_)
        rules = SureObjects(keep_empty=keep_empty, **set_)
    else:
        rules = SurePixels(keep_empty=keep_empty, **set_)
    tested = [] if test is None else list(images_of_test(test))
    with image_progress("Labelling") as on_image:
        written = write_pseudo_labels(found, images, out, rules, on_image)
    leaked = overlapping(out / "images", tested)
    if leaked:
        shown = ", ".join(leaked[:_SHOWN]) + (" ..." if len(leaked) > _SHOWN else "")
        typer.echo(
            f"warning: {len(leaked)} of these images are test images ({shown}): scores of a model that trains on them "
            f"are optimistic there",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(asdict(written) | {"in_test": list(leaked), "out": str(out)}, indent=2))
        return
    kind = "objects" if found.meta.task == "instance" else "labelled foreground pixels"
    console = Console(highlight=False, markup=False)
    console.print(f"Wrote {written.kept} images with {written.labels} {kind} to {out}", soft_wrap=True)
    if written.dropped:
        console.print(f"dropped {len(written.dropped)} images; pseudo_labels.json says why", soft_wrap=True)


def refuse_semantic_only(given: dict[str, Any]) -> None:
    """Refuses options that are of no use for objects.

    Raises:
        InputError: Naming the first.
    """
    for name in SEMANTIC_ONLY:
        if name in given:
            raise InputError.of(
                "expected semantic predictions with it, but got instance ones",
                where=f"--{name.replace('_', '-')}",
                cure="Leave it out.",
            )


def images_of_test(folder: Path) -> Iterator[Path]:
    """Yields the images of a folder, or of the data set in it.

    Raises:
        DatasetError: There is no such folder.
        InputError: It holds no image.
    """
    inner = folder / "images"
    found = list_images(inner if inner.is_dir() else folder)
    if not found:
        raise InputError.of("expected a folder of images, but got none in it", where=folder, cure="Check --test.")
    yield from found
