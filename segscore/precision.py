"""Average precision from matches, for the data set as it is or for any number of resamples of its images.

A resample is a weight for each image: how often it was drawn. Weights of 1 give what pycocotools gives; of equal
confidences, the copies of a detection that a weight stands for come one after the other. Precision is only looked at
where a right detection stands: elsewhere it is lower than at the right detection before.

Legend: B resamples, N images, K classes, A area ranges, T IoU thresholds, R recalls; D detections of one class and
area in the order of falling confidence; Q the right ones of them, threshold after threshold; X those that count at
some thresholds only, at the others, threshold after threshold. Imports numpy and `segscore.matching`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from segscore.matching import AREAS, IOU_THRESHOLDS, Matches

__all__ = ["average_precisions"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RECALLS: Floats = np.linspace(0.0, 1.0, 101, dtype=np.float64)
_NUMBERS_AT_ONCE = 50_000


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
    for index, area, curves in _all_curves(matches):
        object_B = weight @ curves.objects
        present = np.flatnonzero(object_B > 0)
        size = max(1, _NUMBERS_AT_ONCE // max(1, len(curves.right)))
        for start in range(0, len(present), size):
            some = present[start : start + size]
            result[some, :, index, area] = curves.mean_precisions(weight[some], object_B[some])
    return result


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
class _Curves:
    """The precision-recall curves of one class and area at all thresholds, before images are weighted.

    Attributes:
        objects: (N,) how many each image has.
        images: (D,) image of each detection that counts at some threshold.
        right: (Q,) index among the detections.
        starts: (T + 1,) where a threshold's right detections start among all, and the end.
        out: (X,) index among the detections.
        out_before: (Q,) how many of the X stand before each right detection, those of lower thresholds included.
        out_at_start: (Q,) how many of the X belong to lower thresholds.
    """

    objects: Floats
    images: Ints
    right: Ints
    starts: Ints
    out: Ints
    out_before: Ints
    out_at_start: Ints

    @classmethod
    def of(cls, object_N: Ints, image_D: Ints, right_DT: Bools, counted_DT: Bools) -> Self:
        """Finds where what stands."""
        detections, thresholds = right_DT.shape
        threshold_Q, right_Q = np.nonzero(right_DT.T)
        threshold_X, out_X = np.nonzero(~counted_DT.T)
        placed_Q, placed_X = threshold_Q * detections + right_Q, threshold_X * detections + out_X
        return cls(
            objects=object_N.astype(np.float64),
            images=image_D,
            right=right_Q,
            starts=np.searchsorted(threshold_Q, np.arange(thresholds + 1)),
            out=out_X,
            out_before=np.searchsorted(placed_X, placed_Q),
            out_at_start=np.searchsorted(placed_X, threshold_Q * detections),
        )

    def mean_precisions(self, weight_BN: Floats, object_B: Floats) -> Floats:
        """Samples the precision that is held up to each recall, 0 where that recall is not reached; means, (B, T)."""
        resamples, thresholds = len(weight_BN), len(self.starts) - 1
        if not len(self.right):
            return np.zeros((resamples, thresholds))
        weight_BD = weight_BN[:, self.images]
        right = np.cumsum(np.take(weight_BD, self.right, axis=1))  # over all rows, so that it never falls
        before = np.concatenate([[0.0], right])
        offset = np.arange(resamples)[:, None] * len(self.right)
        start_BT, end_BT = offset + self.starts[:-1], offset + self.starts[1:]
        base_BT = before[start_BT]
        precision = self._precision(weight_BD, right.reshape(resamples, -1), base_BT)
        wanted_BTR = base_BT[:, :, None] + _objects_at_recall(object_B)[:, None]
        place = np.maximum(np.searchsorted(right, wanted_BTR.ravel()).reshape(wanted_BTR.shape), start_BT[:, :, None])
        reached = place < end_BT[:, :, None]
        # The highest precision between one recall's place and the next one's, then from there on.
        place = np.minimum(place, end_BT[:, :, None])
        highest = np.maximum.reduceat(np.append(precision.ravel(), 0.0), place.ravel()).reshape(place.shape)
        highest[~reached] = 0.0
        mean: Floats = np.maximum.accumulate(highest[..., ::-1], axis=-1).mean(axis=-1)
        return mean

    def _precision(self, weight_BD: Floats, right_BQ: Floats, base_BT: Floats) -> Floats:
        """Returns the precision at each right detection, (B, Q), 0 where nothing is found yet."""
        found = np.take(np.cumsum(weight_BD, axis=1), self.right, axis=1)
        if len(self.out):
            out = np.cumsum(np.pad(weight_BD[:, self.out], ((0, 0), (1, 0))), axis=1)
            found -= np.take(out, self.out_before, axis=1) - np.take(out, self.out_at_start, axis=1)
        right = right_BQ - np.repeat(base_BT, np.diff(self.starts), axis=1)
        return np.divide(right, found, out=np.zeros_like(right), where=found > 0)


def _objects_at_recall(object_B: Floats) -> Floats:
    """Returns the fewest right detections that reach each recall, (B, R), by the division that pycocotools does."""
    total = object_B[:, None]
    fewest = np.ceil(RECALLS * total)
    fewest -= (fewest - 1) / total >= RECALLS
    fewest += fewest / total < RECALLS
    return fewest
