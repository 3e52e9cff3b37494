"""MMSegmentation's BEiT for images of any size.

BEiT (Bao et al. 2021, arXiv 2106.08254) adds to each attention a learned bias by relative position, a table that is
made for one input size. Here the table is interpolated to the input's own size, when a checkpoint is loaded and when
an image is predicted. Parameters have the names of MMSegmentation's BEiT. Imports torch and mmseg.
Shapes: N images, T tokens (class token first), C channels, h x w patches.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from mmseg.models.backbones.beit import BEiT, BEiTAttention, BEiTTransformerEncoderLayer
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AnySizeBEiT", "padded", "resized_table"]

Grid = tuple[int, int]  # patches: rows, columns

CLASS_TOKEN_BIASES = 3  # class token to patches, patches to it, and to itself: the last rows of a table


def resized_table(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """Interpolates a table of relative position biases, whose rows are `(2h - 1) * (2w - 1)` offsets and 3 more.

    Bicubic, with the offsets 0 and the largest ones kept in place, so a pattern scales with the image. The rows of the
    class token stay.

    Args:
        table: `(2h - 1) * (2w - 1) + 3` rows, a column a head.
        old: The patches that the table is made for.
        new: The patches that it is wanted for.
    """
    if old == new:
        return table
    heads = table.shape[1]
    rows, columns = 2 * old[0] - 1, 2 * old[1] - 1
    map_1CHW = table[:-CLASS_TOKEN_BIASES].T.reshape(1, heads, rows, columns)
    size = (2 * new[0] - 1, 2 * new[1] - 1)
    scaled = functional.interpolate(map_1CHW.float(), size=size, mode="bicubic", align_corners=True).to(table.dtype)
    return torch.cat([scaled.reshape(heads, -1).T, table[-CLASS_TOKEN_BIASES:]])


def relative_positions(grid: Grid, device: torch.device) -> Tensor:
    """Returns the row of the table for each pair of tokens, `TT`: offsets row by row, then the class token's three."""
    height, width = grid
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    down = rows[:, None] - rows[None] + height - 1
    right = columns[:, None] - columns[None] + width - 1
    last = (2 * height - 1) * (2 * width - 1)  # the row of: class token to patches
    index_TT = functional.pad(down * (2 * width - 1) + right, (1, 0, 1, 0), value=last)
    index_TT[1:, 0] = last + 1
    index_TT[0, 0] = last + 2
    return index_TT


class Positions(NamedTuple):
    """A grid of patches, and the row of its table for each pair of its tokens."""

    grid: Grid
    rows: Tensor  # TT


class AnySizeAttention(BEiTAttention):
    """Self-attention with biases by relative position, for any grid of patches."""

    def _init_rel_pos_embedding(self) -> None:
        """The table alone: upstream keeps its `TT` index as well, once a layer and in every checkpoint."""
        height, width = self.window_size
        rows = (2 * height - 1) * (2 * width - 1) + CLASS_TOKEN_BIASES
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, self.num_heads))

    def bias_of(self, positions: Positions) -> Tensor:
        """Returns what is added to the attention of a grid's tokens, a `TT` matrix for each head."""
        table = resized_table(self.relative_position_bias_table, tuple(self.window_size), positions.grid)
        return table[positions.rows].permute(2, 0, 1)

    def forward(self, x_NTC: Tensor, positions: Positions) -> Tensor:
        """softmax(q k^T / sqrt(d) + bias) v, by torch's fused kernel where there is one."""
        count, tokens, channels = x_NTC.shape
        bias = self.qkv.bias
        if self.bias == "qv_bias":
            bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = functional.linear(x_NTC, self.qkv.weight, bias)
        q, k, v = qkv.reshape(count, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.attn_drop.p if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=self.bias_of(positions).to(q.dtype), dropout_p=dropout, scale=self.scale
        )
        out: Tensor = self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(count, tokens, channels)))
        return out


