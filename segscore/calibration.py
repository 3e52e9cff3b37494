"""Calibration: of what is said with a confidence of 0.8, are 80 % right?

The expected calibration error is that of Guo et al. (ICML 2017, arXiv 1706.04599, equation 3): confidences in ten
equal bins, each open below and closed above, the mean over bins of |share right - mean confidence|, weighted by count.
Of instances each detection counts that COCO counts: right is one that took an object of its class at mask IoU 0.5 or
more; those that took a crowd are left out. Of label maps each pixel counts that is not ignored, its confidence being
the largest class probability. May import numpy and this package.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segscore.matching import AREAS, Matches

__all__ = ["BINS", "Calibration", "CalibrationBin", "calibration_of", "count_confidences", "count_matches"]

Floats = npt.NDArray[np.float64]
BINS = 10
_EDGES = np.linspace(0, 1, BINS + 1)


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One row of the reliability table: confidences in (low, high]; mean and share are NaN where the bin is empty."""

    low: float
    high: float
    count: int
    mean_confidence: float
    share_right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The expected calibration error, 0..1, NaN where nothing was predicted; and the table it is made of."""

    error: float
    bins: tuple[CalibrationBin, ...]


def count_confidences(confidences: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Floats:
    """Sums up by bin.

    Args:
        confidences: Any shape, 0 to 1.
        right: Same shape: whether that was right.

    Returns:
        float64 (3, BINS): count, sum of confidences, number of right ones. Images are added by adding these.
    """
    flat = confidences.ravel().astype(np.float64)
    place = np.searchsorted(_EDGES[1:-1], flat)
    weights = (None, flat, right.ravel().astype(np.float64))
    return np.stack([np.bincount(place, weights=of, minlength=BINS).astype(np.float64) for of in weights])


def count_matches(matches: Matches) -> Floats:
    """Sums up the detections of a data set by bin; see `count_confidences`."""
    area = list(AREAS).index("all")
    counted = matches.counted[:, area, 0]
    return count_confidences(matches.found.confidences[counted], matches.right[counted, area, 0])


def calibration_of(sum_3M: Floats) -> Calibration:
    """Takes the ratios of summed bins, (3, BINS)."""
    edges = _EDGES.tolist()
    bins = tuple(
        CalibrationBin(low, high, int(count), *((sure / count, right / count) if count else (math.nan, math.nan)))
        for low, high, (count, sure, right) in zip(edges[:-1], edges[1:], sum_3M.T.tolist(), strict=True)
    )
    total = float(sum_3M[0].sum())
    apart = float(np.abs(sum_3M[1] - sum_3M[2]).sum())
    return Calibration(apart / total if total else math.nan, bins)
