"""How a fusion is tuned: the few choices that fusion methods read. Imports only our errors."""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from segdata.errors import InputError

__all__ = ["FusionSettings"]


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """Settings of fusion; each method reads those that its docstring names and passes over the others.

    Attributes:
        iou_threshold: Objects join a cluster, or remove or lower each other, above this IoU, in [0, 1). 0.55 is the
            value of the weighted boxes fusion paper.
        mask_threshold: A pixel is foreground when at least this share of a cluster's votes has it, in (0, 1].
        minimum_confidence: Objects of members below this confidence are left out before fusing, in [0, 1].
        merge_own: Whether objects of one member may also join, remove or lower each other, as in the papers. By
            default a member's own objects stay apart (it has told them apart already), so that an ensemble of one is
            that one.
        count_boxes: Whether "wbf" and "mask-fusion" count boxes in place of members, as
            `ensemble_boxes.weighted_boxes_fusion` does by default; a member's own objects join then.
        overlap: Whether the IoU of masks or of boxes counts, for "nms", "soft-nms" and "nmw".
        decay: How "soft-nms" lowers a confidence: x (1 - IoU) above the threshold, or x exp(-IoU^2 / sigma).
        sigma: Of the gaussian decay, above 0.
        least_decayed: An object that "soft-nms" lowers to below this confidence is left out, in [0, 1].
        mean: Which mean of probabilities "soft-vote" takes; see `ensembling.votes.soft_vote`.
        output: Whether "soft-vote" stores class probabilities or only the labels: a fraction of the disk.
    """

    iou_threshold: float = 0.55
    mask_threshold: float = 0.5
    minimum_confidence: float = 0.0
    merge_own: bool = False
    count_boxes: bool = False
    overlap: Literal["mask", "box"] = "mask"
    decay: Literal["linear", "gaussian"] = "linear"
    sigma: float = 0.5
    least_decayed: float = 0.001
    mean: Literal["arithmetic", "geometric", "confidence"] = "arithmetic"
    output: Literal["probabilities", "labels"] = "probabilities"

    def __post_init__(self) -> None:
        """Refuses values outside their range.

        Raises:
            InputError: Naming the setting, its range and the value found.
        """
        _require(0.0 <= self.iou_threshold < 1.0, "iou_threshold", "at least 0 and below 1", self.iou_threshold)
        _require(0.0 < self.mask_threshold <= 1.0, "mask_threshold", "above 0 and at most 1", self.mask_threshold)
        _require(0.0 <= self.minimum_confidence <= 1.0, "minimum_confidence", "within 0..1", self.minimum_confidence)
        _require(0.0 < self.sigma < math.inf, "sigma", "a number above 0", self.sigma)
        _require(0.0 <= self.least_decayed <= 1.0, "least_decayed", "within 0..1", self.least_decayed)
        for name, kind in get_type_hints(type(self)).items():
            known = get_args(kind)
            if known:
                value = getattr(self, name)
                _require(value in known, name, " or ".join(known), value)


def _require(holds: bool, name: str, wanted: str, found: object) -> None:
    if not holds:
        raise InputError.of(f"expected {wanted}, but got {found}", where=f"fusion setting {name}", cure="Change it.")
