"""All that is known about a prediction set against the truth: scores, what each image adds, calibration, confusion.

May import numpy, `segdata` and this package.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from segdata.errors import InputError
from segdata.instances import InstanceDataset
from segdata.labelmaps import LabelledImage, LabelMap, SemanticDataset, read_label_map
from segdata.predictions import PredictionSet
from segscore.agreement import require_agreement
from segscore.boundaries import boundary_counts
from segscore.calibration import BINS, Calibration, calibration_of, count_confidences, count_matches
from segscore.instances import Kind, fitting_max_detections, results_of_set, scene_of, summarize
from segscore.metrics import Scores, all_metrics
from segscore.samples import InstanceSample, Sample, SemanticSample
from segscore.semantic import SemanticAccumulator, class_counts, confusion_matrix, image_named

__all__ = ["Evaluation", "evaluate", "fitting_limit"]

Floats = npt.NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("segm", "bbox", "boundary")


@dataclass(frozen=True)
class Evaluation:
    """A scored prediction set.

    Attributes:
        scores: By masks, boxes and boundaries, or of label maps.
        samples: What each image adds, one for each kind of score.
        miou_per_batch: Mean over batches of the mean IoU in a batch; None for instances.
        batch: Images a batch.
        calibration: Of detections or of pixels; None where the set holds labels without probabilities.
        confusion: Pixels by (true class, predicted class), int64 (C, C); None for instances.
        objects_found: How many detections there are on the truth's images; None for label maps.
        own: Scores by metrics of the user's own.
    """

    scores: tuple[Scores, ...]
    samples: tuple[Sample, ...]
    miou_per_batch: float | None
    batch: int
    calibration: Calibration | None
    confusion: npt.NDArray[np.int64] | None
    objects_found: int | None
    own: Mapping[str, float] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Every metric by name, unrounded, NaN for what the truth lacks."""
        values = dict(self.own)
        for scores in self.scores:
            values |= all_metrics(scores)
        if self.miou_per_batch is not None:
            values[f"mIoU_per_batch_{self.batch}"] = self.miou_per_batch
        if self.calibration is not None:
            values["calibration_error"] = self.calibration.error
        return values


def evaluate(
    truth: InstanceDataset | SemanticDataset,
    predictions: PredictionSet,
    *,
    max_detections: int | None = None,
    batch: int = 8,
    boundaries: bool = True,
) -> Evaluation:
    """Scores a prediction set in every way that its task knows.

    Args:
        truth: Labelled objects or label maps.
        predictions: A prediction set of the same task; predicted images beyond the truth's are left out.
        max_detections: Detections that count for each image and class; None = as many as the data has.
        batch: Images a batch of `mIoU_per_batch`.
        boundaries: Whether to score boundaries too, which takes longer than all else.

    Raises:
        InputError: If the tasks differ, or a number is below 1.
        DatasetError: If classes, images or sizes differ, or a confidence is not in 0..1.
    """
    if batch < 1:
        raise InputError.of(f"expected at least 1, but got {batch}", where="batch", cure="Raise it.")
    if isinstance(truth, InstanceDataset):
        kinds = KINDS if boundaries else KINDS[:2]
        return _of_objects(truth, predictions, max_detections, batch, kinds)
    return _of_pixels(truth, predictions, batch, boundaries)


def fitting_limit(truth: InstanceDataset, *sets: PredictionSet) -> int:
    """Returns a maxDets that cuts nothing off in any of several prediction sets, so that all are scored alike."""
    return max(fitting_max_detections(truth, results_of_set(truth, predictions)) for predictions in sets)


def _of_objects(
    truth: InstanceDataset, predictions: PredictionSet, limit: int | None, batch: int, kinds: Sequence[Kind]
) -> Evaluation:
    results = results_of_set(truth, predictions)
    scene = scene_of(truth, results, max_detections=limit)
    matches = {kind: scene.matches(kind) for kind in kinds}
    return Evaluation(
        scores=tuple(summarize(truth, of, kind, scene) for kind, of in matches.items()),
        samples=tuple(InstanceSample(kind, truth.class_names, of) for kind, of in matches.items()),
        miou_per_batch=None,
        batch=batch,
        calibration=calibration_of(count_matches(matches["segm"])),
        confusion=None,
        objects_found=len(results),
    )


def _of_pixels(truth: SemanticDataset, predictions: PredictionSet, batch: int, boundaries: bool) -> Evaluation:
    require_agreement(truth, predictions)
    total = SemanticAccumulator(truth.classes, truth.ignore_index, boundaries=boundaries)
    counts, edges, confidences = [], [], np.zeros((3, BINS))
    has_probabilities = predictions.meta.codec == "prob8"
    for image in truth.images:
        with image_named(image.name):
            true_HW = read_label_map(image.label_path)
            found_HW, sure_HW = _predicted(predictions, image, has_probabilities)
            numbers = len(truth.classes), truth.ignore_index
            confusion_CC = confusion_matrix(true_HW, found_HW, *numbers)
            counts.append(class_counts(confusion_CC))
            if boundaries:
                edges.append(boundary_counts(true_HW, found_HW, *numbers))
            total.add_counts(confusion_CC, edges[-1] if boundaries else None)
        if sure_HW is not None:
            counted_HW = true_HW != truth.ignore_index
            confidences += count_confidences(sure_HW[counted_HW], (true_HW == found_HW)[counted_HW])
    sample = SemanticSample(truth.classes, np.stack(counts), np.stack(edges) if edges else None)
    return Evaluation(
        scores=(total.scores(),),
        samples=(sample,),
        miou_per_batch=sample.miou_per_batch(batch),
        batch=batch,
        calibration=calibration_of(confidences) if has_probabilities else None,
        confusion=total.confusion,
        objects_found=None,
    )


def _predicted(
    predictions: PredictionSet, image: LabelledImage, has_probabilities: bool
) -> tuple[LabelMap, npt.NDArray[np.float32] | None]:
    """Returns labels (H, W) and, where the set holds them, the largest probability (H, W)."""
    if not has_probabilities:
        return predictions.labels(image.name), None
    prob_CHW = predictions.probabilities(image.name)
    labels_HW: LabelMap = prob_CHW.argmax(axis=0).astype(np.uint8)
    return labels_HW, prob_CHW.max(axis=0)
