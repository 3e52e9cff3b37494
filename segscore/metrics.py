"""Names of the metrics in sweep files, tables and MLflow, and scoring a prediction set with all of them.

The one list of metric names; which direction is better is said where a metric is used. May import `segdata` and
this package.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from segdata.coco import InstanceDataset
from segdata.labelmaps import SemanticDataset
from segdata.predictions import PredictionSet
from segscore.instances import InstanceScores, Kind, results_of_set, score_kinds
from segscore.semantic import SemanticScores, score_semantic

__all__ = [
    "METRICS",
    "Metric",
    "Scores",
    "all_metrics",
    "names_boundaries",
    "of_class",
    "score_predictions",
    "score_reports",
]

Scores = InstanceScores | SemanticScores


class Metric(NamedTuple):
    """Where a metric's value stands.

    Attributes:
        task: Which task it belongs to.
        attribute: Its attribute of `InstanceScores` or `SemanticScores`.
        kind: "segm", "bbox" or "boundary" for instances, None for semantic.
    """

    task: Literal["instance", "semantic"]
    attribute: str
    kind: Kind | None


METRICS: dict[str, Metric] = {
    "segm_mAP": Metric("instance", "ap", "segm"),
    "segm_mAP_50": Metric("instance", "ap50", "segm"),
    "segm_mAP_75": Metric("instance", "ap75", "segm"),
    "segm_mAP_s": Metric("instance", "ap_small", "segm"),
    "segm_mAP_m": Metric("instance", "ap_medium", "segm"),
    "segm_mAP_l": Metric("instance", "ap_large", "segm"),
    "bbox_mAP": Metric("instance", "ap", "bbox"),
    "bbox_mAP_50": Metric("instance", "ap50", "bbox"),
    "bbox_mAP_75": Metric("instance", "ap75", "bbox"),
    "bbox_mAP_s": Metric("instance", "ap_small", "bbox"),
    "bbox_mAP_m": Metric("instance", "ap_medium", "bbox"),
    "bbox_mAP_l": Metric("instance", "ap_large", "bbox"),
    "boundary_AP": Metric("instance", "ap", "boundary"),
    "boundary_AP_50": Metric("instance", "ap50", "boundary"),
    "boundary_AP_75": Metric("instance", "ap75", "boundary"),
    "boundary_AP_s": Metric("instance", "ap_small", "boundary"),
    "boundary_AP_m": Metric("instance", "ap_medium", "boundary"),
    "boundary_AP_l": Metric("instance", "ap_large", "boundary"),
    "mIoU": Metric("semantic", "miou", None),
    "mIoU_per_image": Metric("semantic", "miou_per_image", None),
    "accuracy": Metric("semantic", "accuracy", None),
    "boundary_IoU": Metric("semantic", "boundary_iou", None),
}


def names_boundaries(names: Iterable[str]) -> bool:
    """Tells whether one of the metrics is of boundaries; these take longer, so they are computed where one is named."""
    return any(name in METRICS and "boundary" in name for name in names)


def of_class(kind: Kind | None, name: str) -> str:
    """Returns the name of a class's own value: `segm_mAP/CLASS`, `bbox_mAP/CLASS`, `boundary_AP/CLASS`, `IoU/CLASS`."""
    return f"{'IoU' if kind is None else 'boundary_AP' if kind == 'boundary' else f'{kind}_mAP'}/{name}"


def all_metrics(scores: Scores) -> dict[str, float]:
    """Returns every metric of a score by its name, and the values of classes by `of_class`.

    NaN where the truth has no such object or class; what was not computed is left out.
    """
    kind = scores.kind if isinstance(scores, InstanceScores) else None
    task = "semantic" if kind is None else "instance"
    values = {
        name: float(value)
        for name, metric in METRICS.items()
        if (metric.task, metric.kind) == (task, kind) and (value := getattr(scores, metric.attribute)) is not None
    }
    return values | {of_class(kind, name): value for name, value in scores.per_class}


def score_reports(
    truth: InstanceDataset | SemanticDataset,
    predictions: PredictionSet,
    *,
    max_detections: int | None = None,
    boundaries: bool = False,
) -> tuple[Scores, ...]:
    """Scores a prediction set: masks and boxes for instances, one score for semantic.

    Args:
        truth: Labelled objects or label maps.
        predictions: A prediction set of the same task, from a single model or an ensemble.
        max_detections: Detections that count for each image and class; None = as many as the data has.
        boundaries: Whether to score boundaries too.

    Raises:
        InputError: If truth and predictions are of different tasks.
        DatasetError: If classes, images or sizes differ, or a confidence is not in 0..1.
    """
    if isinstance(truth, SemanticDataset):
        return (score_semantic(truth, predictions, boundaries=boundaries),)
    kinds: tuple[Kind, ...] = ("segm", "bbox", "boundary")
    results = results_of_set(truth, predictions)
    return score_kinds(truth, results, kinds if boundaries else kinds[:2], max_detections=max_detections)


def score_predictions(
    truth: InstanceDataset | SemanticDataset,
    predictions: PredictionSet,
    *,
    max_detections: int | None = None,
    boundaries: bool = False,
) -> dict[str, float]:
    """Scores a prediction set with all metrics of its task, by name; see `score_reports`."""
    values: dict[str, float] = {}
    for scores in score_reports(truth, predictions, max_detections=max_detections, boundaries=boundaries):
        values |= all_metrics(scores)
    return values
