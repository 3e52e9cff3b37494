"""Online augmentation: training images change, and their masks, boxes and label maps follow the pixels.

`steps` puts the chosen steps into a trial's pipeline (plain dicts); `register.register_augmentation` makes the
transforms known to MMEngine, which `trainables.trial` does once a process. They are in training pipelines only, so that
stock inferencers load a trial's config without this package. `changes` and `mixing` are the steps themselves, pure
functions on samples; `augment` and `mix_images` wrap them for MMEngine.
"""

from trainables.augmentation.steps import augmentation_steps, needs_other_images

__all__ = ["augmentation_steps", "needs_other_images"]
