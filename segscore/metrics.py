"""Names of the metrics in sweep files, tables and MLflow, and scoring a prediction set with all of them.

The one list of metric names; which direction is better is said where a metric is used. May import `segdata` and
this package.
"""

from typing import Literal, NamedTuple

from segdata.coco import InstanceDataset
from segdata.errors import InputError
from segdata.labelmaps import SemanticDataset
from segdata.predictions import PredictionSet
from segscore.instances import InstanceScores, Kind, score_instances
from segscore.semantic import SemanticScores, score_semantic

__all__ = ["METRICS", "Metric", "Scores", "all_metrics", "score_predictions", "score_reports"]

Scores = InstanceScores | SemanticScores


class Metric(NamedTuple):
    """Where a metric's value stands.

    Attributes:
        task: Which task it belongs to.
        attribute: Its attribute of `InstanceScores` or `SemanticScores`.
        kind: "segm" or "bbox" for instances, None for semantic.
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
    "mIoU": Metric("semantic", "miou", None),
    "mIoU_per_image": Metric("semantic", "miou_per_image", None),
    "accuracy": Metric("semantic", "accuracy", None),
}


def all_metrics(scores: Scores) -> dict[str, float]:
    """Returns every metric of a score by its name; per-class values as `segm_mAP/CLASS`, `bbox_mAP/CLASS`, `IoU/CLASS`.

    NaN where the truth has no such object or class.
    """
    kind = scores.kind if isinstance(scores, InstanceScores) else None
    task = "semantic" if kind is None else "instance"
    values = {
        name: float(getattr(scores, metric.attribute))
        for name, metric in METRICS.items()
        if (metric.task, metric.kind) == (task, kind)
    }
    per_class = "IoU" if kind is None else f"{kind}_mAP"
    return values | {f"{per_class}/{name}": value for name, value in scores.per_class}


def score_reports(
    truth: InstanceDataset | SemanticDataset, predictions: PredictionSet, *, max_detections: int | None = None
) -> tuple[Scores, ...]:
    """Scores a prediction set: masks and boxes for instances, one score for semantic.

    Args:
        truth: Labelled objects or label maps.
        predictions: A prediction set of the same task, from a single model or an ensemble.
        max_detections: Detections that count for each image and class; None = as many as the data has.

    Raises:
        InputError: If truth and predictions are of different tasks.
        DatasetError: If classes, images or sizes differ.
    """
    task = "instance" if isinstance(truth, InstanceDataset) else "semantic"
    if predictions.meta.task != task:
        raise InputError.of(
            f"expected predictions of the truth's task, {task}, but got {predictions.meta.task}",
            where="prediction set",
            cure="Score instances against COCO annotations, and semantic predictions against label maps.",
        )
    if isinstance(truth, SemanticDataset):
        return (score_semantic(truth, predictions),)
    kinds: tuple[Kind, ...] = ("segm", "bbox")
    return tuple(score_instances(truth, predictions, kind=kind, max_detections=max_detections) for kind in kinds)


def score_predictions(
    truth: InstanceDataset | SemanticDataset, predictions: PredictionSet, *, max_detections: int | None = None
) -> dict[str, float]:
    """Scores a prediction set with all metrics of its task, by name; see `score_reports`."""
    values: dict[str, float] = {}
    for scores in score_reports(truth, predictions, max_detections=max_detections):
        values |= all_metrics(scores)
    return values
