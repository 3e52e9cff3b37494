"""SegNet: an encoder whose pooling indices drive the decoder's unpooling.

Badrinarayanan et al. 2015 (arXiv 1511.00561), section 3 and figure 2. Imports torch, mmcv and mmengine.
Shapes: N images, C channels, H x W pixels.
"""

from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SegNet"]

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of the five stages of VGG16
MULTIPLES = (1, 2, 4, 8, 8)  # their channels, in units of `base_channels`
LEAST_PX = 32  # five poolings need a side of 2^5


class SegNet(BaseModule):
    """VGG16's thirteen convolutions and their mirror image; the decoder keeps where each maximum stood.

    A decoder stage puts its input back to the remembered places (all others are zero) and makes it dense again by
    convolutions, so boundaries stay where the encoder saw them, and nothing but indices is carried over. The encoder
    is named as torchvision's `vgg16_bn` (`features.N`), whose weights fit when `base_channels` is 64.

    Args:
        base_channels: Channels of the first stage and of the output; 64 in the paper.
        in_channels: Channels of the images.
        norm_cfg: The norm after each convolution.
        init_cfg: MMEngine's initialisation.
    """

    def __init__(
        self,
        base_channels: int = 64,
        in_channels: int = 3,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm = norm_cfg or {"type": "BN"}
        widths = [multiple * base_channels for multiple in MULTIPLES]
        encoder: list[nn.Module] = []
        before = in_channels
        for width, count in zip(widths, CONVOLUTIONS, strict=True):
            encoder += [layer for index in range(count) for layer in block(width if index else before, width, norm)]
            encoder.append(nn.MaxPool2d(2, 2, return_indices=True))
            before = width
        self.features = nn.ModuleList(encoder)
        stages = zip(widths, [base_channels, *widths[:-1]], CONVOLUTIONS, strict=True)
        decoder = [nn.Sequential(*mirrored(width, after, count, norm)) for width, after, count in stages]
        self.decoder = nn.ModuleList(reversed(decoder))
        self.unpool = nn.MaxUnpool2d(2, 2)

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor]:
        """Returns one map of `base_channels` channels at the images' own size."""
        height, width = images_NCHW.shape[-2:]
        least = (max(0, LEAST_PX - width), max(0, LEAST_PX - height))
        x = functional.pad(images_NCHW, (0, least[0], 0, least[1]))
        poolings: list[tuple[Tensor, torch.Size]] = []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                size = x.shape[-2:]
                x, indices = layer(x)
                poolings.append((indices, size))
            else:
                x = layer(x)
        for stage, (indices, size) in zip(self.decoder, reversed(poolings), strict=True):
            x = stage(self.unpool(x, indices, output_size=size))  # an odd row or column that pooling left out is zero
        return (x[..., :height, :width],)


def block(before: int, after: int, norm: dict[str, Any]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A 3x3 convolution with bias (as torchvision's), its norm, and ReLU."""
    return nn.Conv2d(before, after, 3, padding=1), build_norm_layer(norm, after)[1], nn.ReLU(inplace=True)


def mirrored(width: int, after: int, count: int, norm: dict[str, Any]) -> list[nn.Module]:
    """The convolutions of an encoder stage in reverse: the last one narrows to the next stage's channels."""
    outputs = [width] * (count - 1) + [after]
    return [layer for out in outputs for layer in block(width, out, norm)]
