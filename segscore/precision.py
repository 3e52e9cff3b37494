"""Average precision from matches, for the data set as it is or for any number of resamples of its images.

A resample is a weight for each image: how often it was drawn. Weights of 1 give what pycocotools gives; of equal
confidences, the copies of a detection that a weight stands for come one after the other. Precision is only looked at
where a right detection stands and a wrong one is next: among right ones it rises, among wrong ones it falls. What
stands there is told by the sums of the weights of all detections, the same at all thresholds, and of the right or of
the wrong ones, whichever are fewer.

Legend: B resamples, N images, K classes, A area ranges, T IoU thresholds, R recalls; D detections of one class and
area in the order of falling confidence; J places where precision is looked at. Imports numpy and `segscore.matching`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from segscore.matching import AREAS, IOU_THRESHOLDS, Matches

__all__ = ["average_precisions"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.signedinteger[Any]]

RECALLS: Floats = np.linspace(0.0, 1.0, 101, dtype=np.float64)
_NUMBERS_AT_ONCE = 200_000


def average_precisions(matches: Matches, weight_BN: Floats | None = None) -> Floats:
    """Returns the mean over 101 recalls of the highest precision at that recall or a higher one.

    Args:
        matches: Which detections are right.
        weight_BN: How often each image counts, whole numbers as float64; None = one resample, every image once.

    Returns:
        float64 (B, T, K, A), 0 to 1; NaN where no object counts.
    """
    weight = np.ones((1, matches.num_images), np.int32) if weight_BN is None else _whole(weight_BN, matches)
    result = np.full((len(weight), len(IOU_THRESHOLDS), matches.num_classes, len(AREAS)), np.nan)
    for index, area, curves in _all_curves(matches):
        object_B = weight @ curves.objects
        present = np.flatnonzero(object_B > 0)
        size = max(1, _NUMBERS_AT_ONCE // max(1, len(curves.images)))
        for start in range(0, len(present), size):
            some = present[start : start + size]
            result[some, :, index, area] = curves.mean_precisions(weight[some], object_B[some])
    return result


def _whole(weight_BN: Floats, matches: Matches) -> Ints:
    """Returns the weights as whole numbers, of 32 bits if all sums fit."""
    largest = weight_BN.max(initial=1.0) * max(len(matches.found.images), 1)
    whole: Ints = weight_BN.astype(np.int32 if largest < np.iinfo(np.int32).max else np.int64)
    return whole


def _all_curves(matches: Matches) -> Iterator[tuple[int, int, "_Curves"]]:
    """Yields class, area and curves wherever an object counts."""
    starts = np.searchsorted(matches.found.classes, np.arange(matches.num_classes + 1))
    for index in range(matches.num_classes):
        of_class = np.arange(starts[index], starts[index + 1])
        order = of_class[np.argsort(-matches.found.confidences[of_class], kind="stable")]
        for area in range(len(AREAS)):
            objects = (matches.objects.classes == index) & matches.counted_objects[:, area]
            if objects.any():
                object_N = np.bincount(matches.objects.images[objects], minlength=matches.num_images)
                right_DT, counted_DT = matches.right[order, area], matches.counted[order, area]
                kept = counted_DT.any(axis=1)
                image_D = matches.found.images[order[kept]]
                yield index, area, _Curves.of(object_N, image_D, right_DT[kept], counted_DT[kept])


@dataclass(frozen=True, slots=True)
class _Threshold:
    """Where precision is looked at, at one IoU threshold, and the sums of weights that it is made of.

    Attributes:
        ends: (J,) index among the detections of the last of each row of right ones.
        summed: Images of the right or of the wrong detections, whichever are fewer.
        summed_before: (J,) how many of them stand up to each end.
        sums_right: Whether those are the right ones.
        out: Images of the detections that do not count at this threshold.
        out_before: (J,) how many of them stand up to each end.
    """

    ends: Ints
    summed: Ints
    summed_before: Ints
    sums_right: bool
    out: Ints
    out_before: Ints

    @classmethod
    def of(cls, image_D: Ints, right_D: Bools, counted_D: Bools) -> Self:
        """Finds where what stands."""
        right, wrong, out = (np.flatnonzero(of_D) for of_D in (right_D, ~right_D & counted_D, ~counted_D))
        wrong_before = np.searchsorted(wrong, right)
        ends = right[np.flatnonzero(np.diff(wrong_before, append=len(wrong) + 1))]
        sums_right = len(right) <= len(wrong)
        summed = right if sums_right else wrong
        return cls(
            ends=ends,
            summed=image_D[summed],
            summed_before=np.searchsorted(summed, ends, side="right"),
            sums_right=sums_right,
            out=image_D[out],
            out_before=np.searchsorted(out, ends),
        )

    def mean_precisions(self, weight_NB: Ints, found_DB: Ints, needed_BR: Ints) -> Floats:
        """Samples the precision that is held up to each recall, 0 where that recall is not reached; means, (B,).

        Args:
            weight_NB: How often each image counts.
            found_DB: The sum of the weights of the detections up to each, with it.
            needed_BR: The fewest right detections that reach each recall.
        """
        resamples, ends = weight_NB.shape[1], len(self.ends)
        if not ends:
            return np.zeros(resamples)
        found_JB = np.take(found_DB, self.ends, axis=0)
        if len(self.out):
            found_JB -= _sums_before(weight_NB, self.out, self.out_before)
        summed_JB = _sums_before(weight_NB, self.summed, self.summed_before)
        right_BJ = np.ascontiguousarray((summed_JB if self.sums_right else found_JB - summed_JB).T)
        precision = np.zeros(resamples * ends + 1)  # of all resamples, and a 0 to end with
        np.divide(right_BJ, np.maximum(found_JB, 1, out=found_JB).T, out=precision[:-1].reshape(resamples, ends))
        # All rows are searched at once: each begins where no value of the one before can be.
        apart_B = np.arange(resamples)[:, None] * (needed_BR.max() + 1)
        if apart_B[-1] + apart_B[-1] < np.iinfo(right_BJ.dtype).max:
            apart_B = apart_B.astype(right_BJ.dtype)
        needed = (needed_BR.astype(apart_B.dtype) + apart_B).ravel()
        place_BR = np.searchsorted((right_BJ + apart_B).ravel(), needed).reshape(needed_BR.shape)
        end_B = np.arange(1, resamples + 1)[:, None] * ends
        reached_BR = place_BR < end_B
        # The highest precision between one recall's place and the next one's, then from there on.
        highest_BR = np.maximum.reduceat(precision, np.minimum(place_BR, end_B).ravel())
        highest_BR = highest_BR.reshape(place_BR.shape) * reached_BR
        mean: Floats = np.maximum.accumulate(highest_BR[:, ::-1], axis=1).mean(axis=1)
        return mean


@dataclass(frozen=True, slots=True)
class _Curves:
    """The precision-recall curves of one class and area, before images are weighted.

    Attributes:
        objects: (N,) how many each image has.
        images: (D,) image of each detection that counts at some threshold.
        thresholds: One an IoU threshold.
    """

    objects: Ints
    images: Ints
    thresholds: tuple[_Threshold, ...]

    @classmethod
    def of(cls, object_N: Ints, image_D: Ints, right_DT: Bools, counted_DT: Bools) -> Self:
        """Finds where what stands."""
        thresholds = zip(right_DT.T, counted_DT.T, strict=True)
        found = [_Threshold.of(image_D, right_D, counted_D) for right_D, counted_D in thresholds]
        return cls(object_N, image_D, tuple(found))

    def mean_precisions(self, weight_BN: Ints, object_B: Ints) -> Floats:
        """Returns the mean precision over the recalls, (B, T)."""
        weight_NB = np.ascontiguousarray(weight_BN.T)  # sums over a column at a time are quicker than along a row
        found_DB = np.take(weight_NB, self.images, axis=0)
        np.cumsum(found_DB, axis=0, out=found_DB)
        needed_BR = _objects_at_recall(object_B.astype(np.float64)).astype(np.int64)
        means = [threshold.mean_precisions(weight_NB, found_DB, needed_BR) for threshold in self.thresholds]
        return np.stack(means, axis=1)


def _sums_before(weight_NB: Ints, images: Ints, before_J: Ints) -> Ints:
    """Returns the sums of the weights of the first `before_J` of detections in these images, (J, B)."""
    sums = np.zeros((len(images) + 1, weight_NB.shape[1]), dtype=weight_NB.dtype)
    np.cumsum(np.take(weight_NB, images, axis=0), axis=0, out=sums[1:])
    return np.take(sums, before_J, axis=0)


def _objects_at_recall(object_B: Floats) -> Floats:
    """Returns the fewest right detections that reach each recall, (B, R), by the division that pycocotools does."""
    total = object_B[:, None]
    fewest = np.ceil(RECALLS * total)
    fewest -= (fewest - 1) / total >= RECALLS
    fewest += fewest / total < RECALLS
    return fewest
