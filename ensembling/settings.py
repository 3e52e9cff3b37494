"""How a fusion is tuned: the few numbers that every fusion method reads. Imports only our errors."""

import math
from dataclasses import dataclass

from segdata.errors import InputError

__all__ = ["FusionSettings"]


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """Settings of instance fusion; the semantic votes need none of them.

    Attributes:
        iou_threshold: Objects join a cluster above this IoU, in [0, 1): of boxes for "wbf", of masks for "nms".
            0.55 is the value of the weighted boxes fusion paper.
        mask_threshold: A pixel is foreground when at least this share of a cluster's votes has it, in (0, 1].
        minimum_confidence: Objects of members below this confidence are left out before fusing, in [0, 1].
        merge_own: Whether objects of one member may also join each other, as in the paper. By default a member's own
            objects stay apart (it has told them apart already), so that an ensemble of one is that one.
    """

    iou_threshold: float = 0.55
    mask_threshold: float = 0.5
    minimum_confidence: float = 0.0
    merge_own: bool = False

    def __post_init__(self) -> None:
        """Refuses values outside their range.

        Raises:
            InputError: Naming the setting, its range and the value found.
        """
        _require(0.0 <= self.iou_threshold < 1.0, "iou_threshold", "at least 0 and below 1", self.iou_threshold)
        _require(0.0 < self.mask_threshold <= 1.0, "mask_threshold", "above 0 and at most 1", self.mask_threshold)
        _require(0.0 <= self.minimum_confidence <= 1.0, "minimum_confidence", "within 0..1", self.minimum_confidence)


def _require(holds: bool, name: str, wanted: str, found: float) -> None:
    if not holds or math.isnan(found):
        raise InputError.of(f"expected {wanted}, but got {found}", where=f"fusion setting {name}", cure="Change it.")
