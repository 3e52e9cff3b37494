"""The spatial prior module of the ViT-Adapter: a small convolutional pyramid beside the transformer.

Chen et al. 2022 (arXiv 2205.08534), section 3.3. Imports torch and mmcv.
Shapes: N images, C channels, H x W positions; maps at strides 4, 8, 16 and 32.
"""

from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

__all__ = ["SpatialPrior"]


class SpatialPrior(nn.Module):
    """A ResNet-like stem, stride-2 convolutions, and 1x1 projections to the transformer's width.

    Args:
        in_channels: Channels of the images.
        stem_channels: Channels of the stem; 64 in the paper.
        out_channels: D, the transformer's width.
        norm_cfg: The norm of each convolution but the projections.
    """

    def __init__(self, in_channels: int, stem_channels: int, out_channels: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()

        def convolve(before: int, after: int, stride: int) -> Any:
            return ConvModule(before, after, 3, stride=stride, padding=1, norm_cfg=norm_cfg)

        widths = (stem_channels, 2 * stem_channels, 4 * stem_channels, 4 * stem_channels)
        same = (convolve(stem_channels, stem_channels, 1) for _ in range(2))
        stem = (convolve(in_channels, stem_channels, 2), *same, nn.MaxPool2d(3, 2, padding=1))
        deeper = (convolve(before, after, 2) for before, after in zip(widths[:-1], widths[1:], strict=True))
        self.halvings = nn.ModuleList([nn.Sequential(*stem), *deeper])
        self.projections = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in widths)
        self.level_embedding = nn.Parameter(torch.zeros(len(widths) - 1, out_channels))

    def forward(self, images_NCHW: Tensor) -> list[Tensor]:
        """Returns four maps of D channels at strides 4, 8, 16 and 32; the last three bear their level's embedding."""
        maps, x = [], images_NCHW
        for halving, projection in zip(self.halvings, self.projections, strict=True):
            x = halving(x)
            maps.append(projection(x))
        embeddings = self.level_embedding[:, :, None, None]
        return [maps[0], *(level + embedding for level, embedding in zip(maps[1:], embeddings, strict=True))]
