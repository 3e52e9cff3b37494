"""What one trial trains: a frozen value of small groups, independent of any training framework.

`None` in a field means "the value fitted to the data set, or the model's own". This room imports only `segdata.errors`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

__all__ = [
    "DEFAULT_EPOCHS",
    "InputChoice",
    "LossChoice",
    "ModelChoice",
    "OptimizationChoice",
    "ScheduleChoice",
    "Scalar",
    "ThresholdChoice",
    "TrialConfig",
    "Value",
]

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]  # of a config path, which may hold a list

DEFAULT_EPOCHS = 12
DEFAULT_VALIDATIONS = 10  # of a plan in iterations

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
    keep_ratio: bool | None = None  # None or True: fitted into width and height; False: stretched to them
    multi_scale: float | None = None  # training sizes from 1 - x to 1 + x of the input size; None or 0.0 = one size


@dataclass(frozen=True, slots=True)
class OptimizationChoice:
    """The optimizer and the batch."""

    optimizer: str | None = None
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    backbone_lr_factor: float | None = None
    layer_decay: float | None = None  # factor on the learning rate from one encoder stage to the one before it
    norm_decay: bool | None = None  # whether weight decay pulls at normalisation layers too
    gradient_clip: float | None = None  # largest norm of all gradients together
    accumulate: int | None = None  # batches a step
    ema: float | None = None  # share of the newest weights in their moving average; 0 = no average
    precision: str | None = None  # fp32 | fp16 | bf16


@dataclass(frozen=True, slots=True)
class ScheduleChoice:
    """How long a trial trains, and in which shape its learning rate runs.

    A plan is counted in epochs or, if `max_iters` is set, in optimizer iterations; an "epoch" is then what lies between
    two validations, so that everything that counts in epochs (reports, schedulers, resume) holds for both.
    """

    epochs: int | None = None  # None = 12
    validation_interval: int | None = None  # epochs from one validation (and checkpoint) to the next; None = 1
    max_iters: int | None = None
    validation_iters: int | None = None  # iterations between validations; None = a tenth of `max_iters`
    shape: str | None = None  # step | cosine | poly | one-cycle | plateau | constant
    warm_up: float | None = None  # share of the plan
    step_1: float | None = None  # share of the plan, as are step_2 and step_3
    step_2: float | None = None
    step_3: float | None = None
    step_gamma: float | None = None
    poly_power: float | None = None
    final_lr_factor: float | None = None
    plateau_patience: int | None = None
    best_by: str | None = None  # score | loss

    @property
    def planned_epochs(self) -> int:
        """How many epochs the plan has; with `max_iters`, how many validations."""
        if self.max_iters is None:
            return DEFAULT_EPOCHS if self.epochs is None else self.epochs
        return -(-self.max_iters // self.iterations_an_epoch)

    @property
    def iterations_an_epoch(self) -> int:
        """How many iterations lie between two validations of a plan in iterations.

        Raises:
            ValueError: The plan is in epochs, whose length depends on the data.
        """
        if self.max_iters is None:
            raise ValueError("a plan in epochs has as many iterations an epoch as there are batches of training images")
        return min(self.max_iters, self.validation_iters or -(-self.max_iters // DEFAULT_VALIDATIONS))


@dataclass(frozen=True, slots=True)
class LossChoice:
    """The loss terms and their factors; None = the model's own."""

    kind: str | None = None  # ce | focal | dice | lovasz | soft-iou | ce+...
    mix: float | None = None  # share of the second term
    focal_gamma: float | None = None
    class_balance: str | None = None  # none | inverse | inverse-sqrt | median
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
    overrides: tuple[tuple[str, Value], ...] = ()  # (dotted path in the MMEngine config, value), in order

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
        pairs: dict[str, Any] = {
            name: tuple(
                (key, tuple(value) if isinstance(value, list) else value) for key, value in values.get(name, ())
            )
            for name in _PAIRS
        }
        return cls(**groups, **pairs)

    def hash(self) -> str:
        """Returns 12 hex digits that change whenever any value does."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
