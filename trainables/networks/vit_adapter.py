"""BEiT with the ViT-Adapter: a plain transformer that gives a pyramid of maps.

Chen et al. 2022 (arXiv 2205.08534), section 3 and figure 4. Beside the transformer runs a convolutional pyramid
(`spatial_prior`); the blocks are cut into equal groups, before each of which the pyramid's tokens are injected, and
after each of which they read the transformer's (`interaction`). Imports torch and mmcv.
Shapes: N images, T tokens, C channels, H x W pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.ops import MultiScaleDeformableAttention
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.nn import functional

from segdata.errors import InputError
from trainables.networks.beit import AnySizeBEiT, as_map, padded
from trainables.networks.interaction import AttentionSize, Extractor, Injector
from trainables.networks.spatial_prior import SpatialPrior

__all__ = ["BEiTAdapter"]

STRIDES = (4, 8, 16, 32)


class BEiTAdapter(AnySizeBEiT):
    """BEiT as a backbone of four maps, each `embed_dims` channels, at strides 4, 8, 16 and 32.

    The blocks keep the names of MMSegmentation's BEiT, so its weights load into it. Images are padded with zeros, right
    and below, to multiples of 32 px and the maps cut to ceil(H / stride) x ceil(W / stride).

    Args:
        img_size: Side, in pixels, that the tables of position biases are made for; other sizes are interpolated.
        embed_dims: C. Base 768, large 1024.
        num_layers: Blocks; a multiple of `interactions`. Base 12, large 24.
        num_heads: Of self-attention; divides C. Base 12, large 16.
        interactions: Groups of blocks, each with an injector and an extractor; N = 4 in the paper.
        extra_extractors: More extractors after the last one.
        stem_channels: Of the spatial prior.
        attention_heads: Of the deformable attentions; as many as `num_heads` by default.
        points: Places that each of them samples for each query and level.
        value_ratio: Width of their values relative to C.
        ffn_ratio: Width of the extractors' feed-forward nets relative to C.
        norm_cfg_adapter: The norm of the convolutions and of the outputs.
        **others: Of MMSegmentation's BEiT.

    Raises:
        InputError: The blocks can't be cut into equal groups.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 512,
        embed_dims: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        interactions: int = 4,
        extra_extractors: int = 2,
        stem_channels: int = 64,
        attention_heads: int | None = None,
        points: int = 4,
        value_ratio: float = 0.5,
        ffn_ratio: float = 0.25,
        norm_cfg_adapter: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        if num_layers % interactions:
            raise InputError.of(
                f"expected blocks that {interactions} interactions divide, but got {num_layers}",
                where="backbone.num_layers",
                cure="Use a multiple, or set backbone.interactions.",
            )
        super().__init__(img_size=img_size, embed_dims=embed_dims, num_layers=num_layers, num_heads=num_heads, **others)
        norm = norm_cfg_adapter or {"type": "BN"}
        size = AttentionSize(embed_dims, attention_heads or num_heads, points, value_ratio)
        self.prior = SpatialPrior(self.in_channels, stem_channels, embed_dims, norm)
        self.injectors = nn.ModuleList(Injector(size) for _ in range(interactions))
        counts = [1] * (interactions - 1) + [1 + extra_extractors]
        self.extractors = nn.ModuleList(
            nn.ModuleList(Extractor(size, ffn_ratio, self.drop_path_rate) for _ in range(count)) for count in counts
        )
        self.upsample = nn.ConvTranspose2d(embed_dims, embed_dims, 2, stride=2)
        self.norms = nn.ModuleList(build_norm_layer(norm, embed_dims)[1] for _ in STRIDES)

    def init_weights(self) -> None:
        """Sets all weights at random, then loads those that `init_cfg` names.

        BEiT's own initialisation sets every linear layer alike; the deformable attentions need theirs again.
        """
        published: dict[str, Any] | None = self.init_cfg  # type: ignore[has-type]
        self.init_cfg = None
        super().init_weights()
        nn.init.trunc_normal_(self.prior.level_embedding, std=0.02)
        for part in self.modules():
            if isinstance(part, MultiScaleDeformableAttention):
                part.init_weights()
        self.init_cfg = published
        if published and published["type"] == "Pretrained":
            checkpoint = CheckpointLoader.load_checkpoint(published["checkpoint"], map_location="cpu")
            self.load_state_dict(self.resize_rel_pos_embed(checkpoint), strict=False)

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Returns the four maps from fine to coarse."""
        images = padded(images_NCHW, STRIDES[-1])
        finest, *coarser = self.prior(images)
        grids = [(map_NCHW.shape[2], map_NCHW.shape[3]) for map_NCHW in coarser]
        spatial = torch.cat([level.flatten(2).transpose(1, 2) for level in coarser], dim=1)
        spatial, grown = self.interact(images, spatial, grids)
        parts = torch.split(spatial, [rows * columns for rows, columns in grids], dim=1)
        coarser = [as_map(part, grid) for part, grid in zip(parts, grids, strict=True)]
        pyramid = [self.upsample(coarser[0]) + finest, *coarser]
        height, width = images_NCHW.shape[-2:]
        return tuple(
            norm(level + functional.interpolate(tokens, size=level.shape[-2:], mode="bilinear"))[
                ..., : -(-height // stride), : -(-width // stride)
            ]
            for norm, level, tokens, stride in zip(self.norms, pyramid, chosen(grown), STRIDES, strict=True)
        )

    def interact(
        self, images: Tensor, spatial: Tensor, grids: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, list[Tensor]]:
        """Runs the blocks group by group; returns the spatial tokens, and the transformer's map after each group."""
        tokens, positions = self.embed(images)
        grid = positions.grid
        group = len(self.layers) // len(self.injectors)
        stages: Any = zip(self.injectors, self.extractors, strict=True)
        grown = []
        for index, (injector, extractors) in enumerate(stages):
            patches = injector(tokens[:, 1:], grid, spatial, grids)
            tokens = torch.cat([tokens[:, :1], patches], dim=1)
            for layer in self.layers[index * group : (index + 1) * group]:
                tokens = layer(tokens, positions)
            for extractor in extractors:
                spatial = extractor(spatial, grids, tokens[:, 1:], grid)
            grown.append(as_map(tokens[:, 1:], grid))
        return spatial, grown


def chosen(grown: Sequence[Tensor]) -> list[Tensor]:
    """Picks the transformer's map that is added to each level: early ones to fine levels, the last to the coarsest."""
    return [grown[level * (len(grown) - 1) // (len(STRIDES) - 1)] for level in range(len(STRIDES))]
