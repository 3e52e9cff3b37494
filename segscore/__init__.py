"""Predictions against truth: average precision of masks and boxes, mean IoU.

Stands on `segdata`; imports neither torch, ray nor an mm* package. One evaluator for single trials and ensembles.
"""

from segscore.instances import InstanceScores, fitting_max_detections, score_instance_results, score_instances
from segscore.metrics import METRICS, Metric, all_metrics, score_predictions, score_reports
from segscore.semantic import (
    SemanticAccumulator,
    SemanticScores,
    confusion_matrix,
    iou_per_class,
    score_semantic,
    scores_from_confusion,
)

__all__ = [
    "METRICS",
    "InstanceScores",
    "Metric",
    "SemanticAccumulator",
    "SemanticScores",
    "all_metrics",
    "confusion_matrix",
    "fitting_max_detections",
    "iou_per_class",
    "score_instance_results",
    "score_instances",
    "score_predictions",
    "score_reports",
    "score_semantic",
    "scores_from_confusion",
]
