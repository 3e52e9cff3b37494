"""The knobs that can change while a trial trains: numbers that training reads anew, none that its state is made of."""

from search_spaces.augmentations import AUGMENTATION_KNOBS
from search_spaces.optimizers import LR, WEIGHT_DECAY

__all__ = ["IN_FLIGHT"]

IN_FLIGHT: tuple[str, ...] = (LR.name, WEIGHT_DECAY.name, *(knob.name for knob in AUGMENTATION_KNOBS))
