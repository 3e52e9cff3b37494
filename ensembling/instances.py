"""Fusing one image's objects of several members: a function a method, each from what members found to what comes out.

Legend: M members, N objects of all members, K clusters. Imports `segdata` and this package.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensembling.box_kernels import fused_confidences
from ensembling.boxes import coordinate_votes, fuse_boxes
from ensembling.masks import fuse_masks
from ensembling.overlap_kernels import GAUSSIAN, LINEAR, decay, join_founders, suppress
from ensembling.pool import Pool, pool
from ensembling.run_lengths import runs_of
from ensembling.settings import FusionSettings
from segdata.predictions import ImageInstances
from segdata.rle import Rle

__all__ = ["fuse_by_boxes", "fuse_by_masks", "fuse_by_nms", "fuse_by_nmw", "fuse_by_soft_nms"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_LEAST_VOTE = 1e-12  # what an object counts for at least, so that no sum of votes is 0


def fuse_by_boxes(found_M: Sequence[ImageInstances], weights_M: Floats, settings: FusionSettings) -> ImageInstances:
    """Weighted boxes fusion: clusters by the IoU of boxes, and the masks of each cluster by weighted vote.

    Boxes and confidences are those of `ensembling.boxes.fuse_boxes`. An object whose fused mask is empty is left out.

    Args:
        found_M: What each member found on the image.
        weights_M: One weight above 0 a member.
        settings: `iou_threshold`, `mask_threshold`, `minimum_confidence`, `merge_own`, `count_boxes`.

    Returns:
        Fused objects by descending confidence.
    """
    found = pool(found_M, weights_M, settings.minimum_confidence)
    clusters = fuse_boxes(
        found.objects,
        found.weights,
        iou_threshold=settings.iou_threshold,
        merge_own=settings.merge_own,
        count_boxes=settings.count_boxes,
    )
    votes_N = coordinate_votes(found.objects, found.weights)
    fused = _vote(found, clusters.cluster_of, votes_N, len(clusters.confidences), settings)
    return _with_pixels(clusters.boxes_xyxy, clusters.confidences, clusters.classes, fused)


def fuse_by_masks(found_M: Sequence[ImageInstances], weights_M: Floats, settings: FusionSettings) -> ImageInstances:
    """Weighted mask fusion: clusters by the IoU of masks, the mask by weighted vote, the box from the mask.

    Objects are taken by descending confidence. Each joins the cluster whose first object's mask it overlaps most, if
    above the threshold, or founds one. The fused mask has the pixels that enough of the cluster's votes (member weight
    x confidence) have. The confidence is that of weighted boxes fusion. An object whose fused mask is empty is left
    out.

    Args:
        found_M: What each member found on the image.
        weights_M: One weight above 0 a member.
        settings: `iou_threshold`, `mask_threshold`, `minimum_confidence`, `merge_own`, `count_boxes`.

    Returns:
        Fused objects by descending confidence.
    """
    found = pool(found_M, weights_M, settings.minimum_confidence)
    objects, weights_M = found.objects, found.weights
    merge = settings.merge_own or settings.count_boxes
    order = found.taken_by(
        objects.confidences * weights_M[objects.members] if settings.count_boxes else objects.confidences
    )
    cluster_N, _, founders = join_founders(
        found.shapes(True), objects.classes, objects.members, order, settings.iou_threshold, merge
    )
    confidences_K = _mean_confidences(found, order, cluster_N, len(founders), settings.count_boxes)
    fused = _vote(found, cluster_N, coordinate_votes(objects, weights_M), len(founders), settings)
    return _ranked(_boxes_of(fused), confidences_K, objects.classes[founders], fused)


def fuse_by_nms(found_M: Sequence[ImageInstances], weights_M: Floats, settings: FusionSettings) -> ImageInstances:
    """Non-maximum suppression: of objects of a class that overlap, the most confident stays as it is.

    Args:
        found_M: What each member found on the image.
        weights_M: One weight above 0 a member; a confidence is multiplied by weight / largest weight.
        settings: `overlap` (whether boxes or masks overlap), `iou_threshold`, `minimum_confidence`, `merge_own`.

    Returns:
        The objects that stay, by descending confidence.
    """
    found = pool(found_M, weights_M, settings.minimum_confidence)
    objects, confidences = found.objects, found.scaled()
    stays = suppress(
        found.shapes(settings.overlap == "mask"),
        objects.classes,
        objects.members,
        found.taken_by(confidences),
        settings.iou_threshold,
        settings.merge_own,
    )
    return _chosen(found, stays, confidences[stays])


def fuse_by_soft_nms(found_M: Sequence[ImageInstances], weights_M: Floats, settings: FusionSettings) -> ImageInstances:
    """Soft-NMS: objects that overlap a more confident one of their class stay, with a lower confidence.

    N. Bodla, B. Singh, R. Chellappa, L. S. Davis, "Soft-NMS -- improving object detection with one line of code",
    arXiv 1704.04503, section 3: confidence x (1 - IoU) above the threshold ("linear"), or x exp(-IoU^2 / sigma)
    ("gaussian").

    Args:
        found_M: What each member found on the image.
        weights_M: One weight above 0 a member; a confidence is multiplied by weight / largest weight.
        settings: `overlap`, `decay`, `iou_threshold` (linear), `sigma` (gaussian), `least_decayed`,
            `minimum_confidence`, `merge_own`.

    Returns:
        The objects that stay, by descending confidence; those lowered to below `least_decayed` are left out.
    """
    found = pool(found_M, weights_M, settings.minimum_confidence)
    objects, confidences = found.objects, found.scaled()
    stays, lowered = decay(
        found.shapes(settings.overlap == "mask"),
        confidences,
        objects.classes,
        objects.members,
        found.taken_by(confidences),
        settings.merge_own,
        LINEAR if settings.decay == "linear" else GAUSSIAN,
        settings.iou_threshold,
        settings.sigma,
        settings.least_decayed,
    )
    return _chosen(found, stays, lowered)


def fuse_by_nmw(found_M: Sequence[ImageInstances], weights_M: Floats, settings: FusionSettings) -> ImageInstances:
    """Non-maximum weighted: as NMS, but what would be removed moves what stays.

    H. Zhou, Z. Li, C. Ning, J. Tang, "CAD: scale invariant framework for real-time object detection", ICCV workshops
    2017, section 3.2, as `ensemble_boxes.non_maximum_weighted` reads it. Objects are taken by descending confidence;
    each joins the cluster whose first object it overlaps most. Every object votes with confidence x IoU with the first
    one: the box is the mean of the cluster's boxes, the mask has the pixels that enough of the votes have. The
    confidence is that of the first object.

    Args:
        found_M: What each member found on the image.
        weights_M: One weight above 0 a member; a confidence is multiplied by weight / largest weight.
        settings: `overlap`, `iou_threshold`, `mask_threshold`, `minimum_confidence`, `merge_own`. With masks, the box
            is that of the fused mask.

    Returns:
        Fused objects by descending confidence. An object whose fused mask is empty is left out.
    """
    found = pool(found_M, weights_M, settings.minimum_confidence)
    objects, confidences, by_mask = found.objects, found.scaled(), settings.overlap == "mask"
    order = found.taken_by(confidences)
    cluster_N, iou_N, founders = join_founders(
        found.shapes(by_mask), objects.classes, objects.members, order, settings.iou_threshold, settings.merge_own
    )
    votes_N = np.maximum(confidences * iou_N, _LEAST_VOTE)
    fused = _vote(found, cluster_N, votes_N, len(founders), settings)
    boxes = _boxes_of(fused) if by_mask else _mean_boxes(found, order, cluster_N, votes_N, len(founders))
    return _ranked(boxes, confidences[founders], objects.classes[founders], fused)


def _vote(found: Pool, cluster_N: Ints, votes_N: Floats, clusters: int, settings: FusionSettings) -> list[Rle | None]:
    return fuse_masks(found.rles, cluster_N, votes_N, clusters, mask_threshold=settings.mask_threshold, runs=found.runs)


def _mean_confidences(found: Pool, order: Ints, cluster_N: Ints, clusters: int, count_boxes: bool) -> Floats:
    """Confidences of clusters as weighted boxes fusion has them."""
    objects, weights_M = found.objects, found.weights
    cluster_n, member_n = cluster_N[order], objects.members[order]
    weight_n = weights_M[member_n]
    pairs = np.unique(cluster_n * len(weights_M) + member_n)  # each member once a cluster
    weighed = np.stack(
        [
            _sum_by(cluster_n, weight_n * objects.confidences[order], clusters),
            _sum_by(cluster_n, weight_n, clusters),
            _sum_by(pairs // len(weights_M), weights_M[pairs % len(weights_M)], clusters),
        ],
        axis=1,
    )
    return fused_confidences(weighed, np.bincount(cluster_n, minlength=clusters), weights_M, count_boxes)


def _mean_boxes(found: Pool, order: Ints, cluster_N: Ints, votes_N: Floats, clusters: int) -> Floats:
    boxes, cluster_n, votes_n = found.objects.boxes_xyxy[order], cluster_N[order], votes_N[order]
    summed = [_sum_by(cluster_n, votes_n * boxes[:, side], clusters) for side in range(4)]
    mean: Floats = np.stack(summed, axis=1) / _sum_by(cluster_n, votes_n, clusters)[:, None]
    return mean


def _sum_by(cluster_n: Ints, values_n: Floats, clusters: int) -> Floats:
    return np.bincount(cluster_n, values_n, minlength=clusters).astype(np.float64, copy=False)


def _boxes_of(fused: Sequence[Rle | None]) -> Floats:
    """Boxes xyxy of masks; of a missing one zeros."""
    boxes = np.zeros((len(fused), 4))
    known = [index for index, rle in enumerate(fused) if rle is not None]
    _, boxes[known] = runs_of([rle for rle in fused if rle is not None]).outlines()
    return boxes


def _chosen(found: Pool, stays: Ints, confidences: Floats) -> ImageInstances:
    """The objects that stay, unchanged but for their confidences."""
    boxes, classes = found.objects.boxes_xyxy[stays], found.objects.classes[stays]
    return ImageInstances.of(boxes, confidences, classes, tuple(found.rles[index] for index in stays))


def _ranked(boxes: Floats, confidences: Floats, classes: Ints, fused: Sequence[Rle | None]) -> ImageInstances:
    """Fused objects by descending confidence; ties in the order in which their clusters were founded."""
    rank = np.argsort(-confidences, kind="stable")
    return _with_pixels(boxes[rank], confidences[rank], classes[rank], [fused[index] for index in rank])


def _with_pixels(boxes: Floats, confidences: Floats, classes: Ints, fused: Sequence[Rle | None]) -> ImageInstances:
    kept = [index for index, rle in enumerate(fused) if rle is not None]
    rles = tuple(rle for rle in fused if rle is not None)
    return ImageInstances.of(boxes[kept], confidences[kept], classes[kept], rles)
