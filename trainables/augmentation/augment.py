"""The steps of a training pipeline that change one image: `Augment`, and the pair that layers and unlayers its masks.

Random numbers come from NumPy's global state, which trials reseed every epoch, so that a resumed trial sees the same
images as an unbroken one; albumentations has generators of its own and is seeded from there at each call.
"""

import numpy as np
from mmcv.transforms import BaseTransform

from search_spaces.augmentations import STEPS_WITHOUT_STRENGTH
from trainables.augmentation.boxes import BOX_STEPS
from trainables.augmentation.changes import changed
from trainables.augmentation.layers import ObjectLayers
from trainables.augmentation.sample import Results, read_sample, write_sample

__all__ = ["Augment", "LayerMasks", "UnlayerMasks", "new_generator"]


class Augment(BaseTransform):
    """Changes an image and its labels by one step, with a probability.

    Args:
        name: A step of search_spaces.augmentations that needs no other image.
        prob: Probability that an image is changed; for steps inside boxes, that an object is.
        strength: Factor on the step's magnitudes; at 0 a step with magnitudes changes nothing.
    """

    def __init__(self, name: str, prob: float, strength: float = 1.0) -> None:
        self.name, self.prob, self.strength = name, prob, strength

    def transform(self, results: Results) -> Results:
        """Returns the changed results, or the very same if the step is not drawn."""
        rng = new_generator()
        if self.name not in BOX_STEPS and rng.random() >= self.prob:
            return results
        if self.prob == 0 or (self.strength == 0 and self.name not in STEPS_WITHOUT_STRENGTH):
            return results
        return write_sample(results, changed(read_sample(results), self.name, self.prob, self.strength, rng))


def new_generator() -> np.random.Generator:
    """Returns a generator seeded from NumPy's global state."""
    return np.random.default_rng(np.random.randint(2**31))


class LayerMasks(BaseTransform):
    """Turns an instance sample's masks into `ObjectLayers`, which all steps of ours and the stock flip work on."""

    def transform(self, results: Results) -> Results:
        """Also drops the raw annotations, which MMDetection's mixing data set would copy at every step."""
        layers = ObjectLayers.of(results["gt_masks"].to_ndarray())
        return {key: value for key, value in results.items() if key != "instances"} | {"gt_masks": layers}


class UnlayerMasks(BaseTransform):
    """Turns `ObjectLayers` back into MMDetection's masks."""

    def transform(self, results: Results) -> Results:
        """Replaces `gt_masks`."""
        from mmdet.structures.mask import BitmapMasks

        masks_NHW = results["gt_masks"].masks()
        return results | {"gt_masks": BitmapMasks(masks_NHW, *masks_NHW.shape[1:])}
