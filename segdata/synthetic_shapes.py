"""Shapes that synthetic scenes are drawn from: masks, noise, and the scene that they make up.

Masks are bool (H, W); lengths in pixels; angles in radians. Pure numpy and scipy, no files.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from segdata.images import ImageArray
from segdata.rle import Mask

__all__ = ["DrawnObject", "Floats", "Scene", "blob", "rounded_box", "smooth_noise"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnObject:
    """One object's truth."""

    class_index: int
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture (H, W, 3) and its objects."""

    rgb: ImageArray
    objects: tuple[DrawnObject, ...]


def blob(size: int, centre_xy: tuple[float, float], radii: tuple[float, float], angle: float, waves: Floats) -> Mask:
    """An ellipse with half axes `radii`, turned by `angle`, its rim moved by cosines.

    `waves` is (K, 2): for k = 2, 3, ... the amplitude as a share of the radius, and the phase.
    """
    x, y = _local(size, centre_xy, angle)
    x, y = x / radii[0], y / radii[1]
    theta = np.arctan2(y, x)
    rim = np.ones_like(theta)
    for k, (amplitude, phase) in enumerate(waves, start=2):
        rim += amplitude * np.cos(k * theta + phase)
    inside: Mask = np.hypot(x, y) <= rim
    return inside


def rounded_box(
    size: int, centre_xy: tuple[float, float], half_sides: tuple[float, float], angle: float, corner: float
) -> Mask:
    """A rectangle turned by `angle`, its corners rounded with radius `corner`."""
    x, y = _local(size, centre_xy, angle)
    past_x = np.clip(np.abs(x) - (half_sides[0] - corner), 0, None)
    past_y = np.clip(np.abs(y) - (half_sides[1] - corner), 0, None)
    inside: Mask = np.hypot(past_x, past_y) <= corner
    return inside


def smooth_noise(rng: np.random.Generator, size: int, grain_px: float) -> Floats:
    """Noise of the given grain, (size, size), mean 0 and standard deviation 1."""
    noise: Floats = gaussian_filter(rng.standard_normal((size, size)), grain_px, mode="wrap")
    centred: Floats = (noise - noise.mean()) / noise.std()
    return centred


def _local(size: int, centre_xy: tuple[float, float], angle: float) -> tuple[Floats, Floats]:
    """Coordinates of the pixel centres as seen from the shape."""
    y, x = np.mgrid[0:size, 0:size] + 0.5
    dx, dy = x - centre_xy[0], y - centre_xy[1]
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * dx + sin * dy, cos * dy - sin * dx
