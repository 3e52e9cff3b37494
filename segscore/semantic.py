"""Intersection over union and accuracy of semantic predictions: counts of pixels first, ratios last.

Legend: C classes, H x W pixels. A class that neither truth nor prediction has is absent: NaN, left out of means.
May import numpy, `segdata` and this package.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from segdata.errors import DatasetError
from segdata.labelmaps import SemanticDataset, read_label_map
from segdata.predictions import PredictionSet
from segscore.agreement import require_agreement
from segscore.boundaries import boundary_counts

__all__ = [
    "SemanticAccumulator",
    "SemanticScores",
    "class_counts",
    "confusion_matrix",
    "image_named",
    "iou_of_counts",
    "iou_per_class",
    "mean_of_present",
    "score_semantic",
    "scores_from_confusion",
]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]
_CURE = "Predict the truth's images with a model of the truth's classes."


@dataclass(frozen=True, slots=True)
class SemanticScores:
    """Scores over a data set, each in 0..1.

    Attributes:
        miou: Mean over classes of the IoU counted over the whole data set.
        miou_per_image: Mean over images of an image's mean IoU over the classes in its truth or prediction; NaN when
            no image was scored one by one.
        accuracy: Share of the pixels that are not ignored whose class is right.
        per_class: (class name, IoU over the data set), NaN for an absent class.
        images: How many images were scored; one whose pixels are all ignored counts here, but in no mean.
        boundary_iou: Mean over classes of the boundary IoU counted over the whole data set; None where it was not asked
            for. Boundaries as in `segscore.boundaries`.
    """

    miou: float
    miou_per_image: float
    accuracy: float
    per_class: tuple[tuple[str, float], ...]
    images: int
    boundary_iou: float | None = None


@dataclass(slots=True)
class SemanticAccumulator:
    """Counts image by image; memory does not grow with the number of images.

    Attributes:
        classes: Class names by index.
        ignore_index: Pixels of the truth with this label do not count.
        boundaries: Whether boundaries are counted too.
    """

    classes: tuple[str, ...]
    ignore_index: int = 255
    boundaries: bool = False
    _confusion: Counts = field(init=False, repr=False)
    _boundary: Counts = field(init=False, repr=False)
    _image_mious: list[float] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        """Starts at zero."""
        self._confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        self._boundary = np.zeros((3, len(self.classes)), dtype=np.int64)

    def add(self, truth_HW: Labels, predicted_HW: Labels) -> None:
        """Counts one image.

        Raises:
            DatasetError: See `confusion_matrix`.
        """
        numbers = len(self.classes), self.ignore_index
        image_CC = confusion_matrix(truth_HW, predicted_HW, *numbers)
        self.add_counts(image_CC, boundary_counts(truth_HW, predicted_HW, *numbers) if self.boundaries else None)

    def add_counts(self, image_CC: Counts, boundary_3C: Counts | None = None) -> None:
        """Counts one image by its confusion matrix and, where they are counted, its `boundary_counts`."""
        self._confusion += image_CC
        self._image_mious.append(mean_of_present(iou_per_class(image_CC)))
        if boundary_3C is not None:
            self._boundary += boundary_3C

    @property
    def confusion(self) -> Counts:
        """Pixels by (true class, predicted class), int64 (C, C), of all images added so far."""
        return self._confusion.copy()

    def scores(self) -> SemanticScores:
        """Returns the scores of all images added so far."""
        scores = scores_from_confusion(self._confusion, self.classes, self._image_mious)
        if not self.boundaries:
            return scores
        return replace(scores, boundary_iou=mean_of_present(iou_of_counts(self._boundary)))


def score_semantic(truth: SemanticDataset, predictions: PredictionSet, *, boundaries: bool = False) -> SemanticScores:
    """Scores a prediction set on the images of the truth; predicted images beyond these are left out.

    Args:
        truth: Label maps.
        predictions: A semantic prediction set.
        boundaries: Whether to compute the boundary IoU, which takes as long as all else.

    Raises:
        InputError: If the predictions are of instances.
        DatasetError: If the classes differ, an image of the truth was not predicted, or sizes differ.
    """
    require_agreement(truth, predictions)
    accumulator = SemanticAccumulator(truth.classes, truth.ignore_index, boundaries)
    for image in truth.images:
        with image_named(image.name):
            accumulator.add(read_label_map(image.label_path), predictions.labels(image.name))
    return accumulator.scores()


@contextmanager
def image_named(name: str) -> Iterator[None]:
    """Puts the image's name before the message of an error."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"image {name}: {error}") from error


