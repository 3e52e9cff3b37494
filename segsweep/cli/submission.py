"""`segsweep data submission`: a prediction set in the form that a contest or another tool takes. Imports segdata."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from segdata.atomic import refuse_existing, refuse_existing_file
from segdata.errors import InputError
from segdata.predictions import PredictionSet
from segsweep.cli.image_progress import image_progress

__all__ = ["submission"]

FORMATS = ("coco", "png", "pixels-csv", "template")
# Option -> the formats that it goes with, and the one task that it is for; None = both.
FITTING: dict[str, tuple[tuple[str, ...], str | None]] = {
    "--min-confidence": (("coco", "png", "template"), "instance"),
    "--max-detections": (("coco", "png", "template"), "instance"),
    "--disjoint": (("coco", "template"), "instance"),
    "--palette": (("png",), "semantic"),
    "--size": (("pixels-csv",), None),
    "--columns": (("pixels-csv",), None),
    "--order": (("pixels-csv", "template"), None),
    "--template": (("template",), None),
    "--set": (("template",), None),
}


def submission(
    predictions: Annotated[Path, typer.Argument(help="A prediction set: a folder with meta.json.")],
    format_name: Annotated[str, typer.Option("--format", help="coco, png, pixels-csv or template.")],
    out: Annotated[Path, typer.Option(help="File to write; for png a folder.")],
    min_confidence: Annotated[float | None, typer.Option(help="Leave out objects below it.")] = None,
    max_detections: Annotated[int | None, typer.Option(help="Most objects an image, the surest ones.")] = None,
    disjoint: Annotated[bool, typer.Option("--disjoint", help="A pixel belongs to its surest object only.")] = False,
    ids: Annotated[str | None, typer.Option(help="Ids of the classes, as 0,7,8; none = leave out (coco).")] = None,
    palette: Annotated[bool, typer.Option("--palette", help="Colour label PNGs; the values stay.")] = False,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of label maps, by nearest pixel.")] = None,
    columns: Annotated[str | None, typer.Option(help="Names of the two columns, as id,pixels.")] = None,
    order: Annotated[Path | None, typer.Option(help="CSV file with a row for each image, in order.")] = None,
    template: Annotated[Path | None, typer.Option(help="Jinja template of the file to write.")] = None,
    variables: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE for the template.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Writes predictions as COCO results, label PNGs, a CSV of pixels, or by a template.

    Example: segsweep data submission litter-fused --format pixels-csv --size 256x256 --out submission.csv
    """
    from segdata.submission_order import read_order
    from segdata.submissions import ObjectChoice, Submission

    given = {
        "--min-confidence": min_confidence,
        "--max-detections": max_detections,
        "--disjoint": disjoint or None,
        "--palette": palette or None,
        "--size": size,
        "--columns": columns,
        "--order": order,
        "--template": template,
        "--set": variables,
    }
    refuse_unknown_format(format_name)
    found = PredictionSet.open(predictions)
    refuse_unfitting(format_name, found.meta.task, [name for name, value in given.items() if value is not None])
    (refuse_existing if format_name == "png" else refuse_existing_file)(out)
    choice = ObjectChoice(0.0 if min_confidence is None else min_confidence, max_detections, disjoint)
    as_ids = None if ids is None else read_ids(ids)
    listed = None if order is None else read_order(order, found.meta.images)
    handed_in = Submission(found, choice=choice, ids=as_ids, order=listed)
    options: dict[str, Any] = {"palette": palette, "size": None if size is None else read_size(size)}
    options |= {"columns": None if columns is None else columns.split(",")}
    options |= {"template": template, "variables": read_variables(variables or [])}
    count = write(handed_in, format_name, out, options)
    told = {"format": format_name, "images": len(handed_in), "objects": count, "out": str(out)}
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    objects = "" if count is None else f" with {count} objects"
    Console(highlight=False, markup=False).print(f"Wrote {len(handed_in)} images{objects} to {out}", soft_wrap=True)


def write(handed_in: Any, format_name: str, out: Path, options: dict[str, Any]) -> int | None:
    """Writes the file or folder; returns how many objects it holds where it holds objects."""
    from segdata import submission_formats as formats
    from segdata.submission_template import write_by_template

    with image_progress(f"Writing {out.name}") as on_image:
        if format_name == "coco":
            return formats.write_coco_results(handed_in, out, on_image)
        if format_name == "pixels-csv":
            size, columns = options["size"], options["columns"]
            formats.write_pixel_csv(handed_in, out, columns=columns, size=size, on_image=on_image)
        elif format_name == "template":
            variables = options["variables"]
            write_by_template(handed_in, options["template"], out, variables=variables, on_image=on_image)
        elif handed_in.predictions.meta.task == "instance":
            return formats.write_number_pngs(handed_in, out, on_image)
        else:
            formats.write_label_pngs(handed_in, out, palette=options["palette"], on_image=on_image)
    return None


def refuse_unknown_format(name: str) -> None:
    """Raises InputError for a format that is none."""
    if name not in FORMATS:
        raise InputError.of(
            f"expected one of {', '.join(FORMATS)}, but got {name!r}", where="--format", cure="Choose one of these."
        )


def refuse_unfitting(format_name: str, task: str, given: Sequence[str]) -> None:
    """Refuses options that the format or the task has no use for, and a format that the task can't fill.

    Raises:
        InputError: Naming the option.
    """
    if format_name == "pixels-csv" and task == "instance":
        raise InputError.of(
            "expected a semantic prediction set with it, but got an instance one",
            where="--format pixels-csv",
            cure="Take --format coco, png or template.",
        )
    if format_name == "template" and "--template" not in given:
        raise InputError.of(
            "expected --template FILE with it, but got none", where="--format template", cure="Name the template."
        )
    for name in given:
        formats, only_task = FITTING[name]
        if format_name not in formats:
            raise InputError.of(
                f"expected --format {' or '.join(formats)} with it, but got {format_name}",
                where=name,
                cure="Leave it out.",
            )
        if only_task is not None and task != only_task:
            raise InputError.of(
                f"expected {only_task} predictions with it, but got {task} ones", where=name, cure="Leave it out."
            )


def read_ids(text: str) -> list[int | None]:
    """Reads ids of classes: whole numbers, or "none", separated by commas.

    Raises:
        InputError: One is neither.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = next((part for part in parts if part != "none" and not re.fullmatch(r"\d{1,9}", part)), None)
    if wrong is not None:
        raise InputError.of(
            f"expected whole numbers or none, separated by commas, but got {wrong!r}",
            where="--ids",
            cure="Write one a class, as 0,7,8.",
        )
    return [None if part == "none" else int(part) for part in parts]


def read_size(text: str) -> tuple[int, int]:
    """Reads WIDTHxHEIGHT in pixels.

    Raises:
        InputError: It is none, or a side is not from 1 to 65535.
    """
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    sides = (0, 0) if found is None else (int(found[1]), int(found[2]))
    if not all(1 <= side <= 65535 for side in sides):
        raise InputError.of(
            f"expected WIDTHxHEIGHT in pixels, each 1 to 65535, but got {text!r}",
            where="--size",
            cure="Write 256x256, say.",
        )
    return sides


def read_variables(texts: Sequence[str]) -> dict[str, str]:
    """Reads NAME=VALUE.

    Raises:
        InputError: One has no name, or is given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier() or name in values:
            found = f"{name} twice" if name in values else repr(text)
            raise InputError.of(f"expected NAME=VALUE, but got {found}", where="--set", cure="Write class=bag, say.")
        values[name] = value
    return values
