"""How the ViT-Adapter's spatial tokens and the transformer's tokens exchange information: injector and extractor.

Chen et al. 2022 (arXiv 2205.08534), section 3.4. Both attend by multi-scale deformable attention (Zhu et al. 2020,
arXiv 2010.04159), mmcv's, which on a CPU runs in plain torch. Imports torch and mmcv.
Shapes: N images, T transformer tokens (a grid at stride 16), S spatial tokens (grids at strides 8, 16, 32, in this
order), C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.ops import MultiScaleDeformableAttention
from torch import Tensor, nn

__all__ = ["Extractor", "Injector", "grid_centres"]

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class AttentionSize:
    """The sizes that all of an adapter's attentions share.

    Attributes:
        channels: C.
        heads: Attention heads; divides C and `value_ratio * C`.
        points: Sampled positions for each query, head and level; 4 in the paper.
        value_ratio: Width of the values relative to C.
    """

    channels: int
    heads: int
    points: int
    value_ratio: float


def grid_centres(grids: Sequence[Grid], like: Tensor) -> Tensor:
    """Returns the centres of all positions of some grids, one grid after another, as (x, y) in 0..1."""
    parts = []
    for rows, columns in grids:
        y = (torch.arange(rows, dtype=like.dtype, device=like.device) + 0.5) / rows
        x = (torch.arange(columns, dtype=like.dtype, device=like.device) + 0.5) / columns
        parts.append(torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=-1))
    return torch.cat(parts)


class CrossAttention(nn.Module):
    """Attention(norm(queries), norm(values)): each query samples `points` places of every value grid around its own."""

    def __init__(self, size: AttentionSize, levels: int) -> None:
        super().__init__()
        self.norm_queries, self.norm_values = nn.LayerNorm(size.channels), nn.LayerNorm(size.channels)
        self.levels = levels
        self.attention = MultiScaleDeformableAttention(
            size.channels,
            size.heads,
            num_levels=levels,
            num_points=size.points,
            dropout=0.0,
            batch_first=True,
            value_proj_ratio=size.value_ratio,
        )

    def forward(
        self, queries_NTC: Tensor, query_grids: Sequence[Grid], values_NSC: Tensor, value_grids: Sequence[Grid]
    ) -> Tensor:
        shapes = torch.tensor(value_grids, device=queries_NTC.device)
        starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
        centres = grid_centres(query_grids, queries_NTC)[None, :, None].expand(len(queries_NTC), -1, self.levels, -1)
        attended: Tensor = self.attention(
            self.norm_queries(queries_NTC),
            value=self.norm_values(values_NSC),
            identity=queries_NTC.new_zeros(()),  # mmcv adds it to the result
            reference_points=centres,
            spatial_shapes=shapes,
            level_start_index=starts,
        )
        return attended


class Injector(nn.Module):
    """Equation 1: F_vit + gamma * Attention(norm(F_vit), norm(F_sp)); gamma starts at zero.

    So at first the transformer's features are what its weights were trained for.
    """

    def __init__(self, size: AttentionSize, levels: int = 3) -> None:
        super().__init__()
        self.cross = CrossAttention(size, levels)
        self.gamma = nn.Parameter(torch.zeros(size.channels))

    def forward(self, tokens_NTC: Tensor, grid: Grid, spatial_NSC: Tensor, spatial_grids: Sequence[Grid]) -> Tensor:
        """Returns the transformer's tokens, told of the spatial ones."""
        told: Tensor = tokens_NTC + self.gamma * self.cross(tokens_NTC, [grid], spatial_NSC, spatial_grids)
        return told


class ConvolutionalFeedForward(nn.Module):
    """CFFN: a feed-forward net with a 3x3 depthwise convolution on each grid between its two layers."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.activation = nn.GELU()

    def forward(self, spatial_NSC: Tensor, grids: Sequence[Grid]) -> Tensor:
        x = self.widen(spatial_NSC)
        parts = torch.split(x, [rows * columns for rows, columns in grids], dim=1)
        mixed = [
            self.depthwise(part.transpose(1, 2).reshape(len(part), -1, *grid)).flatten(2).transpose(1, 2)
            for part, grid in zip(parts, grids, strict=True)
        ]
        out: Tensor = self.narrow(self.activation(torch.cat(mixed, dim=1)))
        return out


class Extractor(nn.Module):
    """Equations 2 and 3: F = F_sp + Attention(norm(F_sp), norm(F_vit)), then F + CFFN(norm(F)).

    Args:
        size: Of the attention.
        ffn_ratio: Width of the CFFN relative to C; 0.25 in the paper.
        drop_path: How often the CFFN is left out while training.
    """

    def __init__(self, size: AttentionSize, ffn_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.cross = CrossAttention(size, levels=1)
        self.norm = nn.LayerNorm(size.channels)
        self.feed_forward = ConvolutionalFeedForward(size.channels, max(1, int(size.channels * ffn_ratio)))
        self.drop_path = DropPath(drop_path)

    def forward(self, spatial_NSC: Tensor, spatial_grids: Sequence[Grid], tokens_NTC: Tensor, grid: Grid) -> Tensor:
        """Returns the spatial tokens, told of the transformer's."""
        spatial_NSC = spatial_NSC + self.cross(spatial_NSC, spatial_grids, tokens_NTC, [grid])
        out: Tensor = spatial_NSC + self.drop_path(self.feed_forward(self.norm(spatial_NSC), spatial_grids))
        return out
