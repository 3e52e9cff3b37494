"""BiFPN, the weighted bi-directional feature pyramid of EfficientDet.

Tan et al. 2020 (arXiv 1911.09070), section 3. Imports torch, mmcv and mmengine.
Shapes: N images, C channels, H x W positions; levels run from fine to coarse.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BiFPN", "FastFusion"]

Norm = dict[str, Any]


class FastFusion(nn.Module):
    """Fast normalised fusion, section 3.3: O = sum_i w_i / (epsilon + sum_j w_j) * I_i with w = relu(weights).

    Args:
        count: How many maps are fused.
        epsilon: Keeps the division stable; 1e-4 in the paper.
    """

    def __init__(self, count: int, epsilon: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(count))
        self.epsilon = epsilon

    def forward(self, maps_NCHW: Sequence[Tensor]) -> Tensor:
        """Returns the weighted mean of maps of one shape."""
        weights = functional.relu(self.weights)
        shares = weights / (self.epsilon + weights.sum())
        return torch.stack([share * map_NCHW for share, map_NCHW in zip(shares, maps_NCHW, strict=True)]).sum(0)


class FusionNode(nn.Module):
    """One node of figure 3 (d): fusion, swish, then a depthwise separable 3x3 convolution with its norm."""

    def __init__(self, count: int, channels: int, epsilon: float, norm: Norm) -> None:
        super().__init__()
        self.fusion = FastFusion(count, epsilon)
        self.conv = DepthwiseSeparableConvModule(
            channels, channels, 3, padding=1, dw_norm_cfg=None, dw_act_cfg=None, pw_norm_cfg=norm, pw_act_cfg=None
        )

    def forward(self, *maps_NCHW: Tensor) -> Tensor:
        fused: Tensor = self.conv(functional.silu(self.fusion(maps_NCHW)))
        return fused


class BiFPNLayer(nn.Module):
    """One pass down and up the levels, equations of section 3.3:

    P_td_i  = Conv(fuse(P_in_i, Resize(P_td_{i+1})))
    P_out_i = Conv(fuse(P_in_i, P_td_i, Resize(P_out_{i-1})))

    The finest level has no input from below and the coarsest no middle node, since a node with a single input
    contributes little.
    """

    def __init__(self, levels: int, channels: int, epsilon: float, norm: Norm) -> None:
        super().__init__()
        self.down = nn.ModuleList(FusionNode(2, channels, epsilon, norm) for _ in range(levels - 1))
        counts = [3] * (levels - 2) + [2]
        self.up = nn.ModuleList(FusionNode(count, channels, epsilon, norm) for count in counts)

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        middle = [inputs[-1]]
        for node, fine in zip(reversed(self.down), reversed(inputs[:-1]), strict=True):
            middle.insert(0, node(fine, functional.interpolate(middle[0], size=fine.shape[-2:], mode="nearest")))
        outputs = [middle[0]]
        for level, node in enumerate(self.up, start=1):
            below = shrink(outputs[-1], inputs[level].shape[-2:])
            own = (inputs[level], middle[level]) if level < len(inputs) - 1 else (inputs[level],)
            outputs.append(node(*own, below))
        return outputs


class BiFPN(BaseModule):
    """A neck of repeated BiFPN layers over maps of strides 4 to 32, for MMSegmentation's FPNHead.

    Args:
        in_channels: Channels of the backbone's maps, from fine to coarse.
        out_channels: Channels of every output; 64 (D0) to 384 (D7) in table 1.
        num_outs: Levels; those beyond the backbone's are made by pooling the coarsest (P6, P7 in the paper).
        stack: How often the layer is repeated; 3 (D0) to 8 (D7).
        epsilon: Of the fusion.
        norm_cfg: The norm of each convolution.
        init_cfg: MMEngine's initialisation.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 64,
        num_outs: int = 4,
        stack: int = 3,
        epsilon: float = 1e-4,
        norm_cfg: Norm | None = None,
        init_cfg: Norm | None = None,
    ) -> None:
        super().__init__(init_cfg)
        assert num_outs >= max(2, len(in_channels)), f"{num_outs} outputs of {len(in_channels)} inputs"
        norm = norm_cfg or {"type": "BN"}
        sources = [*in_channels, in_channels[-1]] if num_outs > len(in_channels) else list(in_channels)
        self.lateral = nn.ModuleList(ConvModule(c, out_channels, 1, norm_cfg=norm, act_cfg=None) for c in sources)
        self.layers = nn.Sequential(*(BiFPNLayer(num_outs, out_channels, epsilon, norm) for _ in range(stack)))
        self.levels, self.num_outs = len(in_channels), num_outs

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Returns `num_outs` maps from fine to coarse; the first have the sizes of the inputs."""
        maps = [lateral(map_NCHW) for lateral, map_NCHW in zip(self.lateral, inputs, strict=False)]
        if self.num_outs > self.levels:
            maps.append(pooled(self.lateral[-1](inputs[-1])))
        while len(maps) < self.num_outs:
            maps.append(pooled(maps[-1]))
        return tuple(self.layers(maps))


def pooled(map_NCHW: Tensor) -> Tensor:
    """Halves a map, rounding up, by a 3x3 max-pooling of stride 2."""
    return functional.max_pool2d(map_NCHW, 3, stride=2, padding=1)


def shrink(map_NCHW: Tensor, size: torch.Size) -> Tensor:
    """Brings a map to the size of the next coarser level, whichever way the backbone rounds odd sides."""
    smaller = pooled(map_NCHW)
    return smaller if smaller.shape[-2:] == size else functional.interpolate(smaller, size=size, mode="nearest")
