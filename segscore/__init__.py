"""Predictions against truth: average precision of masks, boxes and boundaries, mean IoU, calibration, intervals.

Stands on `segdata`; imports neither torch, ray nor an mm* package. One evaluator for single trials and ensembles.
"""

from segscore.calibration import Calibration, CalibrationBin
from segscore.evaluation import Evaluation, evaluate, fitting_limit
from segscore.instances import (
    InstanceScores,
    fitting_max_detections,
    score_instance_results,
    score_instances,
    score_kinds,
)
from segscore.intervals import Difference, Interval, differences, intervals
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
    "Calibration",
    "CalibrationBin",
    "Difference",
    "Evaluation",
    "InstanceScores",
    "Interval",
    "Metric",
    "SemanticAccumulator",
    "SemanticScores",
    "all_metrics",
    "confusion_matrix",
    "differences",
    "evaluate",
    "fitting_limit",
    "fitting_max_detections",
    "intervals",
    "iou_per_class",
    "score_instance_results",
    "score_instances",
    "score_kinds",
    "score_predictions",
    "score_reports",
    "score_semantic",
    "scores_from_confusion",
]
