"""Weighted boxes fusion: which objects of several members are one, and the box and confidence they share.

Roman Solovyev, Weimin Wang, Tatiana Gabruseva, "Weighted boxes fusion: ensembling boxes from different object
detection models", arXiv 1910.13302, section 3. Legend: M members, N objects of all members in order of members,
K clusters. Boxes are xyxy in pixels. Pure numpy; imports `segdata.errors` only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdata.errors import InputError

__all__ = ["BoxClusters", "Objects", "coordinate_votes", "fuse_boxes"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_LEAST_CONFIDENCE = 1e-12  # what an object of confidence 0 counts for among others, so that no sum of votes is 0
_TINY = 1e-300  # keeps the IoU of two empty boxes at 0


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of all members on one image.

    Attributes:
        boxes_xyxy: Pixels, (N, 4).
        confidences: (N,), 0..1.
        classes: (N,) class index of each object.
        members: (N,) index of the member that found each object.
    """

    boxes_xyxy: Floats
    confidences: Floats
    classes: Ints
    members: Ints


@dataclass(frozen=True, slots=True)
class BoxClusters:
    """Fused objects by descending confidence; ties keep the order in which their clusters were founded.

    Attributes:
        boxes_xyxy: Pixels, (K, 4).
        confidences: (K,), 0..1.
        classes: (K,) class index of each cluster.
        cluster_of: (N,) for each object that went in, the cluster it is part of; -1 = below the minimum confidence.
    """

    boxes_xyxy: Floats
    confidences: Floats
    classes: Ints
    cluster_of: Ints


def fuse_boxes(
    objects: Objects,
    weights_M: Floats,
    *,
    iou_threshold: float = 0.55,
    minimum_confidence: float = 0.0,
    merge_own: bool = False,
) -> BoxClusters:
    """Fuses boxes class by class.

    Objects are taken by descending confidence (ties: by member, then in input order). Each joins the cluster whose
    fused box it overlaps most, if above the threshold, or founds one. The fused box is the mean of its boxes
    weighted by member weight x confidence. The fused confidence is the mean confidence weighted by member weight,
    times the share of all members' weight that is present: members are counted, not boxes, so two boxes of one
    member are one member (equation 5 of the paper counts boxes).

    Args:
        objects: Objects of one image.
        weights_M: One weight above 0 a member; only their ratios matter.
        iou_threshold: Boxes with an IoU above this join, in [0, 1).
        minimum_confidence: Objects below this are left out.
        merge_own: Whether boxes of one member may join each other, as in the paper; False keeps them apart.

    Raises:
        InputError: If a box or confidence is not a number, a box ends before it starts, or a confidence is not
            within 0..1.
    """
    _require_sound(objects)
    order = np.lexsort((objects.members, -objects.confidences))
    order = order[objects.confidences[order] >= minimum_confidence]
    votes_N = coordinate_votes(objects, weights_M)
    cluster_N = np.full(len(objects.members), -1, dtype=np.int64)
    clusters = 0
    for class_index in np.unique(objects.classes[order]):
        chosen = order[objects.classes[order] == class_index]
        found = _cluster(objects.boxes_xyxy[chosen], votes_N[chosen], objects.members[chosen], iou_threshold, merge_own)
        cluster_N[chosen] = found + clusters
        clusters += int(found.max()) + 1
    return _summarize(objects, weights_M, votes_N, cluster_N, clusters, order)


def coordinate_votes(objects: Objects, weights_M: Floats) -> Floats:
    """Returns what each object counts for in its cluster's box and mask: member weight x confidence, above 0."""
    votes_N: Floats = weights_M[objects.members] * np.maximum(objects.confidences, _LEAST_CONFIDENCE)
    return votes_N


