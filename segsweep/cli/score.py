"""`segsweep score`: a prediction set against the truth. Imports Typer, rich, `segdata` and `segscore`."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from segdata.coco import InstanceDataset, read_coco
from segdata.errors import InputError
from segdata.labelmaps import SemanticDataset, read_labels
from segdata.predictions import PredictionSet
from segscore import InstanceScores, all_metrics, score_reports
from segscore.metrics import Scores

__all__ = ["score"]

_WIDTH = 80


def score(
    predictions: Annotated[Path, typer.Argument(help="A prediction set: a folder with meta.json.")],
    annotations: Annotated[Path | None, typer.Option(help="Truth of instances: a COCO JSON file.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Truth of pixels: a folder of label maps.")] = None,
    images: Annotated[Path | None, typer.Option(help="The images of --labels.")] = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Detections that count an image and class; default: all there are.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, unrounded.")] = False,
) -> None:
    """Scores predictions of a model or an ensemble, on the images of the truth.

    Example: segsweep score runs/nuclei/ensemble/predictions --annotations data/nuclei/test.json
    """
    truth = _truth(annotations, labels, images)
    reports = score_reports(truth, PredictionSet.open(predictions), max_detections=max_detections)
    if as_json:
        typer.echo(json.dumps(_record(predictions, reports), indent=2, allow_nan=False))
        return
    console = Console(width=_WIDTH, markup=False, highlight=False)
    for scores in reports:
        console.print(_table(scores))
        console.print(_averaging(scores))


def _truth(annotations: Path | None, labels: Path | None, images: Path | None) -> InstanceDataset | SemanticDataset:
    if annotations is not None and labels is None:
        return read_coco(annotations)
    if annotations is None and labels is not None and images is not None:
        return read_labels(images, labels)
    given = {"--annotations": annotations, "--labels": labels, "--images": images}
    raise InputError.of(
        "expected --annotations FILE, or --labels FOLDER with --images FOLDER, "
        f"but got {', '.join(name for name, path in given.items() if path is not None) or 'neither'}",
        where="segsweep score",
        cure="Name the truth of the predicted images.",
    )


def _record(predictions: Path, reports: tuple[Scores, ...]) -> dict[str, Any]:
    values: dict[str, float | None] = {}
    for scores in reports:
        values |= {name: None if math.isnan(value) else value for name, value in all_metrics(scores).items()}
    limits = [scores.max_detections for scores in reports if isinstance(scores, InstanceScores)]
    left_out = [scores.left_out for scores in reports if isinstance(scores, InstanceScores)]
    return {
        "predictions": str(predictions),
        "images": reports[0].images,
        "max_detections": limits[0] if limits else None,
        "objects_left_out": left_out[0] if left_out else 0,
        "averaging": [_averaging(scores) for scores in reports],
        "metrics": values,
    }


def _table(scores: Scores) -> Table:
    table = Table("metric", title=f"{_title(scores)}, {scores.images} images", title_justify="left")
    table.add_column("score", justify="right")
    table.columns[0].overflow = "fold"
    for name, value in all_metrics(scores).items():
        table.add_row(name, "absent" if math.isnan(value) else f"{value:.4f}")
    return table


def _title(scores: Scores) -> str:
    if not isinstance(scores, InstanceScores):
        return "Pixels"
    return f"{'Masks' if scores.kind == 'segm' else 'Boxes'}, maxDets {scores.max_detections}"


def _averaging(scores: Scores) -> str:
    if not isinstance(scores, InstanceScores):
        return (
            "mIoU: mean over classes of the IoU over all images. mIoU_per_image: mean over images of the mean over "
            "their classes. accuracy: share of all pixels. Absent classes are in no mean."
        )
    left_out = f" {scores.left_out} objects of the truth without a pixel are left out." if scores.left_out else ""
    return (
        f"{scores.kind}_mAP: mean over IoU 0.50:0.05:0.95, 101 recalls and classes, with at most "
        f"{scores.max_detections} detections an image and class. s, m, l: area to 32^2, to 96^2, above." + left_out
    )