def confusion_matrix(truth_HW: Labels, predicted_HW: Labels, num_classes: int, ignore_index: int = 255) -> Counts:
    """Counts pixels by (true class, predicted class).

    Args:
        truth_HW: True class indices, uint8; `ignore_index` where a pixel does not count.
        predicted_HW: Predicted class indices, uint8; whatever stands on ignored pixels is not looked at.
        num_classes: Number of classes.
        ignore_index: Label of pixels that do not count.

    Returns:
        int64 (C, C), rows by truth, columns by prediction.

    Raises:
        DatasetError: If shapes differ or a label is not below `num_classes`.
    """
    if truth_HW.shape != predicted_HW.shape:
        raise _wrong("labels", f"(height, width) {truth_HW.shape} as the truth", str(predicted_HW.shape))
    counted_HW = truth_HW != ignore_index
    truth_P, predicted_P = truth_HW[counted_HW], predicted_HW[counted_HW]
    for name, labels_P in (("truth", truth_P), ("prediction", predicted_P)):
        if labels_P.size and int(labels_P.max()) >= num_classes:
            raise _wrong(f"labels of the {name}", f"class indices below {num_classes}", str(labels_P.max()))
    pairs_P = truth_P.astype(np.intp) * num_classes + predicted_P
    counts = np.bincount(pairs_P, minlength=num_classes**2).astype(np.int64)
    return counts.reshape(num_classes, num_classes)


def iou_per_class(confusion_CC: Counts) -> Floats:
    """Returns each class's intersection over union, float64 (C,), NaN where a class is absent."""
    return iou_of_counts(class_counts(confusion_CC))


def class_counts(confusion_CC: Counts) -> Counts:
    """Returns each class's pixels, int64 (3, C): right, in the truth, in the prediction."""
    return np.stack([np.diagonal(confusion_CC), confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)])


def iou_of_counts(counts_3C: npt.NDArray[Any]) -> Floats:
    """Returns intersection over union, float64 (..., C), of counts (..., 3, C): in both, in the one, in the other.

    NaN where a class is absent.
    """
    shared, one, other = np.moveaxis(counts_3C.astype(np.float64), -2, 0)
    union = one + other - shared
    iou = np.full(shared.shape, np.nan)
    np.divide(shared, union, out=iou, where=union > 0)
    return iou


def scores_from_confusion(
    confusion_CC: Counts, classes: tuple[str, ...], image_mious: list[float] | None = None
) -> SemanticScores:
    """Takes the ratios of counts summed over images.

    Args:
        confusion_CC: Pixels by (true class, predicted class) over the data set.
        classes: Class names by index.
        image_mious: Each image's mean IoU, NaN where all its pixels are ignored.
    """
    iou_C = iou_per_class(confusion_CC)
    pixels = int(confusion_CC.sum())
    of_images = [] if image_mious is None else image_mious
    return SemanticScores(
        miou=mean_of_present(iou_C),
        miou_per_image=mean_of_present(np.asarray(of_images, dtype=np.float64)),
        accuracy=int(np.trace(confusion_CC)) / pixels if pixels else math.nan,
        per_class=tuple(zip(classes, iou_C.tolist(), strict=True)),
        images=len(of_images),
    )


def mean_of_present(values: Floats) -> float:
    """Mean of the values that are not NaN; NaN where all are."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def _wrong(where: str, expected: str, found: str) -> DatasetError:
    return DatasetError.of(f"expected {expected}, but got {found}", where=where, cure=_CURE)
