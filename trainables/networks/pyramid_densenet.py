"""DenseNet (Huang et al. 2017, arXiv 1608.06993) as the encoder of a pyramid: maps at strides 4, 8, 16 and 32.

MMPretrain's DenseNet gives what its transitions pass on, already halved in size: strides 8, 16, 32 and 32.
"""

from typing import Self

import torch
from mmpretrain.models.backbones import DenseNet

__all__ = ["PyramidDenseNet"]


class PyramidDenseNet(DenseNet):
    """DenseNet whose outputs are taken from its transitions after norm and ReLU, before they shrink.

    Its tensors have the names of MMPretrain's, so that their published weights fit.
    """

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the four dense blocks' normalised outputs.

        Args:
            x: (N, 3, H, W).

        Returns:
            Maps at strides 4, 8, 16 and 32; with arch 121 of 256, 512, 1024 and 1024 channels.
        """
        x, outputs = self.stem(x), []
        for stage, transition in zip(self.stages, self.transitions, strict=True):
            norm, activation, *shrinking = transition
            x = activation(norm(stage(x)))
            outputs.append(x)
            for part in shrinking:
                x = part(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> Self:
        """As MMPretrain's, but the stem rests with the stages that are frozen behind it."""
        super().train(mode)
        if self.frozen_stages > 0:
            self.stem.eval().requires_grad_(False)
        return self
