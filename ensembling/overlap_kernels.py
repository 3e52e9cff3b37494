"""Compiled loops over pairs of objects that overlap: who joins whom, who removes whom, who lowers whose confidence.

Legend: N objects, M members. Imports numpy and `compiled`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ensembling.compiled import compiled

__all__ = ["GAUSSIAN", "LINEAR", "Shapes", "decay", "join_founders", "suppress"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
LINEAR, GAUSSIAN = 0, 1


class Shapes(NamedTuple):
    """What the objects cover: their boxes, or their masks.

    Attributes:
        boxes_xyxy: (N, 4) pixels; with masks, the boxes of the masks.
        areas: (N,) pixels, of the boxes or of the masks.
        by_mask: Whether the masks count.
        starts, ends, offsets: The masks as `ensembling.run_lengths.Runs`; empty where boxes count.
    """

    boxes_xyxy: Floats
    areas: Floats
    by_mask: bool
    starts: Ints
    ends: Ints
    offsets: Ints


@compiled
def overlap(shapes: Shapes, first: int, second: int, above: float) -> float:
    """IoU of two objects, 0 where it can't be above `above`; two objects without area have an IoU of 0."""
    boxes = shapes.boxes_xyxy
    width = min(boxes[first, 2], boxes[second, 2]) - max(boxes[first, 0], boxes[second, 0])
    if width <= 0:
        return 0.0
    height = min(boxes[first, 3], boxes[second, 3]) - max(boxes[first, 1], boxes[second, 1])
    if height <= 0:
        return 0.0
    both = shapes.areas[first] + shapes.areas[second]
    shared = width * height
    if shapes.by_mask:
        most = min(shared, shapes.areas[first], shapes.areas[second])
        if most <= above * (both - most):
            return 0.0
        shared = float(shared_pixels(shapes.starts, shapes.ends, shapes.offsets, first, second))
    iou: float = shared / (both - shared)
    return iou


@compiled
def shared_pixels(starts: Ints, ends: Ints, offsets: Ints, first: int, second: int) -> int:
    """Counts the pixels that two masks have in common."""
    a, a_stop = offsets[first], offsets[first + 1]
    b, b_stop = offsets[second], offsets[second + 1]
    shared = 0
    while a < a_stop and b < b_stop:
        shared += max(0, min(ends[a], ends[b]) - max(starts[a], starts[b]))
        if ends[a] < ends[b]:
            a += 1
        else:
            b += 1
    return shared


@compiled
def join_founders(
    shapes: Shapes, classes: Ints, members: Ints, order: Ints, iou_threshold: float, merge_own: bool
) -> tuple[Ints, Floats, Ints]:
    """Clusters objects around the first of each cluster, taken in the given order.

    Returns:
        (N,) cluster of each object, (N,) its IoU with the cluster's first object (1 for that one itself), and (K,)
        the first objects.
    """
    count = len(order)
    cluster_N = np.full(count, -1, dtype=np.int64)
    iou_N = np.ones(count)
    founder = np.empty(count, dtype=np.int64)
    has = np.zeros((members.max() + 1 if count else 0, count), dtype=np.bool_)
    clusters = 0
    for index in order:
        best, best_iou = -1, iou_threshold
        for k in range(clusters):
            if classes[founder[k]] == classes[index] and (merge_own or not has[members[index], k]):
                iou = overlap(shapes, founder[k], index, best_iou)
                if iou > best_iou:
                    best, best_iou = k, iou
        if best < 0:
            best, clusters = clusters, clusters + 1
            founder[best] = index
        else:
            iou_N[index] = best_iou
        cluster_N[index] = best
        has[members[index], best] = True
    return cluster_N, iou_N, founder[:clusters].copy()


@compiled
def suppress(shapes: Shapes, classes: Ints, members: Ints, order: Ints, iou_threshold: float, merge_own: bool) -> Ints:
    """Returns the objects that stay: each removes those after it of its class that it overlaps."""
    stays = np.empty(len(order), dtype=np.int64)
    count = 0
    for index in order:
        goes = False
        for k in range(count):
            other = stays[k]
            if classes[other] == classes[index] and (merge_own or members[other] != members[index]):
                goes = overlap(shapes, other, index, iou_threshold) > iou_threshold
                if goes:
                    break
        if not goes:
            stays[count] = index
            count += 1
    return stays[:count].copy()


@compiled
def decay(
    shapes: Shapes,
    confidences: Floats,
    classes: Ints,
    members: Ints,
    order: Ints,
    merge_own: bool,
    form: int,
    iou_threshold: float,
    sigma: float,
    least: float,
) -> tuple[Ints, Floats]:
    """Takes the most confident object in turn, and lowers the confidence of those left that it overlaps.

    Of equal confidences the one that is first in `order` is taken.

    Returns:
        The objects that stay, as they were taken, and their confidences. Those that fell below `least` are left out.
    """
    left = order.copy()
    now = confidences[order]
    lowered = np.zeros(len(order), dtype=np.bool_)
    taken, taken_at = np.empty(len(order), dtype=np.int64), np.empty(len(order))
    count, remaining = 0, len(order)
    floor = iou_threshold if form == LINEAR else 0.0
    while remaining:
        best = 0
        for k in range(1, remaining):
            if now[k] > now[best]:
                best = k
        chosen = left[best]
        stays = not lowered[best] or now[best] >= least
        if stays:
            taken[count], taken_at[count] = chosen, now[best]
            count += 1
        remaining -= 1
        for k in range(best, remaining):  # keeps the order, for ties
            left[k], now[k], lowered[k] = left[k + 1], now[k + 1], lowered[k + 1]
        for k in range(remaining if stays else 0):
            other = left[k]
            if classes[other] == classes[chosen] and (merge_own or members[other] != members[chosen]):
                iou = overlap(shapes, chosen, other, floor)
                if iou > floor:
                    now[k] *= 1.0 - iou if form == LINEAR else np.exp(-iou * iou / sigma)
                    lowered[k] = True
    return taken[:count].copy(), taken_at[:count].copy()
