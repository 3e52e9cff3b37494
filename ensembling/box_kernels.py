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
    x1, y1, x2, y2 = np.empty(count), np.empty(count), np.empty(count), np.empty(count)  # of the fused boxes
    area = np.empty(count)
    sums = np.zeros((count, 5))  # votes x coordinates, votes
    weighed = np.zeros((count, 3))  # weight x confidence, weight, weight of members that are present
    sizes = np.zeros(count, dtype=np.int64)
    has = np.zeros((len(weights_M), count), dtype=np.bool_)
    cluster_N = np.full(len(classes), -1, dtype=np.int64)
    founder = np.empty(count, dtype=np.int64)
    first = clusters = 0
    last_class = -1
    for index in by_class(order, classes):
        if classes[index] != last_class:
            first, last_class = clusters, classes[index]
        member = members[index]
        left, top, right, bottom = boxes_xyxy[index]
        own_area = (right - left) * (bottom - top)
        best, best_iou = -1, iou_threshold
        for k in range(first, clusters):
            width = min(x2[k], right) - max(x1[k], left)
            height = min(y2[k], bottom) - max(y1[k], top)
            if width > 0 and height > 0:
                shared = width * height
                iou = shared / (area[k] + own_area - shared)
                if iou > best_iou and (merge_own or not has[member, k]):
                    best, best_iou = k, iou
        if best < 0:
            best, clusters = clusters, clusters + 1
            founder[best] = index
        cluster_N[index] = best
        vote, weight = votes_N[index], weights_M[member]
        row = sums[best]
        row[0] += vote * left
        row[1] += vote * top
        row[2] += vote * right
        row[3] += vote * bottom
        row[4] += vote
        x1[best], y1[best], x2[best], y2[best] = row[0] / row[4], row[1] / row[4], row[2] / row[4], row[3] / row[4]
        area[best] = (x2[best] - x1[best]) * (y2[best] - y1[best])
        weighed[best, 0] += weight * confidences[index]
        weighed[best, 1] += weight
        sizes[best] += 1
        if not has[member, best]:
            has[member, best] = True
            weighed[best, 2] += weight
    confidence_K = fused_confidences(weighed[:clusters], sizes[:clusters], weights_M, count_boxes)
    rank = ranking(confidence_K, founder[:clusters], order, len(classes))
    fused = np.empty((clusters, 4))
    place = np.empty(clusters, dtype=np.int64)
    for at in range(clusters):
        k = rank[at]
        fused[at, 0], fused[at, 1], fused[at, 2], fused[at, 3] = x1[k], y1[k], x2[k], y2[k]
        place[k] = at
    for index in order:
        cluster_N[index] = place[cluster_N[index]]
    return fused, confidence_K[rank], classes[founder[:clusters]][rank], cluster_N


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
