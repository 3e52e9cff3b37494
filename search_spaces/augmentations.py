"""The knobs of online augmentation."""

from search_spaces.knob import Knob
from search_spaces.parameters import Float

__all__ = ["AUGMENTATION_KNOBS", "FLIP"]

FLIP = Knob(
    name="flip",
    domain=Float(0.0, 1.0),
    field="augmentation.flip",
    help="probability that a training image is flipped",
    source="000: online flip; 002: flip; 004: HorizontalFlip",
    default=0.5,
    paths={"*": ("train_dataloader.dataset.pipeline[type=RandomFlip].prob",)},
)

AUGMENTATION_KNOBS = (FLIP,)