class AnySizeLayer(BEiTTransformerEncoderLayer):
    """One block: attention and feed-forward net, each scaled by a learned gamma and added."""

    def build_attn(self, attn_cfg: dict[str, Any]) -> None:
        self.attn = AnySizeAttention(**attn_cfg)

    def forward(self, x_NTC: Tensor, positions: Positions) -> Tensor:
        x_NTC = x_NTC + self.drop_path(self.gamma_1 * self.attn(self.norm1(x_NTC), positions))
        out: Tensor = x_NTC + self.drop_path(self.gamma_2 * self.ffn(self.norm2(x_NTC)))
        return out


class AnySizeBEiT(BEiT):
    """BEiT with the arguments, parameters and, at `img_size`, the outputs of MMSegmentation's.

    Images whose sides are no multiple of the patch size are padded with zeros, right and below, and the maps are cut
    to ceil(H / patch) x ceil(W / patch).
    """

    def _build_layers(self) -> None:
        rates = torch.linspace(0, self.drop_path_rate, self.num_layers).tolist()
        self.layers = nn.ModuleList(
            AnySizeLayer(
                embed_dims=self.embed_dims,
                num_heads=self.num_heads,
                feedforward_channels=int(self.mlp_ratio * self.embed_dims),
                attn_drop_rate=self.attn_drop_rate,
                drop_path_rate=rate,
                num_fcs=self.num_fcs,
                bias="qv_bias" if self.qv_bias else False,
                act_cfg=self.act_cfg,
                norm_cfg=self.norm_cfg,
                window_size=self.window_size,
                init_values=self.init_values,
            )
            for rate in rates
        )

    def embed(self, images_NCHW: Tensor) -> tuple[Tensor, Positions]:
        """Returns the tokens of the padded images, class token first, and their positions."""
        tokens_NTC, size = self.patch_embed(padded(images_NCHW, self.patch_size))
        class_token = self.cls_token.expand(len(tokens_NTC), -1, -1)
        grid = (int(size[0]), int(size[1]))
        positions = Positions(grid, relative_positions(grid, tokens_NTC.device))
        return torch.cat([class_token, tokens_NTC], dim=1), positions

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Returns the maps of the blocks in `out_indices`, all at the stride of a patch."""
        x, positions = self.embed(images_NCHW)
        outputs = []
        for index, layer in enumerate(self.layers):
            x = layer(x, positions)
            if index == len(self.layers) - 1 and self.final_norm:
                x = self.norm1(x)
            if index in self.out_indices:
                outputs.append(as_map(x[:, 1:], positions.grid))
        return tuple(outputs)

    def train(self, mode: bool = True) -> Self:
        """As every module's, where MMSegmentation's returns nothing."""
        super().train(mode)
        return self

    def resize_rel_pos_embed(self, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
        """Fits a checkpoint's tables to this `img_size`; MMSegmentation calls this when it loads published weights.

        Tables of a checkpoint are taken to be square, as all published ones are.
        """
        weights = dict(checkpoint.get("state_dict", checkpoint))
        for name in [name for name in weights if "relative_position_index" in name]:
            del weights[name]
        for name in [name for name in weights if "relative_position_bias_table" in name]:
            side = round(((len(weights[name]) - CLASS_TOKEN_BIASES) ** 0.5 + 1) / 2)
            weights[name] = resized_table(weights[name], (side, side), tuple(self.window_size))
        return weights


def padded(images_NCHW: Tensor, step_px: int) -> Tensor:
    """Pads images with zeros, right and below, to sides that are multiples of `step_px`."""
    below, right = (-side % step_px for side in images_NCHW.shape[-2:])
    return functional.pad(images_NCHW, (0, right, 0, below))


def as_map(tokens_NTC: Tensor, grid: Grid) -> Tensor:
    """Lays tokens out as a map `NChw`."""
    return tokens_NTC.transpose(1, 2).reshape(len(tokens_NTC), -1, *grid).contiguous()
