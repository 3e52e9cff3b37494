"""Fusing one image's objects of several members: weighted boxes fusion with its masks, or suppression by mask IoU.

Legend: M members, N objects of all members in order of members. Imports `segdata` and this package.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensembling.boxes import Objects, coordinate_votes, fuse_boxes
from ensembling.masks import fuse_masks
from ensembling.settings import FusionSettings
from ensembling.suppression import suppress
from segdata.predictions import ImageInstances
from segdata.rle import Rle

__all__ = ["fuse_by_boxes", "fuse_by_suppression"]

Floats = npt.NDArray[np.float64]


def fuse_by_boxes(found_M: Sequence[ImageInstances], weights_M: Floats, settings: FusionSettings) -> ImageInstances:
    """Clusters objects by weighted boxes fusion, and fuses the masks of each cluster by weighted vote.

    An object whose fused mask is empty is left out.

    Args:
        found_M: What each member found on the image.
        weights_M: One weight above 0 a member.
        settings: Thresholds.

    Returns:
        Fused objects by descending confidence.
    """
    objects, rles = _together(found_M)
    clusters = fuse_boxes(
        objects,
        weights_M,
        iou_threshold=settings.iou_threshold,
        minimum_confidence=settings.minimum_confidence,
        merge_own=settings.merge_own,
    )
    votes_N = coordinate_votes(objects, weights_M)
    count = len(clusters.confidences)
    fused = fuse_masks(rles, clusters.cluster_of, votes_N, count, mask_threshold=settings.mask_threshold)
    kept = [index for index, rle in enumerate(fused) if rle is not None]
    return ImageInstances.of(
        clusters.boxes_xyxy[kept],
        clusters.confidences[kept],
        clusters.classes[kept],
        tuple(rle for rle in fused if rle is not None),
    )


def fuse_by_suppression(
    found_M: Sequence[ImageInstances], weights_M: Floats, settings: FusionSettings
) -> ImageInstances:
    """Keeps the most confident of overlapping objects, by mask IoU; the heaviest member's confidences stay as they are.

    Args:
        found_M: What each member found on the image.
        weights_M: One weight above 0 a member; a confidence is multiplied by weight / largest weight.
        settings: Thresholds; the mask threshold is not used.

    Returns:
        The objects that stay, by descending confidence.
    """
    objects, rles = _together(found_M)
    enough = np.flatnonzero(objects.confidences >= settings.minimum_confidence)
    members_N = objects.members[enough]
    scaled = Objects(
        boxes_xyxy=objects.boxes_xyxy[enough],
        confidences=objects.confidences[enough] * (weights_M / weights_M.max())[members_N],
        classes=objects.classes[enough],
        members=members_N,
    )
    masks = [rles[index] for index in enough]
    stays = suppress(scaled, masks, iou_threshold=settings.iou_threshold, merge_own=settings.merge_own)
    return ImageInstances.of(
        scaled.boxes_xyxy[stays],
        scaled.confidences[stays],
        scaled.classes[stays],
        tuple(masks[index] for index in stays),
    )


def _together(found_M: Sequence[ImageInstances]) -> tuple[Objects, list[Rle]]:
    objects = Objects(
        boxes_xyxy=np.concatenate([found.boxes_xyxy for found in found_M]).astype(np.float64),
        confidences=np.concatenate([found.confidences for found in found_M]).astype(np.float64),
        classes=np.concatenate([found.classes for found in found_M]),
        members=np.repeat(np.arange(len(found_M)), [len(found) for found in found_M]),
    )
    return objects, [rle for found in found_M for rle in found.rles]
