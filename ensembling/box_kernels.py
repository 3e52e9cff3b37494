"""Compiled loops of weighted boxes fusion. Legend as in `ensembling.boxes`; imports numpy and `compiled`."""

import numpy as np
import numpy.typing as npt

from ensembling.compiled import compiled

__all__ = ["Clustered", "boxes_are_sound", "cluster_boxes"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Clustered = tuple[Floats, Floats, Ints, Ints]  # boxes (K, 4), confidences (K,), classes (K,), cluster of each object


@compiled
def boxes_are_sound(boxes_xyxy: Floats) -> bool:
    """Whether all numbers are finite and no box ends before it starts."""
    for index in range(len(boxes_xyxy)):
        x1, y1, x2, y2 = boxes_xyxy[index]
        if not (-np.inf < x1 <= x2 < np.inf and -np.inf < y1 <= y2 < np.inf):
            return False
    return True


@compiled
def by_class(order: Ints, classes: Ints) -> Ints:
    """Sorts by class, and within a class leaves the order."""
    sizes = np.zeros(classes.max() + 2, dtype=np.int64)
    for index in order:
        sizes[classes[index] + 1] += 1
    places = np.cumsum(sizes)
    result = np.empty_like(order)
    for index in order:
        result[places[classes[index]]] = index
        places[classes[index]] += 1
    return result


@compiled
def cluster_boxes(
    boxes_xyxy: Floats,
    confidences: Floats,
    classes: Ints,
    members: Ints,
    votes_N: Floats,
    weights_M: Floats,
    order: Ints,
    iou_threshold: float,
    merge_own: bool,
    count_boxes: bool,
) -> Clustered:
    """Clusters the objects named in `order`, taken in that order, and sums each cluster up."""
    count = len(order)
    fused = np.empty((count, 5))  # a row a cluster: x1, y1, x2, y2 of its box, and its area
    sums = np.zeros((count, 5))  # votes x coordinates, votes
    weighed = np.zeros((count, 3))  # weight x confidence, weight, weight of the members that are present
    sizes, founder = np.zeros(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    has = np.zeros((count, len(weights_M)), dtype=np.bool_)
    cluster_N = np.full(len(classes), -1, dtype=np.int64)
    first = clusters = 0
    last_class = -1
    for index in by_class(order, classes):
        if classes[index] != last_class:
            first, last_class = clusters, classes[index]
        member = members[index]
        best = nearest(fused, has, boxes_xyxy, index, member, first, clusters, iou_threshold, merge_own)
        if best < 0:
            best, clusters = clusters, clusters + 1
            founder[best] = index
        cluster_N[index] = best
        absorb(fused, sums, best, boxes_xyxy, index, votes_N[index])
        weight = weights_M[member]
        weighed[best, 0] += weight * confidences[index]
        weighed[best, 1] += weight
        weighed[best, 2] += 0.0 if has[best, member] else weight
        has[best, member] = True
        sizes[best] += 1
    confidence_K = fused_confidences(weighed[:clusters], sizes[:clusters], weights_M, count_boxes)
    rank = ranking(confidence_K, founder[:clusters], order, len(classes))
    place = np.empty(clusters, dtype=np.int64)
    place[rank] = np.arange(clusters)
    for index in order:
        cluster_N[index] = place[cluster_N[index]]
    return fused[rank, :4].copy(), confidence_K[rank], classes[founder[rank]], cluster_N


@compiled
def nearest(
    fused: Floats,
    has: Bools,
    boxes_xyxy: Floats,
    index: int,
    member: int,
    first: int,
    stop: int,
    iou_threshold: float,
    merge_own: bool,
) -> int:
    """The cluster from `first` to before `stop` whose box has the largest IoU above the threshold, -1 for none."""
    x1, y1, x2, y2 = boxes_xyxy[index, 0], boxes_xyxy[index, 1], boxes_xyxy[index, 2], boxes_xyxy[index, 3]
    own_area = (x2 - x1) * (y2 - y1)
    best, best_iou = -1, iou_threshold
    for k in range(first, stop):
        width = min(fused[k, 2], x2) - max(fused[k, 0], x1)
        height = min(fused[k, 3], y2) - max(fused[k, 1], y1)
        if width > 0 and height > 0:
            shared = width * height
            iou = shared / (fused[k, 4] + own_area - shared)
            if iou > best_iou and (merge_own or not has[k, member]):
                best, best_iou = k, iou
    return best


@compiled
def absorb(fused: Floats, sums: Floats, k: int, boxes_xyxy: Floats, index: int, vote: float) -> None:
    """Moves the box of a cluster to the mean that an object belongs to as well."""
    sums[k, 4] += vote
    for side in range(4):
        sums[k, side] += vote * boxes_xyxy[index, side]
        fused[k, side] = sums[k, side] / sums[k, 4]
    fused[k, 4] = (fused[k, 2] - fused[k, 0]) * (fused[k, 3] - fused[k, 1])


@compiled
def fused_confidences(weighed: Floats, sizes: Ints, weights_M: Floats, count_boxes: bool) -> Floats:
    """Mean confidence of each cluster times the share of the members that is present; see `fuse_boxes`."""
    result = np.empty(len(sizes))
    total = weights_M.sum()
    for k in range(len(sizes)):
        if count_boxes:
            result[k] = weighed[k, 0] / sizes[k] * min(len(weights_M), sizes[k]) / total
        else:
            result[k] = weighed[k, 0] / weighed[k, 1] * (weighed[k, 2] / total)
        result[k] = min(result[k], 1.0)
    return result


@compiled
def ranking(confidence_K: Floats, founder_K: Ints, order: Ints, objects: int) -> Ints:
    """Clusters by descending confidence; of equal ones that first whose first object was taken first."""
    at = np.empty(objects, dtype=np.int64)
    for position in range(len(order)):
        at[order[position]] = position
    founded = np.argsort(at[founder_K])
    return founded[np.argsort(-confidence_K[founded], kind="mergesort")]
