"""Boundary IoU (Cheng et al., CVPR 2021, arXiv 2103.16562): how well outlines agree, however large the objects.

A mask's boundary is those of its pixels within d pixels of the outside, the image's edge included; d is 0.02 of the
image's diagonal, rounded, at least 1 (the paper's section 4; its own code erodes by a 3 x 3 square d times, which is
a distance along the longer axis, and so do we). Boundary IoU is the intersection over union of two boundaries.
Average precision matches by the smaller of mask IoU and boundary IoU, and by mask IoU where the truth is a crowd.

Masks are cropped to their boxes, never drawn whole. May import numpy, OpenCV and `segdata`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segdata.labelmaps import LabelMap
from segdata.rle import Mask, Rle, rle_crop
from segscore.matching import Pairs

__all__ = ["boundary_counts", "boundary_width", "with_boundaries"]

Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
_DILATION_RATIO = 0.02


def boundary_width(height: int, width: int) -> int:
    """Returns how many pixels deep the boundary is in an image of this size."""
    return max(1, round(_DILATION_RATIO * math.hypot(height, width)))


def with_boundaries(pairs: Pairs, found: Sequence[Rle], truth: Sequence[Rle], crowd_G: Bools) -> Pairs:
    """Takes the smaller of mask IoU and boundary IoU; pairs of a crowd stay as they are.

    Args:
        pairs: Detections and objects with their mask IoU.
        found: The detections' masks; only those in a pair are looked at.
        truth: The objects' masks, likewise.
        crowd_G: Whether an object is a crowd.
    """
    compared = np.flatnonzero(~crowd_G[pairs.objects])
    of_found = {index: _boundary(found[index]) for index in np.unique(pairs.detections[compared]).tolist()}
    of_truth = {index: _boundary(truth[index]) for index in np.unique(pairs.objects[compared]).tolist()}
    iou_P = pairs.ious.copy()
    for pair in compared.tolist():
        one, other = of_found[int(pairs.detections[pair])], of_truth[int(pairs.objects[pair])]
        iou_P[pair] = min(iou_P[pair], _iou(one, other))
    return Pairs(pairs.detections, pairs.objects, iou_P)


def boundary_counts(truth_HW: LabelMap, predicted_HW: LabelMap, num_classes: int, ignore_index: int = 255) -> Counts:
    """Counts the pixels of each class's boundary in truth and prediction.

    Ignored pixels belong to no boundary, and an edge against them is none, since nobody knows what lies there.

    Args:
        truth_HW: True class indices, uint8; `ignore_index` where a pixel does not count.
        predicted_HW: Predicted class indices, uint8, of the same shape.
        num_classes: Number of classes.
        ignore_index: Label of pixels that do not count.

    Returns:
        int64 (3, C): in both boundaries of the class, in the truth's, in the prediction's.
    """
    counted_HW = truth_HW != ignore_index
    true_HW = _outlines(truth_HW, counted_HW)
    seen_HW = _outlines(predicted_HW, counted_HW)
    both_HW = true_HW & seen_HW & (truth_HW == predicted_HW)
    labels = (truth_HW[both_HW], truth_HW[true_HW], predicted_HW[seen_HW])
    return np.stack([np.bincount(of, minlength=num_classes) for of in labels]).astype(np.int64)


def _outlines(label_HW: LabelMap, counted_HW: Bools) -> Bools:
    """Marks the counted pixels with a counted pixel of another class, or the image's edge, within the width."""
    width = boundary_width(*label_HW.shape)
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    highest_HW = cv2.dilate(np.where(counted_HW, label_HW, 0).astype(np.uint8), square)
    lowest_HW = cv2.erode(np.where(counted_HW, label_HW, 255).astype(np.uint8), square)
    near_HW = (highest_HW != label_HW) | (lowest_HW != label_HW)
    near_HW[:width] = near_HW[-width:] = near_HW[:, :width] = near_HW[:, -width:] = True
    outlines_HW: Bools = near_HW & counted_HW
    return outlines_HW


@dataclass(frozen=True, slots=True)
class _Boundary:
    """The boundary of one mask, cropped to the mask's box, whose upper left pixel is (x, y)."""

    crop: Mask
    x: int
    y: int
    pixels: int


def _boundary(rle: Rle) -> _Boundary:
    mask_HW, x, y = rle_crop(rle)
    if not mask_HW.size:
        return _Boundary(mask_HW, x, y, 0)
    width = boundary_width(rle.height, rle.width)
    outside = cv2.copyMakeBorder(mask_HW.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner_HW = cv2.erode(outside, np.ones((2 * width + 1, 2 * width + 1), np.uint8))[1:-1, 1:-1]
    crop_HW = mask_HW & (inner_HW == 0)
    return _Boundary(crop_HW, x, y, int(np.count_nonzero(crop_HW)))


def _iou(one: _Boundary, other: _Boundary) -> float:
    left, top = max(one.x, other.x), max(one.y, other.y)
    right = min(one.x + one.crop.shape[1], other.x + other.crop.shape[1])
    bottom = min(one.y + one.crop.shape[0], other.y + other.crop.shape[0])
    if right <= left or bottom <= top:
        return 0.0
    parts = [b.crop[top - b.y : bottom - b.y, left - b.x : right - b.x] for b in (one, other)]
    shared = int(np.count_nonzero(parts[0] & parts[1]))
    return shared / (one.pixels + other.pixels - shared)
