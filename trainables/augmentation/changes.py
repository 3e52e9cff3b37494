"""One image's steps by name: a sample and a random generator in, the changed sample out."""

from dataclasses import replace
from typing import Any

import numpy as np

from trainables.augmentation.boxes import BOX_STEPS, change_boxes
from trainables.augmentation.crops import min_iou_crop
from trainables.augmentation.geometric import GEOMETRIC, Setting
from trainables.augmentation.pixel import PIXEL, fog
from trainables.augmentation.sample import Sample

__all__ = ["changed"]


def changed(sample: Sample, name: str, prob: float, strength: float, rng: np.random.Generator) -> Sample:
    """Returns the sample after a step (`prob` matters to steps inside boxes only)."""
    if name in BOX_STEPS:
        return change_boxes(sample, name, prob, strength, rng)
    if name == "min_iou_crop":
        return min_iou_crop(sample, strength, rng)
    if name == "fog":
        return replace(sample, image=fog(sample.image, strength, rng))
    setting = Setting(strength, *sample.size, sample.outside)
    if name in GEOMETRIC:
        return transformed(sample, GEOMETRIC[name](setting), rng)
    step = PIXEL[name](setting)
    step.set_random_seed(int(rng.integers(2**31)))
    rgb_HWC = np.ascontiguousarray(sample.image[..., ::-1])  # albumentations speaks of RGB, MMCV loads BGR
    return replace(sample, image=np.ascontiguousarray(step(image=rgb_HWC)["image"][..., ::-1]))


def transformed(sample: Sample, step: Any, rng: np.random.Generator) -> Sample:
    """Returns the sample after an albumentations transform that moves pixels."""
    step.set_random_seed(int(rng.integers(2**31)))
    moved = step(image=sample.image, masks=sample.labels)
    return replace(sample, image=moved["image"], labels=moved["masks"])
