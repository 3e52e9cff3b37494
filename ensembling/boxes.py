"""Weighted boxes fusion: which objects of several members are one, and the box and confidence they share.

Roman Solovyev, Weimin Wang, Tatiana Gabruseva, "Weighted boxes fusion: ensembling boxes from different object
detection models", arXiv 1910.13302, section 3. Legend: M members, N objects of all members in order of members,
K clusters. Boxes are xyxy in pixels. Imports numpy, `segdata.errors` and the compiled loops.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensembling.box_kernels import boxes_are_sound, cluster_boxes
from segdata.errors import InputError

__all__ = ["BoxClusters", "Objects", "coordinate_votes", "fuse_boxes", "require_sound"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_LEAST_CONFIDENCE = 1e-12  # what an object of confidence 0 counts for among others, so that no sum of votes is 0


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
    count_boxes: bool = False,
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
        count_boxes: Whether to do all as `ensemble_boxes.weighted_boxes_fusion` with `conf_type="avg"`: boxes of one
            member join each other, objects are taken by descending weight x confidence, and the fused confidence is
            the mean of weight x confidence, times min(members, boxes) / sum of weights.

    Raises:
        InputError: If a box or confidence is not a number, a box ends before it starts, or a confidence is not
            within 0..1.
    """
    require_sound(objects)
    boxes = np.ascontiguousarray(objects.boxes_xyxy, dtype=np.float64)
    confidences = np.ascontiguousarray(objects.confidences, dtype=np.float64)
    classes = np.ascontiguousarray(objects.classes, dtype=np.int64)
    taken_by = confidences * weights_M[objects.members] if count_boxes else confidences
    order = np.lexsort((objects.members, -taken_by))
    if minimum_confidence > 0:
        order = order[confidences[order] >= minimum_confidence]
    if not len(order):
        return BoxClusters(boxes[:0], confidences[:0], classes[:0], np.full(len(classes), -1, dtype=np.int64))
    votes_N = coordinate_votes(objects, weights_M)
    merge = merge_own or count_boxes
    found = cluster_boxes(
        boxes, confidences, classes, objects.members, votes_N, weights_M, order, iou_threshold, merge, count_boxes
    )
    return BoxClusters(*found)


def coordinate_votes(objects: Objects, weights_M: Floats) -> Floats:
    """Returns what each object counts for in its cluster's box and mask: member weight x confidence, above 0."""
    votes_N: Floats = weights_M[objects.members] * np.maximum(objects.confidences, _LEAST_CONFIDENCE)
    return votes_N


def require_sound(objects: Objects) -> None:
    """Checks boxes and confidences.

    Raises:
        InputError: If a box or confidence is not a number, a box ends before it starts, or a confidence is not
            within 0..1.
    """
    confidences = objects.confidences
    if not boxes_are_sound(objects.boxes_xyxy):
        raise InputError.of(
            "expected boxes (x1, y1, x2, y2) of numbers with x1 <= x2 and y1 <= y2, but got others",
            where="boxes to fuse",
            cure="Predict the members again.",
        )
    if len(confidences) and not (confidences.min() >= 0 and confidences.max() <= 1):
        raise InputError.of(
            f"expected confidences within 0..1, but got {confidences.min()} to {confidences.max()}",
            where="confidences to fuse",
            cure="Predict the members again.",
        )
