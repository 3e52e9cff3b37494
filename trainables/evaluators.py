"""The evaluator inside training: segscore on what the model predicts, so that trials and ensembles are scored alike.

Takes the place of CocoMetric (which rounds to 3 decimals) and IoUMetric (to 0.01 %).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from segdata.coco_records import CocoRecords
from segdata.labelmaps import read_classes, read_label_map
from segscore.instances import score_instance_results
from segscore.metrics import all_metrics
from segscore.semantic import SemanticAccumulator, confusion_matrix
from trainables.description import DataDescription
from trainables.outputs import coco_results, instances_of, limits_of

__all__ = ["evaluator_config", "register_evaluators"]

GATHERED = "gpu"  # from several processes by their own connection, rather than by files in the working folder


def register_evaluators() -> None:
    """Makes the evaluators known to MMEngine by name; harmless when repeated."""
    for evaluator in (InstanceEvaluator, SemanticEvaluator):
        METRICS.register_module(module=evaluator, force=True)


def evaluator_config(data: DataDescription, model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of the evaluator over the val role, for a model's config."""
    if data.task == "instance":
        annotations, floor = str(data.val.annotations), limits_of(model).floor
        return {"type": InstanceEvaluator.__name__, "annotations": annotations, "minimum_confidence": floor}
    return {"type": SemanticEvaluator.__name__, "labels": str(data.val.labels)}


class InstanceEvaluator(BaseMetric):
    """Mask and box AP at a maxDets that fits the data.

    The truth is parsed for each validation and then forgotten: between them the node's one file holds it.
    """

    def __init__(self, annotations: str, minimum_confidence: float = 0.0) -> None:
        super().__init__(collect_device=GATHERED)
        self.minimum_confidence = minimum_confidence
        self.truth = CocoRecords(Path(annotations))

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keeps each image's objects as COCO results."""
        for sample in data_samples:
            found = instances_of(sample["pred_instances"], self.minimum_confidence)
            self.results.append(coco_results(sample["img_id"], found, self.truth.category_ids))

    def compute_metrics(self, results: list[list[dict[str, Any]]]) -> dict[str, float]:
        """Scores all images at once."""
        found = [entry for image in results for entry in image]
        truth = self.truth.dataset()
        masks = score_instance_results(truth, found, kind="segm")
        boxes = score_instance_results(truth, found, kind="bbox")
        return all_metrics(masks) | all_metrics(boxes)


class SemanticEvaluator(BaseMetric):
    """mIoU over the data set and as the mean over images, from counts."""

    def __init__(self, labels: str) -> None:
        super().__init__(collect_device=GATHERED)
        self.labels = Path(labels)
        self.classes, self.ignore_index = read_classes(self.labels)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Counts each image's pixels at the size of its label map."""
        for sample in data_samples:
            truth_HW = read_label_map(self.labels / f"{Path(sample['img_path']).stem}.png")
            predicted_HW = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy().astype(np.uint8)
            counts = confusion_matrix(truth_HW, predicted_HW, len(self.classes), self.ignore_index).ravel()
            self.results.append({int(place): int(counts[place]) for place in np.flatnonzero(counts)})

    def compute_metrics(self, results: list[dict[int, int]]) -> dict[str, float]:
        """Adds the images up and turns counts into ratios."""
        total = SemanticAccumulator(self.classes, self.ignore_index)
        for image in results:
            counts = np.zeros(len(self.classes) ** 2, dtype=np.int64)
            counts[list(image)] = list(image.values())
            total.add_counts(counts.reshape(len(self.classes), len(self.classes)))
        return all_metrics(total.scores())
