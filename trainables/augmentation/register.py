"""Makes the augmentation steps known to MMEngine, in one explicit call."""

from mmengine.registry import TRANSFORMS

from trainables.augmentation.augment import Augment, LayerMasks, UnlayerMasks
from trainables.augmentation.mix_images import MixImages

__all__ = ["register_augmentation"]


def register_augmentation() -> None:
    """Registers our steps in the root registry, where both MMDetection and MMSegmentation find them; repeatable."""
    for step in (Augment, MixImages, LayerMasks, UnlayerMasks):
        TRANSFORMS.register_module(module=step, force=True)
