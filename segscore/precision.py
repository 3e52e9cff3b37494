"""Average precision from matches, for the data set as it is or for any number of resamples of its images.

A resample is a weight for each image: how often it was drawn. Weights of 1 give what pycocotools gives.

Legend: B resamples, N images, K classes, A area ranges, T IoU thresholds, R recalls, D detections of one class in
the order of falling confidence. Imports numpy only.
"""

import numpy as np
import numpy.typing as npt

from segscore.matching import AREAS, IOU_THRESHOLDS, Matches

__all__ = ["average_precisions"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RECALLS: Floats = np.linspace(0.0, 1.0, 101, dtype=np.float64)
_NUMBERS_AT_ONCE = 500_000


def average_precisions(matches: Matches, weight_BN: Floats | None = None) -> Floats:
    """Returns the mean over 101 recalls of the highest precision at that recall or a higher one.

    Args:
        matches: Which detections are right.
        weight_BN: How often each image counts, whole numbers as float64; None = one resample, every image once.

    Returns:
        float64 (B, T, K, A), 0 to 1; NaN where no object counts.
    """
    weight = np.ones((1, matches.num_images)) if weight_BN is None else weight_BN
    result = np.full((len(weight), len(IOU_THRESHOLDS), matches.num_classes, len(AREAS)), np.nan)
    starts = np.searchsorted(matches.found.classes, np.arange(matches.num_classes + 1))
    for index in range(matches.num_classes):
        of_class = np.arange(starts[index], starts[index + 1])
        order = of_class[np.argsort(-matches.found.confidences[of_class], kind="stable")]
        for area in range(len(AREAS)):
            objects = (matches.objects.classes == index) & matches.counted_objects[:, area]
            if not objects.any():
                continue
            object_N = np.bincount(matches.objects.images[objects], minlength=matches.num_images)
            counted_DT = matches.counted[order, area]
            kept = counted_DT.any(axis=1)
            result[:, :, index, area] = _of_class(
                weight @ object_N,
                weight,
                matches.found.images[order[kept]],
                matches.right[order[kept], area].T,
                counted_DT[kept].T,
            )
    return result


def _of_class(object_B: Floats, weight_BN: Floats, image_D: Ints, right_TD: Bools, counted_TD: Bools) -> Floats:
    """Returns (B, T), NaN where a resample has no object; a few resamples at a time."""
    result = np.full((len(weight_BN), len(right_TD)), np.nan)
    size = max(1, _NUMBERS_AT_ONCE // max(1, right_TD.size))
    present = np.flatnonzero(object_B > 0)
    for start in range(0, len(present), size):
        some = present[start : start + size]
        weight_BD = weight_BN[some][:, None, image_D]
        found_BTD = np.cumsum(weight_BD * counted_TD, axis=-1)
        right_BTD = np.cumsum(weight_BD * right_TD, axis=-1)
        result[some] = _mean_precision(object_B[some], found_BTD, right_BTD)
    return result


def _mean_precision(object_B: Floats, found_BTD: Floats, right_BTD: Floats) -> Floats:
    """Samples the precision that is held up to each recall, 0 where that recall is not reached; (B, T)."""
    resamples, thresholds, detections = found_BTD.shape
    if detections == 0:
        return np.zeros((resamples, thresholds))
    precision = np.zeros_like(found_BTD)
    np.divide(right_BTD, found_BTD, out=precision, where=found_BTD > 0)
    precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    # One search for all rows: each row's counts are moved above those of the row before. Whole numbers, so exact.
    row = np.arange(resamples * thresholds) * (float(object_B.max()) + 1)
    wanted = np.repeat(_objects_at_recall(object_B), thresholds, axis=0) + row[:, None]
    counts = right_BTD.reshape(len(row), detections) + row[:, None]
    place = np.searchsorted(counts.ravel(), wanted.ravel()).reshape(wanted.shape)
    end = (np.arange(len(row))[:, None] + 1) * detections
    held = np.append(precision.ravel(), 0.0)[np.where(place < end, place, -1)]
    mean: Floats = held.mean(axis=1).reshape(resamples, thresholds)
    return mean


def _objects_at_recall(object_B: Floats) -> Floats:
    """Returns the fewest right detections that reach each recall, (B, R), by the division that pycocotools does."""
    total = object_B[:, None]
    fewest = np.ceil(RECALLS * total)
    fewest -= (fewest - 1) / total >= RECALLS
    fewest += fewest / total < RECALLS
    return fewest
