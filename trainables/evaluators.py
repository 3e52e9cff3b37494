"""The evaluator inside training: segscore on what the model predicts, so that trials and ensembles are scored alike.

Takes the place of CocoMetric (which rounds to 3 decimals) and IoUMetric (to 0.01 %).
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from segdata.coco_records import CocoRecords
from segdata.errors import TrialError
from segdata.labelmaps import LabelMap, read_classes, read_label_map
from segscore.boundaries import boundary_counts
from segscore.instances import Kind, score_kinds
from segscore.metrics import all_metrics
from segscore.own_metric import LabelMaps, OwnMetric, PackedLabels
from segscore.semantic import SemanticAccumulator, confusion_matrix
from trainables.description import DataDescription
from trainables.outputs import coco_results, instances_of, limits_of

__all__ = ["evaluator_config", "register_evaluators"]

GATHERED = "gpu"  # from several processes by their own connection, rather than by files in the working folder


def register_evaluators() -> None:
    """Makes the evaluators known to MMEngine by name; harmless when repeated."""
    for evaluator in (InstanceEvaluator, SemanticEvaluator):
        METRICS.register_module(module=evaluator, force=True)


def evaluator_config(
    data: DataDescription, model: Mapping[str, Any], own_metrics: Sequence[OwnMetric] = (), *, boundaries: bool = False
) -> dict[str, Any]:
    """Returns the config of the evaluator over the val role, for a model's config.

    The user's metrics come on top, and scores of boundaries where a sweep asks for one, since they take longer.
    """
    if data.task == "instance":
        annotations, floor = str(data.val.annotations), limits_of(model).floor
        config = {"type": InstanceEvaluator.__name__, "annotations": annotations, "minimum_confidence": floor}
    else:
        config = {"type": SemanticEvaluator.__name__, "labels": str(data.val.labels)}
    wanted = {"own_metrics": tuple(own_metrics), "boundaries": boundaries}
    return config | {name: value for name, value in wanted.items() if value}


@contextmanager
def failure_logged() -> Iterator[None]:
    """Writes the traceback of a user's metric into the trial's log; the error itself is told in one line."""
    try:
        yield
    except TrialError:
        traceback.print_exc()
        raise


class InstanceEvaluator(BaseMetric):
    """Mask and box AP at a maxDets that fits the data, and the user's metrics.

    The truth is parsed for each validation and then forgotten: between them the node's one file holds it.
    """

    def __init__(
        self,
        annotations: str,
        minimum_confidence: float = 0.0,
        own_metrics: Sequence[OwnMetric] = (),
        boundaries: bool = False,
    ) -> None:
        super().__init__(collect_device=GATHERED)
        self.minimum_confidence = minimum_confidence
        self.truth = CocoRecords(Path(annotations))
        self.own_metrics = own_metrics
        self.kinds: tuple[Kind, ...] = ("segm", "bbox", *(("boundary",) if boundaries else ()))

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keeps each image's objects as COCO results."""
        for sample in data_samples:
            found = instances_of(sample["pred_instances"], self.minimum_confidence)
            self.results.append(coco_results(sample["img_id"], found, self.truth.category_ids))

    def compute_metrics(self, results: list[list[dict[str, Any]]]) -> dict[str, float]:
        """Scores all images at once."""
        found = [entry for image in results for entry in image]
        truth = self.truth.dataset()
        values: dict[str, float] = {}
        for scores in score_kinds(truth, found, self.kinds):
            values |= all_metrics(scores)
        with failure_logged():
            own = {metric.name: metric.of_instances(truth, found) for metric in self.own_metrics}
        return values | own


@dataclass(frozen=True, slots=True)
class SemanticResult:  # MMEngine makes any tuple a plain one
    """What is kept of an image: pixels by place in the confusion matrix, of boundaries, and for the user its labels."""

    counts: dict[int, int]
    boundary: tuple[tuple[int, ...], ...] | None = None
    stem: str = ""
    labels: PackedLabels | None = None


class SemanticEvaluator(BaseMetric):
    """mIoU over the data set and as the mean over images, from counts, and the user's metrics."""

    def __init__(self, labels: str, own_metrics: Sequence[OwnMetric] = (), boundaries: bool = False) -> None:
        super().__init__(collect_device=GATHERED)
        self.labels = Path(labels)
        self.classes, self.ignore_index = read_classes(self.labels)
        self.own_metrics = own_metrics
        self.boundaries = boundaries

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Counts each image's pixels at the size of its label map."""
        for sample in data_samples:
            stem = Path(sample["img_path"]).stem
            predicted_HW = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy().astype(np.uint8)
            compared = self.truth_of(stem), predicted_HW, len(self.classes), self.ignore_index
            counts = confusion_matrix(*compared).ravel()
            found = {int(place): int(counts[place]) for place in np.flatnonzero(counts)}
            edges = tuple(map(tuple, boundary_counts(*compared).tolist())) if self.boundaries else None
            kept = (stem, PackedLabels.of(predicted_HW)) if self.own_metrics else ()
            self.results.append(SemanticResult(found, edges, *kept))

    def truth_of(self, stem: str) -> LabelMap:
        """Reads the label map of an image."""
        return read_label_map(self.labels / f"{stem}.png")

    def compute_metrics(self, results: list[SemanticResult]) -> dict[str, float]:
        """Adds the images up and turns counts into ratios."""
        total = SemanticAccumulator(self.classes, self.ignore_index, self.boundaries)
        for image in results:
            counts = np.zeros(len(self.classes) ** 2, dtype=np.int64)
            counts[list(image.counts)] = list(image.counts.values())
            edges = None if image.boundary is None else np.array(image.boundary, dtype=np.int64)
            total.add_counts(counts.reshape(len(self.classes), len(self.classes)), edges)
        with failure_logged():
            return all_metrics(total.scores()) | self.own_scores(results)

    def own_scores(self, results: Sequence[SemanticResult]) -> dict[str, float]:
        """Scores by the user's metrics; of all label maps one is unpacked at a time."""

        def predicted(index: int) -> LabelMap:
            packed = results[index].labels
            assert packed is not None  # kept where there are such metrics
            return packed.unpack()

        truths = LabelMaps(len(results), lambda index: self.truth_of(results[index].stem))
        predictions = LabelMaps(len(results), predicted)
        return {m.name: m.of_labels(truths, predictions, self.ignore_index) for m in self.own_metrics}
