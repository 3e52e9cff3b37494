"""Steps that move pixels, and labels with them: name -> albumentations transform for an image of a size.

Images are interpolated, labels take the nearest pixel; corners become black, without object (instance) or ignored
(semantic). Strength 1 is meant to be ordinary, 2 strong; 0 changes nothing but where a step has no magnitude.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2

from trainables.augmentation.library import albumentations as album

__all__ = ["GEOMETRIC", "Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a transform is built for: its strength, the image's size in pixels, the label outside the image."""

    strength: float
    height: int
    width: int
    outside: int = 0

    def around_zero(self, magnitude: float) -> tuple[float, float]:
        """Returns (-m, m) for a magnitude at strength 1."""
        return (-magnitude * self.strength, magnitude * self.strength)

    def around_one(self, magnitude: float) -> tuple[float, float]:
        """Returns (1 - m, 1 + m), the lower end never under 0.1, for a magnitude at strength 1."""
        return (max(0.1, 1 - magnitude * self.strength), 1 + magnitude * self.strength)


Build = Callable[[Setting], Any]

SHEAR_DEG, ROTATE_DEG, SHIFT_SHARE, SCALE_SHARE, TILT_DEG = 10.0, 30.0, 0.0625, 0.1, 15.0
LENS, CELL_SHARE, CELLS = 0.3, 0.3, 5
ELASTIC_SPACING, ELASTIC_SHIFT = 0.02, 0.005  # share of the longer side: smoothness and typical shift
CROP_AREA = 0.5  # of the image is the smallest crop at strength 1


def shear(setting: Setting) -> Any:
    degrees = setting.around_zero(SHEAR_DEG)
    return album.Affine(shear={"x": degrees, "y": degrees}, fill_mask=setting.outside, p=1)


def rotate(setting: Setting) -> Any:
    limit = setting.around_zero(ROTATE_DEG)
    return album.SafeRotate(limit=limit, border_mode=cv2.BORDER_CONSTANT, fill_mask=setting.outside, p=1)


def rotate_padded(setting: Setting) -> Any:
    limit = setting.around_zero(ROTATE_DEG)
    return album.Rotate(limit=limit, border_mode=cv2.BORDER_CONSTANT, fill_mask=setting.outside, p=1)


def shift_scale_rotate(setting: Setting) -> Any:
    return album.Affine(
        translate_percent=setting.around_zero(SHIFT_SHARE),
        scale=setting.around_one(SCALE_SHARE),
        rotate=setting.around_zero(TILT_DEG),
        keep_ratio=True,
        fill_mask=setting.outside,
        p=1,
    )


def optical_distortion(setting: Setting) -> Any:
    return album.OpticalDistortion(distort_limit=setting.around_zero(LENS), fill_mask=setting.outside, p=1)


def grid_distortion(setting: Setting) -> Any:
    low, high = setting.around_zero(CELL_SHARE)
    return album.GridDistortion(num_steps=CELLS, distort_limit=(low, high), fill_mask=setting.outside, p=1)


def elastic(setting: Setting) -> Any:
    """Simard et al. 2003: uniform noise, smoothed by a Gaussian of `sigma` px, times `alpha`.

    Smoothing leaves 1 / (2 sigma sqrt(pi)) of white noise's deviation (1 / sqrt(3) here), from which alpha follows.
    """
    side = max(setting.height, setting.width)
    sigma = max(1.0, ELASTIC_SPACING * side)
    alpha = setting.strength * ELASTIC_SHIFT * side * 2 * sigma * math.sqrt(3 * math.pi)
    return album.ElasticTransform(
        alpha=alpha, sigma=sigma, noise_distribution="uniform", fill_mask=setting.outside, p=1
    )


def random_resized_crop(setting: Setting) -> Any:
    return album.RandomResizedCrop(
        size=(setting.height, setting.width),
        scale=(max(0.1, 1 - (1 - CROP_AREA) * setting.strength), 1.0),
        ratio=(0.75 * setting.width / setting.height, setting.width / setting.height / 0.75),
        mask_interpolation=cv2.INTER_NEAREST_EXACT,
        p=1,
    )


GEOMETRIC: dict[str, Build] = {
    "vertical_flip": lambda _: album.VerticalFlip(p=1),
    "transpose": lambda _: album.Transpose(p=1),
    "rotate90": lambda _: album.RandomRotate90(p=1),
    "shear": shear,
    "rotate": rotate,
    "rotate_padded": rotate_padded,
    "shift_scale_rotate": shift_scale_rotate,
    "optical_distortion": optical_distortion,
    "grid_distortion": grid_distortion,
    "elastic": elastic,
    "random_resized_crop": random_resized_crop,
}
