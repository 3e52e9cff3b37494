"""The objects that all members found on one image, in an order that doesn't depend on the order of the members.

Legend: M members, N objects of all members in order of members. Imports `segdata` and this package.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ensembling.boxes import Objects, require_sound
from ensembling.overlap_kernels import Shapes
from ensembling.run_lengths import Runs, runs_of
from segdata.predictions import ImageInstances
from segdata.rle import Rle

__all__ = ["Pool", "pool"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_NO_INTS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Pool:
    """Objects to fuse; all have a mask with a pixel or more.

    Attributes:
        objects: Boxes, confidences, classes, members.
        rles: (N,) their masks.
        runs: The same as run lengths.
        areas: (N,) pixels of each mask.
        mask_boxes: (N, 4) xyxy, pixels, of each mask.
        weights: (M,) share of each member in their sum, in the order of `objects.members`.
    """

    objects: Objects
    rles: tuple[Rle, ...]
    runs: Runs
    areas: Floats
    mask_boxes: Floats
    weights: Floats

    def shapes(self, by_mask: bool) -> Shapes:
        """Returns what overlaps: masks or boxes."""
        if by_mask:
            return Shapes(self.mask_boxes, self.areas, True, self.runs.starts, self.runs.ends, self.runs.offsets)
        boxes = self.objects.boxes_xyxy
        sides = boxes[:, 2:] - boxes[:, :2]
        return Shapes(boxes, sides[:, 0] * sides[:, 1], False, _NO_INTS, _NO_INTS, _NO_INTS)

    def scaled(self) -> Floats:
        """Returns confidences x member weight / largest weight: what suppression compares."""
        scaled: Floats = self.objects.confidences * (self.weights / self.weights.max())[self.objects.members]
        return scaled

    def taken_by(self, confidences: Floats) -> Ints:
        """Returns the order in which objects are taken: descending, ties by member, then in input order."""
        return np.argsort(-confidences, kind="stable")


def pool(found_M: Sequence[ImageInstances], weights_M: Floats, minimum_confidence: float = 0.0) -> Pool:
    """Puts the objects of all members together.

    Members are sorted by what they found, then by weight, so that whatever is decided by "the first member" afterwards,
    and every rounding of a sum, comes out the same however the members were named. Objects below the minimum
    confidence, and those without a pixel, are left out.

    Raises:
        InputError: If masks differ in size, a box or confidence is not a number, a box ends before it starts, or a
            confidence is not within 0..1.
    """
    ranked = sorted(range(len(found_M)), key=lambda member: _content(found_M[member], float(weights_M[member])))
    found = [found_M[member] for member in ranked]
    objects = Objects(
        boxes_xyxy=np.concatenate([part.boxes_xyxy for part in found]).astype(np.float64),
        confidences=np.concatenate([part.confidences for part in found]).astype(np.float64),
        classes=np.concatenate([part.classes for part in found]),
        members=np.repeat(np.arange(len(found)), [len(part) for part in found]),
    )
    require_sound(objects)
    rles = [rle for part in found for rle in part.rles]
    runs = runs_of(rles)
    areas, mask_boxes = runs.outlines()
    # float32 confidences against a threshold that the user wrote with a few digits: 0.3 is enough for 0.3
    enough = objects.confidences.astype(np.float32) >= np.float32(minimum_confidence)
    kept = np.flatnonzero(enough & (areas > 0))
    if len(kept) < len(rles):
        rles = [rles[index] for index in kept]
        runs = runs_of(rles) if rles else runs_of([])
        objects = Objects(
            objects.boxes_xyxy[kept], objects.confidences[kept], objects.classes[kept], objects.members[kept]
        )
        areas, mask_boxes = areas[kept], mask_boxes[kept]
    total = math.fsum(weights_M)
    shares_M = np.array([weights_M[member] / total for member in ranked])
    return Pool(objects, tuple(rles), runs, areas, mask_boxes, shares_M)


def _content(found: ImageInstances, weight: float) -> tuple[object, ...]:
    """What members are sorted by: equal only for members that are interchangeable."""
    arrays = (found.confidences, found.boxes_xyxy, found.classes)
    return (len(found), *(array.tobytes() for array in arrays), [rle.counts for rle in found.rles], -weight)
