"""What one trial trains: a frozen value of small groups, independent of any training framework.

`None` in a field means "the value fitted to the data set, or the model's own". This room imports only `segdata.errors`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

__all__ = [
    "InputChoice",
    "LossChoice",
    "ModelChoice",
    "OptimizationChoice",
    "ScheduleChoice",
    "Scalar",
    "ThresholdChoice",
    "TrialConfig",
]

Scalar = bool | int | float | str

_PAIRS = ("augmentation", "overrides")  # fields that hold (name, value) pairs rather than a group


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The network: short name or zoo config file, backbone, initial weights and size."""

    name: str = "mask-rcnn"
    backbone: str | None = None
    init: str = "none"  # none | imagenet | pretrained | path of a local checkpoint
    width: float | None = None  # scales the backbone's channel counts; None or 1.0 = stock
    head_width: float | None = None  # scales the channel counts of neck and heads; None or 1.0 = stock
    frozen_stages: int | None = None


@dataclass(frozen=True, slots=True)
class InputChoice:
    """How large the network sees an image, in pixels."""

    image_width: int | None = None
    image_height: int | None = None
    crop_size: int | None = None  # side of a random training crop; None = whole image


@dataclass(frozen=True, slots=True)
class OptimizationChoice:
    """The optimizer and the batch."""

    optimizer: str | None = None
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class ScheduleChoice:
    """How long and in which shape the learning rate runs."""

    epochs: int = 12
    validation_interval: int = 1  # epochs from one validation (and checkpoint) to the next


@dataclass(frozen=True, slots=True)
class LossChoice:
    """Factors of the loss terms; None = the model's own."""

    class_weight: float | None = None
    box_weight: float | None = None
    mask_weight: float | None = None
    auxiliary_weight: float | None = None


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """IoU thresholds, anchors and limits of detectors."""

    rpn_positive_iou: float | None = None
    rpn_negative_iou: float | None = None
    rcnn_positive_iou: float | None = None
    cascade_iou_low: float | None = None
    cascade_iou_high: float | None = None
    nms_iou: float | None = None
    rpn_nms_iou: float | None = None
    detections_per_image: int | None = None
    minimum_confidence: float | None = None
    anchor_scale: float | None = None
    rois_per_image: int | None = None


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """Everything that decides what a trial trains, apart from the data set and the seed."""

    model: ModelChoice = field(default_factory=ModelChoice)
    input: InputChoice = field(default_factory=InputChoice)
    optimization: OptimizationChoice = field(default_factory=OptimizationChoice)
    schedule: ScheduleChoice = field(default_factory=ScheduleChoice)
    loss: LossChoice = field(default_factory=LossChoice)
    augmentation: tuple[tuple[str, Scalar], ...] = ()  # (step, probability or strength), sorted by name
    thresholds: ThresholdChoice = field(default_factory=ThresholdChoice)
    overrides: tuple[tuple[str, Scalar], ...] = ()  # (dotted path in the MMEngine config, value), in order

    def get(self, path: str) -> Scalar | None:
        """Returns the value of a dotted field, for example `optimization.lr`."""
        group, name = path.split(".")
        if group == "augmentation":
            return dict(self.augmentation).get(name)
        value: Scalar | None = getattr(getattr(self, group), name)
        return value

    def with_value(self, path: str, value: Scalar) -> Self:
        """Returns a copy in which the dotted field holds `value`."""
        group, name = path.split(".")
        if group == "augmentation":
            return replace(self, augmentation=tuple(sorted({**dict(self.augmentation), name: value}.items())))
        return replace(self, **{group: replace(getattr(self, group), **{name: value})})

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON-ready values; `from_dict` reads them back."""
        pairs = {name: [list(pair) for pair in getattr(self, name)] for name in _PAIRS}
        return asdict(self) | pairs

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the value that `to_dict` wrote."""
        plain = cls()
        groups: dict[str, Any] = {
            item.name: type(getattr(plain, item.name))(**values[item.name])
            for item in fields(cls)
            if item.name not in _PAIRS and item.name in values
        }
        pairs: dict[str, Any] = {name: tuple((key, value) for key, value in values.get(name, ())) for name in _PAIRS}
        return cls(**groups, **pairs)

    def hash(self) -> str:
        """Returns 12 hex digits that change whenever any value does."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
