"""VGG and EfficientNet at other widths than the published ones, which MMPretrain's classes fix."""

from typing import Any

from mmpretrain.models.backbones import VGG, EfficientNet
from mmpretrain.models.backbones.vgg import make_vgg_layer
from torch import nn

__all__ = ["ScaledEfficientNet", "ScaledVGG"]


class ScaledEfficientNet(EfficientNet):  # type: ignore[misc, unused-ignore]
    """EfficientNet whose width multiplier is its own times `width`; channels are rounded as in the paper's code.

    Args:
        arch: "b0" to "b7".
        width: Factor on every channel count.
        **others: Of MMPretrain's EfficientNet.
    """

    def __init__(self, arch: str, width: float, **others: Any) -> None:
        own, depth, side_px = EfficientNet.arch_settings[arch]
        self.arch_settings = {arch: (own * width, depth, side_px)}
        super().__init__(arch=arch, **others)


class ScaledVGG(VGG):  # type: ignore[misc, unused-ignore]
    """VGG with batch norm whose five stages have the given channels.

    Args:
        channels: Of each stage.
        norm_cfg: The norm after each convolution.
        **others: Of MMPretrain's VGG.
    """

    def __init__(self, channels: tuple[int, ...], norm_cfg: dict[str, Any], **others: Any) -> None:
        super().__init__(norm_cfg=norm_cfg, **others)
        layers: list[nn.Module] = []
        for before, after, blocks in zip((3, *channels[:-1]), channels, self.stage_blocks, strict=True):
            layers.extend(make_vgg_layer(before, after, blocks, norm_cfg=norm_cfg))
        self.features = nn.Sequential(*layers)
