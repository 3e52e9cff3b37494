"""Whether the numbers of a prediction set are what they should be, which other programs may have written.

May import numpy and this package.
"""

import numpy as np

from segdata.errors import DatasetError
from segdata.labelmaps import LabelMap
from segdata.prediction_meta import ImageInstances
from segdata.prediction_reader import PredictionSet

__all__ = ["require_sound_instances", "sound_instances", "sound_labels"]


def sound_instances(predictions: PredictionSet, image: str) -> ImageInstances:
    """Reads the objects of one image.

    Raises:
        DatasetError: As `PredictionSet.instances` and `require_sound_instances`.
    """
    found = predictions.instances(image)
    require_sound_instances(found, image, predictions)
    return found


def sound_labels(predictions: PredictionSet, image: str) -> LabelMap:
    """Reads the class indices of one image, uint8 (H, W).

    Raises:
        DatasetError: As `PredictionSet.labels`, or a label is no index into the set's classes.
    """
    label_HW = predictions.labels(image)
    classes = len(predictions.meta.classes)
    if label_HW.max() >= classes:
        raise DatasetError.of(
            f"expected classes from 0 to {classes - 1}, but got {label_HW.max()} in {image}",
            where=predictions.path,
            cure="Write the prediction set again.",
        )
    return label_HW


def require_sound_instances(found: ImageInstances, image: str, predictions: PredictionSet) -> None:
    """Checks the numbers of one image's objects.

    Raises:
        DatasetError: If a confidence is not in 0..1, or a box is not of finite numbers.
    """
    wrong = np.flatnonzero(~((found.confidences >= 0) & (found.confidences <= 1)))
    if wrong.size:
        confidence = found.confidences[wrong[0]]
        raise _wrong(predictions, f"confidences from 0 to 1 in {image}", f"{confidence:g} in object {wrong[0]}")
    broken = np.flatnonzero(~np.isfinite(found.boxes_xyxy).all(axis=1))
    if broken.size:
        box = ", ".join(f"{value:g}" for value in found.boxes_xyxy[broken[0]])
        raise _wrong(predictions, f"finite boxes in {image}", f"({box}) in object {broken[0]}")


def _wrong(predictions: PredictionSet, expected: str, found: str) -> DatasetError:
    return DatasetError.of(
        f"expected {expected}, but got {found}", where=predictions.path, cure="Correct what wrote these predictions."
    )
