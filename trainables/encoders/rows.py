"""What an encoder is: one row that says its backbone config, its published weights and how it wants its pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HALF", "IMAGENET", "OPENMMLAB", "Encoder", "Pixels", "Weights"]

Nested = dict[str, Any]

OPENMMLAB = "https://mmassets.onedl.ai"  # where the zoos' own config files point


@dataclass(frozen=True, slots=True)
class Weights:
    """Published weights of an encoder.

    Attributes:
        checkpoint: As the zoos write it: a URL, `open-mmlab://...` or `torchvision://...`.
        prefix: What the names of the encoder's tensors begin with in that file; others are not its own.
        renames: (part of a name in the file, what it is called here), applied in order.
    """

    checkpoint: str
    prefix: str = ""
    renames: tuple[tuple[str, str], ...] = ()

    def init_cfg(self) -> Nested | None:
        """Returns how MMEngine itself would load them, None if it can't for want of renaming."""
        if self.renames:
            return None
        return {"type": "Pretrained", "checkpoint": self.checkpoint} | ({"prefix": self.prefix} if self.prefix else {})


@dataclass(frozen=True, slots=True)
class Pixels:
    """Mean and standard deviation (of 0..255, RGB) that an encoder's published weights were trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


@dataclass(frozen=True, slots=True)
class Encoder:
    """One encoder at its stock width.

    Attributes:
        backbone: Its config without weights; a type of another package names it (`mmpretrain.VGG`).
        weights: Value of the knob `init` -> published weights.
        deep_stem_weights: Those of a ResNet whose stem is three small convolutions (MMSegmentation's ResNetV1c).
        pixels: How it wants its pixels; None = as the model's own config has them.
    """

    backbone: Nested
    weights: Mapping[str, Weights] = field(default_factory=dict)
    deep_stem_weights: Mapping[str, Weights] = field(default_factory=dict)
    pixels: Pixels | None = IMAGENET
