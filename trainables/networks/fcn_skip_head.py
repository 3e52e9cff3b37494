"""The skip head of FCN-32s, FCN-16s and FCN-8s.

Long et al. 2015 (arXiv 1411.4038), section 4.2 and figure 3. Imports torch and mmseg.
Shapes: N images, C channels, H x W positions; K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FCNSkipHead", "bilinear_kernel"]


class FCNSkipHead(BaseDecodeHead):
    """Scores each of the backbone's coarsest maps and adds them up from coarse to fine, doubling the size each time.

    The coarsest map goes through fc6 and fc7 (as convolutions) before it is scored. Score layers of the finer maps
    start at zero and the doubling starts as bilinear interpolation, so that training starts from the coarser net, as
    in section 4.2. The scores leave at the stride of the finest input; MMSegmentation resizes them to the labels.

    Args:
        in_channels: Channels of the maps used, from fine to coarse: three (FCN-8s), two (FCN-16s) or one (FCN-32s).
        in_index: Their places among the backbone's outputs.
        channels: Width of fc6 and fc7; 4096 in the paper.
        kernel_size: Of fc6; 7 in the paper.
        **others: Of MMSegmentation's BaseDecodeHead.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_index: Sequence[int],
        channels: int = 4096,
        kernel_size: int = 7,
        dropout_ratio: float = 0.5,
        **others: Any,
    ) -> None:
        super().__init__(
            list(in_channels),
            channels,
            in_index=list(in_index),
            input_transform="multiple_select",
            dropout_ratio=dropout_ratio,
            **others,
        )
        keys = {"conv_cfg": self.conv_cfg, "norm_cfg": self.norm_cfg, "act_cfg": self.act_cfg}
        self.fc6 = ConvModule(in_channels[-1], channels, kernel_size, padding=kernel_size // 2, **keys)
        self.fc7 = ConvModule(channels, channels, 1, **keys)
        classes = self.out_channels
        self.scores = nn.ModuleList(nn.Conv2d(count, classes, 1) for count in in_channels[-2::-1])
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False) for _ in self.scores
        )

    def init_weights(self) -> None:
        """Zero for the finer scores, bilinear interpolation for the doublings."""
        super().init_weights()
        for part in self.scores.parameters():
            nn.init.zeros_(part)
        for part in self.doublings.parameters():
            part.data.copy_(bilinear_kernel(self.out_channels))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the scores `NKHW` at the finest input's size."""
        maps = self._transform_inputs(inputs)
        dropped = self.fc6(maps[-1]) if self.dropout is None else self.dropout(self.fc6(maps[-1]))
        scores: Tensor = self.cls_seg(self.fc7(dropped))
        for score, doubling, finer in zip(self.scores, self.doublings, reversed(maps[:-1]), strict=True):
            scores = fitted(doubling(scores), finer.shape[-2:]) + score(finer)
        return scores


def fitted(scores_NKHW: Tensor, size: torch.Size) -> Tensor:
    """Crops a doubled map to the finer one's size, which is one less where that is odd."""
    height, width = size
    missing = (max(0, width - scores_NKHW.shape[-1]), max(0, height - scores_NKHW.shape[-2]))
    return functional.pad(scores_NKHW, (0, missing[0], 0, missing[1]), mode="replicate")[..., :height, :width]


def bilinear_kernel(classes: int) -> Tensor:
    """Returns the weight `KK44` of a transposed convolution of stride 2 that doubles each class by itself, linearly."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    weight = torch.zeros(classes, classes, 4, 4)
    weight[range(classes), range(classes)] = torch.outer(line, line)
    return weight
