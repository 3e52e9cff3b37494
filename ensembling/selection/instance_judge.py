"""Scores blends of instances: fused image by image in memory, and matched to the truth as `segscore` does.

Imports numpy, `segdata`, `segscore` and this package.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ensembling.fusion import OBJECT_FUSIONS, largest_limit, most_confident
from ensembling.members import read_instances
from ensembling.selection.blends import Blend
from ensembling.weights import member_weights
from segdata.instances import ImageRecord, InstanceDataset
from segdata.predictions import ImageInstances, PredictionSet
from segdata.sound_predictions import require_sound_instances
from segscore.agreement import require_agreement
from segscore.instances import Kind, fitting_max_detections, results_of_image
from segscore.overlaps import DrawnTruth, Scene
from segscore.samples import InstanceSample

__all__ = ["InstanceJudge"]

Floats = npt.NDArray[np.float64]


class InstanceJudge:
    """Scores blends as `segscore.metrics.score_predictions` scores the prediction sets that `fuse` writes of them.

    What the candidates found, and the truth's masks, stay in memory as run lengths.

    Args:
        sets: The candidates' prediction sets.
        truth: Labelled objects.
        metric: Name of an average precision.
        kind: What it matches.

    Raises:
        DatasetError: A candidate's classes, images or sizes are not the truth's, or its numbers are not sound.
    """

    def __init__(self, sets: Sequence[PredictionSet], truth: InstanceDataset, metric: str, kind: Kind) -> None:
        for predictions in sets:
            require_agreement(truth, predictions)
        self._sets, self._metric, self._kind = sets, metric, kind
        self._truth, self._labels = truth, DrawnTruth(truth)
        self._found = [[_read(predictions, image) for image in truth.images] for predictions in sets]

    @property
    def num_images(self) -> int:
        """How many images there are, in the order of their ids."""
        return len(self._truth.images)

    def scores(self, blends: Sequence[Blend], weight_BN: Floats) -> Floats:
        """Returns (blends, B) scores, where an image counts as often as its weight; NaN where there is none."""
        return np.stack([self._score(blend, weight_BN) for blend in blends])

    def _score(self, blend: Blend, weight_BN: Floats) -> Floats:
        results: list[dict[str, Any]] = []
        for number, image in enumerate(self._truth.images):
            fused = self._fused(blend, number)
            results += results_of_image(image, fused, self._truth, self._sets[0].meta.classes)
        limit = fitting_max_detections(self._truth, results)
        matches = Scene(self._labels, results, limit).matches(self._kind)
        return InstanceSample(self._kind, self._truth.class_names, matches).metrics(weight_BN)[self._metric]

    def _fused(self, blend: Blend, number: int) -> ImageInstances:
        found = [self._found[member][number] for member in blend.members]
        if blend.method is None:
            return found[0]
        share_M = member_weights(blend.votes, len(found))
        fused = OBJECT_FUSIONS[blend.method](found, share_M, blend.settings)
        return most_confident(fused, largest_limit([self._sets[member] for member in blend.members]))


def _read(predictions: PredictionSet, image: ImageRecord) -> ImageInstances:
    found = read_instances(predictions, image.file_name)
    require_sound_instances(found, image.file_name, predictions)
    return found
