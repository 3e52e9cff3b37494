"""`segsweep score`: a prediction set against the truth, and against another set. Imports Typer, rich and segscore."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from segdata.coco import InstanceDataset
from segdata.errors import InputError
from segdata.labelmaps import SemanticDataset
from segdata.predictions import PredictionSet
from segscore import Difference, Evaluation, Interval, differences, evaluate, fitting_limit, intervals
from segsweep.cli.score_record import comparison_record, score_record
from segsweep.cli.score_tables import print_comparison, print_confusion, print_notes, print_reliability, print_scores
from segsweep.own_metrics import read_named_metrics, scores_by
from segsweep.truth_source import read_truth

__all__ = ["score"]

_WIDTH = 80
_BATCH = 8
_WITH_ARTICLE = {"instance": "an instance", "semantic": "a semantic"}
_OF_TASK = {"max_detections": "instance", "images": "semantic", "batch": "semantic", "confusion": "semantic"}


def score(
    predictions: Annotated[Path, typer.Argument(help="A prediction set: a folder with meta.json.")],
    truth: Annotated[Path, typer.Argument(help="A COCO JSON file, a folder of label maps, or a dataset folder.")],
    against: Annotated[Path | None, typer.Option(help="Another prediction set: is the first really better?")] = None,
    images: Annotated[Path | None, typer.Option(help="Images of the label maps; default: images/ beside them.")] = None,
    max_detections: Annotated[
        int | None, typer.Option(help="Detections that count an image and class; default: all there are.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="FILE.py:FUNCTION, a metric of your own.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images a batch, for the mean IoU over batches; default: 8.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the images, for intervals and test; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 7,
    confusion: Annotated[bool, typer.Option("--confusion", help="Also show which classes are mixed up.")] = False,
    calibration: Annotated[bool, typer.Option("--calibration", help="Also show the reliability table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, unrounded.")] = False,
) -> None:
    """Scores predictions of a model or an ensemble on the images of the truth, with intervals over the images.

    Example: segsweep score runs/nuclei/ensembles/test-top3/wbf-chosen/predictions data/nuclei/test.json
    --against other-predictions
    """
    first = PredictionSet.open(predictions)
    second = None if against is None else PredictionSet.open(against)
    _refuse_other_tasks_options(
        first.meta.task, max_detections=max_detections, images=images, batch=batch, confusion=confusion
    )
    _check_options(first, second, resamples, seed, calibration)
    own = read_named_metrics(metric or [], first.meta.task)
    labelled = read_truth(truth, first.meta.task, images)
    limit = _limit(labelled, first, second, max_detections)
    a_batch = _BATCH if batch is None else batch
    console = Console(width=_WIDTH, markup=False, highlight=False)
    with Console(stderr=True).status("matching"):
        one = replace(
            evaluate(labelled, first, max_detections=limit, batch=a_batch), own=scores_by(own, labelled, first)
        )
        other = None if second is None else evaluate(labelled, second, max_detections=limit, batch=a_batch)
        if other is not None and second is not None:
            other = replace(other, own=scores_by(own, labelled, second))
    sure: dict[str, Interval] = {}
    apart: dict[str, Difference] = {}
    with Console(stderr=True).status("resampling the images"):
        if resamples and (other is None or as_json):
            sure = intervals(one.samples, resamples=resamples, seed=seed)
        if resamples and other is not None:
            apart = differences(one.samples, other.samples, resamples=resamples, seed=seed)
    if as_json:
        record = score_record(predictions, one, sure, {"resamples": resamples, "seed": seed})
        against_record = {} if other is None else {"against": comparison_record(str(against), other, apart)}
        typer.echo(json.dumps(record | against_record, indent=2, allow_nan=False))
        return
    if other is None:
        print_scores(console, one, sure)
    else:
        print_comparison(console, one, other, apart, (str(predictions), str(against)))
    _print_more(console, one, resamples, confusion, calibration)


def _print_more(console: Console, one: Evaluation, resamples: int, confusion: bool, calibration: bool) -> None:
    """Prints what was asked for besides, and how to read the numbers."""
    if confusion:
        print_confusion(console, one)
    if calibration:
        print_reliability(console, one)
    print_notes(console, one, resamples)


def _refuse_other_tasks_options(task: str, **options: object) -> None:
    """Refuses options that were given, but that the task has no use for."""
    for option, value in options.items():
        wanted = _OF_TASK[option]
        if value is not None and value is not False and wanted != task:
            raise InputError.of(
                f"expected {_WITH_ARTICLE[wanted]} prediction set, but got {_WITH_ARTICLE[task]} one",
                where=f"--{option.replace('_', '-')}",
                cure="Leave it out.",
            )


def _check_options(
    first: PredictionSet, second: PredictionSet | None, resamples: int, seed: int, calibration: bool
) -> None:
    """Refuses before anything is read what can't be shown."""
    if seed < 0:
        raise InputError.of(f"expected 0 or more, but got {seed}", where="--seed", cure="Take 7.")
    if 0 < resamples < 100 or resamples < 0:
        raise InputError.of(f"expected 0, or 100 or more, but got {resamples}", where="--resamples", cure="Take 1000.")
    if calibration and first.meta.codec == "labels":
        raise InputError.of(
            "expected predictions with confidences, but got labels only",
            where="--calibration",
            cure="Predict with probabilities, or leave it out.",
        )
    if second is not None and second.meta.task != first.meta.task:
        raise InputError.of(
            f"expected predictions of the same task, {first.meta.task}, but got {second.meta.task}",
            where=f"--against {second.path}",
            cure="Compare like with like.",
        )


def _limit(
    truth: InstanceDataset | SemanticDataset, first: PredictionSet, second: PredictionSet | None, wanted: int | None
) -> int | None:
    """Returns the maxDets for both sets."""
    if second is None or wanted is not None or not isinstance(truth, InstanceDataset):
        return wanted
    return fitting_limit(truth, first, second)
