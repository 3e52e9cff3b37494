"""Intersection over union and accuracy of semantic predictions: counts of pixels first, ratios last.

Legend: C classes, H x W pixels. A class that neither truth nor prediction has is absent: NaN, left out of means.
May import numpy and `segdata`.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from segdata.errors import DatasetError
from segdata.labelmaps import SemanticDataset, read_label_map
from segdata.predictions import PredictionSet

__all__ = [
    "SemanticAccumulator",
    "SemanticScores",
    "confusion_matrix",
    "iou_per_class",
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
    """

    miou: float
    miou_per_image: float
    accuracy: float
    per_class: tuple[tuple[str, float], ...]
    images: int


@dataclass(slots=True)
class SemanticAccumulator:
    """Counts image by image; memory does not grow with the number of images.

    Attributes:
        classes: Class names by index.
        ignore_index: Pixels of the truth with this label do not count.
    """

    classes: tuple[str, ...]
    ignore_index: int = 255
    _confusion: Counts = field(init=False, repr=False)
    _image_mious: list[float] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        """Starts at zero."""
        self._confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)

    def add(self, truth_HW: Labels, predicted_HW: Labels) -> None:
        """Counts one image.

        Raises:
            DatasetError: See `confusion_matrix`.
        """
        self.add_counts(confusion_matrix(truth_HW, predicted_HW, len(self.classes), self.ignore_index))

    def add_counts(self, image_CC: Counts) -> None:
        """Counts one image by its confusion matrix."""
        self._confusion += image_CC
        self._image_mious.append(_mean_of_present(iou_per_class(image_CC)))

    def scores(self) -> SemanticScores:
        """Returns the scores of all images added so far."""
        return scores_from_confusion(self._confusion, self.classes, self._image_mious)


def score_semantic(truth: SemanticDataset, predictions: PredictionSet) -> SemanticScores:
    """Scores a prediction set on the images of the truth; predicted images beyond these are left out.

    Raises:
        DatasetError: If the classes differ, an image of the truth was not predicted, or sizes differ.
    """
    if predictions.meta.task != "semantic":
        raise DatasetError.of("expected a semantic prediction set, but got an instance one", where="task", cure=_CURE)
    if predictions.meta.classes != truth.classes:
        raise DatasetError.of(
            f"expected the truth's classes ({', '.join(truth.classes)}) in this order, "
            f"but got ({', '.join(predictions.meta.classes)})",
            where="classes of the prediction set",
            cure=_CURE,
        )
    accumulator = SemanticAccumulator(truth.classes, truth.ignore_index)
    for image in truth.images:
        try:
            accumulator.add(read_label_map(image.label_path), predictions.labels(image.name))
        except DatasetError as error:
            raise DatasetError(f"image {image.name}: {error}") from error
    return accumulator.scores()


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
    shared_C = np.diagonal(confusion_CC).astype(np.float64)
    union_C = confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1) - shared_C
    iou_C = np.full(len(shared_C), np.nan)
    np.divide(shared_C, union_C, out=iou_C, where=union_C > 0)
    return iou_C


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
        miou=_mean_of_present(iou_C),
        miou_per_image=_mean_of_present(np.asarray(of_images, dtype=np.float64)),
        accuracy=int(np.trace(confusion_CC)) / pixels if pixels else math.nan,
        per_class=tuple(zip(classes, iou_C.tolist(), strict=True)),
        images=len(of_images),
    )


def _mean_of_present(values: Floats) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else math.nan


def _wrong(where: str, expected: str, found: str) -> DatasetError:
    return DatasetError.of(f"expected {expected}, but got {found}", where=where, cure=_CURE)
