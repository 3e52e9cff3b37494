"""Non-maximum suppression by mask IoU: of objects that overlap, the most confident stays and no mask is changed.

Legend: N objects of all members. Imports `segdata` and this package.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensembling.boxes import Objects
from segdata.rle import Rle, rle_iou

__all__ = ["suppress"]


def suppress(
    objects: Objects, rles: Sequence[Rle], *, iou_threshold: float, merge_own: bool = False
) -> npt.NDArray[np.int64]:
    """Returns the objects that stay, by descending confidence (ties: by member, then in input order).

    Args:
        objects: Objects of one image, with confidences already scaled by their member's weight.
        rles: Their masks.
        iou_threshold: An object with a mask IoU above this to one that stays, of the same class, goes.
        merge_own: Whether an object may also suppress one of its own member.
    """
    order = np.lexsort((objects.members, -objects.confidences))
    stays_N = np.ones(len(order), dtype=np.bool_)
    for class_index in np.unique(objects.classes):
        chosen = order[objects.classes[order] == class_index]
        masks = [rles[index] for index in chosen]
        overlaps = rle_iou(masks, masks) > iou_threshold
        if not merge_own:
            members = objects.members[chosen]
            overlaps &= members[:, None] != members
        stays_N[chosen] = _greedy(overlaps)
    kept: npt.NDArray[np.int64] = order[stays_N[order]]
    return kept


def _greedy(overlaps: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Goes through objects by descending confidence; one that stays removes those after it that it overlaps."""
    stays = np.ones(len(overlaps), dtype=np.bool_)
    for index in range(len(overlaps)):
        if stays[index]:
            stays[index + 1 :] &= ~overlaps[index, index + 1 :]
    return stays
