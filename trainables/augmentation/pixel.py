"""Steps that change colours and sharpness only; labels stay. Name -> albumentations transform for a strength.

Magnitudes at strength 1 follow albumentations' own stock values, save where those drown small objects (noise, rain).
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from trainables.augmentation.geometric import Setting
from trainables.augmentation.library import albumentations as album

__all__ = ["PIXEL", "fog"]

Image = npt.NDArray[np.uint8]
Build = Callable[[Setting], Any]


def brightness_contrast(setting: Setting) -> Any:
    limit = setting.around_zero(0.2)
    return album.RandomBrightnessContrast(brightness_limit=limit, contrast_limit=limit, p=1)


def gamma(setting: Setting) -> Any:
    low, high = setting.around_one(0.2)
    return album.RandomGamma(gamma_limit=(100 * low, 100 * high), p=1)


def hsv(setting: Setting) -> Any:
    return album.HueSaturationValue(
        hue_shift_limit=setting.around_zero(20),
        sat_shift_limit=setting.around_zero(30),
        val_shift_limit=setting.around_zero(20),
        p=1,
    )


def rgb_shift(setting: Setting) -> Any:
    limit = setting.around_zero(20)
    return album.RGBShift(r_shift_limit=limit, g_shift_limit=limit, b_shift_limit=limit, p=1)


def color_jitter(setting: Setting) -> Any:
    share = setting.around_one(0.2)
    hue = min(0.5, 0.1 * setting.strength)
    return album.ColorJitter(brightness=share, contrast=share, saturation=share, hue=(-hue, hue), p=1)


def gauss_noise(setting: Setting) -> Any:
    """Deviation of 1 % to 5 % of the range (3 to 13 grey levels); the stock 20 % to 44 % hides small objects."""
    return album.GaussNoise(std_range=(0.01 * setting.strength, 0.05 * setting.strength), p=1)


def motion_blur(setting: Setting) -> Any:
    longest = 3 + 2 * round(2 * setting.strength)  # odd: 7 px at strength 1
    return album.MotionBlur(blur_limit=(3, longest), p=1)


def gaussian_blur(setting: Setting) -> Any:
    return album.GaussianBlur(
        blur_limit=0, sigma_limit=(0.1 + 0.4 * setting.strength, 0.1 + 1.9 * setting.strength), p=1
    )


def rain(setting: Setting) -> Any:
    return album.RandomRain(
        brightness_coefficient=max(0.1, 1 - 0.2 * setting.strength), blur_value=3, rain_type="drizzle", p=1
    )


def snow(setting: Setting) -> Any:
    most = min(1.0, 0.3 * setting.strength)
    return album.RandomSnow(snow_point_range=(most / 3, most), brightness_coeff=2.0, p=1)


def sun_flare(setting: Setting) -> Any:
    radius = max(2, round(0.2 * setting.strength * min(setting.height, setting.width)))
    return album.RandomSunFlare(src_radius=radius, num_flare_circles_range=(3, 6), p=1)


def fog(image_HWC: Image, strength: float, rng: np.random.Generator) -> Image:
    """Returns the image in fog of uneven thickness d: I exp(-d) + 255 (1 - exp(-d)), Koschmieder's law.

    Albumentations' own draws and blends thousands of circles: 0.36 s for an image of 924 x 711 px.
    """
    height, width = image_HWC.shape[:2]
    coarse = rng.uniform(0.2, 1.0, (4, 4)).astype(np.float32)
    thickness = rng.uniform(0.3, 1.0) * strength * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    seen = np.exp(-np.clip(thickness, 0, None))[..., None]
    return np.asarray(np.round(image_HWC * seen + 255 * (1 - seen)), dtype=np.uint8)


def grid_dropout(setting: Setting) -> Any:
    """Chen et al. 2020, arXiv 2001.04086: a square of every cell of a grid turns black, a sixth of the area."""
    cell = max(4, min(setting.height, setting.width) // 10)
    ratio = min(0.9, max(0.01, 0.4 * setting.strength))
    return album.GridDropout(ratio=ratio, unit_size_range=(cell, cell + 1), random_offset=True, fill_mask=None, p=1)


PIXEL: dict[str, Build] = {
    "equalize": lambda _: album.Equalize(p=1),
    "brightness": lambda s: album.RandomBrightnessContrast(s.around_zero(0.2), (0.0, 0.0), p=1),
    "contrast": lambda s: album.RandomBrightnessContrast((0.0, 0.0), s.around_zero(0.2), p=1),
    "brightness_contrast": brightness_contrast,
    "gamma": gamma,
    "clahe": lambda s: album.CLAHE(clip_limit=(1.0, 1.0 + 3.0 * s.strength), p=1),
    "hsv": hsv,
    "rgb_shift": rgb_shift,
    "color_jitter": color_jitter,
    "channel_shuffle": lambda _: album.ChannelShuffle(p=1),
    "gauss_noise": gauss_noise,
    "motion_blur": motion_blur,
    "gaussian_blur": gaussian_blur,
    "rain": rain,
    "snow": snow,
    "sun_flare": sun_flare,
    "grid_dropout": grid_dropout,
}