def _cluster(boxes_xyxy: Floats, votes_n: Floats, member_n: Ints, iou_threshold: float, merge_own: bool) -> Ints:
    """Clusters the n boxes of one class, given in the order in which they are taken."""
    count = len(boxes_xyxy)
    fused = np.zeros((4, count))  # one column a cluster: x1, y1, x2, y2 of its fused box
    area = np.zeros(count)
    sums = np.zeros((count, 5))  # one row a cluster: votes x coordinates, votes
    has_Mk = np.zeros((int(member_n.max()) + 1, count), dtype=np.bool_)
    cluster_n = np.empty(count, dtype=np.int64)
    clusters = 0
    for index in range(count):
        box, has_k = boxes_xyxy[index], has_Mk[member_n[index]]
        best = -1
        if clusters:
            iou = _iou(box, fused[:, :clusters], area[:clusters])
            if not merge_own:
                iou[has_k[:clusters]] = -1.0
            best = int(iou.argmax())
        if best < 0 or iou[best] <= iou_threshold:
            best, clusters = clusters, clusters + 1
        cluster_n[index] = best
        has_k[best] = True
        row = sums[best]
        row[:4] += votes_n[index] * box
        row[4] += votes_n[index]
        x1, y1, x2, y2 = fused[:, best] = row[:4] / row[4]
        area[best] = (x2 - x1) * (y2 - y1)
    return cluster_n


def _iou(box: Floats, fused: Floats, area: Floats) -> Floats:
    """IoU of one box with the fused boxes of k clusters, columns of `fused` (4, k)."""
    x1, y1, x2, y2 = box.tolist()
    shared = np.minimum(fused[2], x2)
    shared -= np.maximum(fused[0], x1)
    np.maximum(shared, 0.0, out=shared)
    height = np.minimum(fused[3], y2)
    height -= np.maximum(fused[1], y1)
    np.maximum(height, 0.0, out=height)
    shared *= height
    union = area - shared
    union += (x2 - x1) * (y2 - y1) + _TINY
    iou: Floats = np.divide(shared, union, out=shared)
    return iou


def _summarize(
    objects: Objects, weights_M: Floats, votes_N: Floats, cluster_N: Ints, clusters: int, order: Ints
) -> BoxClusters:
    """Sums up each cluster, and orders clusters by descending confidence."""
    cluster_n, votes_n = cluster_N[order], votes_N[order]
    weighted_n4 = votes_n[:, None] * objects.boxes_xyxy[order]
    summed = [_sum_by(cluster_n, weighted_n4[:, side], clusters) for side in range(4)]
    boxes_xyxy = np.stack(summed, axis=1) / _sum_by(cluster_n, votes_n, clusters)[:, None]
    confidences_K = _confidences(objects, weights_M, order, cluster_n, clusters)
    _, founder = np.unique(cluster_n, return_index=True)
    ranking = np.lexsort((founder, -confidences_K))
    rank_of = np.empty(clusters + 1, dtype=np.int64)
    rank_of[ranking] = np.arange(clusters)
    rank_of[-1] = -1  # cluster -1, the objects left out, stays -1
    classes_K = objects.classes[order][founder]
    return BoxClusters(boxes_xyxy[ranking], confidences_K[ranking], classes_K[ranking], rank_of[cluster_N])


def _confidences(objects: Objects, weights_M: Floats, order: Ints, cluster_n: Ints, clusters: int) -> Floats:
    """Mean confidence over a cluster's boxes, times the share of the members' weight that is in the cluster."""
    member_n, members = objects.members[order], len(weights_M)
    weight_n = weights_M[member_n]
    mean_K = _sum_by(cluster_n, weight_n * objects.confidences[order], clusters)
    mean_K /= _sum_by(cluster_n, weight_n, clusters)
    pairs = np.unique(cluster_n * members + member_n)  # each member once a cluster
    present_K = _sum_by(pairs // members, weights_M[pairs % members], clusters)
    scaled: Floats = np.minimum(mean_K * (present_K / weights_M.sum()), 1.0)
    return scaled


def _sum_by(cluster_n: Ints, values_n: Floats, clusters: int) -> Floats:
    return np.bincount(cluster_n, values_n, minlength=clusters).astype(np.float64, copy=False)


def _require_sound(objects: Objects) -> None:
    boxes, confidences = objects.boxes_xyxy, objects.confidences
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise InputError.of(
            "expected boxes (x1, y1, x2, y2) of numbers with x1 <= x2 and y1 <= y2, but got others",
            where="boxes to fuse",
            cure="Predict the members again.",
        )
    if not ((confidences >= 0) & (confidences <= 1)).all():
        raise InputError.of(
            f"expected confidences within 0..1, but got {confidences.min()} to {confidences.max()}",
            where="confidences to fuse",
            cure="Predict the members again.",
        )
