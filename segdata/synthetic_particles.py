"""Particles in a fluid: translucent blobs that overlap, each in or out of focus, on an uneven noisy background."""

import numpy as np
from scipy.ndimage import gaussian_filter

from segdata.rle import Mask
from segdata.synthetic_shapes import DrawnObject, Floats, Scene, blob, smooth_noise

__all__ = ["PARTICLE_CLASSES", "particle_scene"]

PARTICLE_CLASSES = ("particle",)

_FEWEST, _MOST = 4, 9
_HALF_AXIS = (6.5 / 128, 19.0 / 128)  # of the image's side
_MOST_OVERLAP = 0.3  # of the smaller of two particles
_TRIES = 60


def particle_scene(rng: np.random.Generator, number: int, size: int) -> Scene:
    """Draws one picture; masks are whole particles, so those of overlapping ones overlap."""
    del number  # particles look alike in every image
    wanted = int(rng.integers(_FEWEST, _MOST + 1))
    masks: list[Mask] = []
    light_HW = 0.25 + 0.04 * smooth_noise(rng, size, size / 5)
    for _ in range(_TRIES):
        if len(masks) == wanted:
            break
        mask = _particle(rng, size)
        if any(_overlap(mask, other) > _MOST_OVERLAP for other in masks):
            continue
        masks.append(mask)
        light_HW += _glow(rng, mask, size)
    light_HW += rng.normal(0, 0.03, (size, size))
    grey = np.rint(np.clip(light_HW, 0, 1) * 255).astype(np.uint8)
    return Scene(np.repeat(grey[..., None], 3, axis=2), tuple(DrawnObject(0, mask) for mask in masks))


def _particle(rng: np.random.Generator, size: int) -> Mask:
    long = rng.uniform(*_HALF_AXIS) * size
    radii = (long, long * rng.uniform(0.6, 1.0))
    centre = (rng.uniform(0.04, 0.96) * size, rng.uniform(0.04, 0.96) * size)
    waves = np.stack([rng.uniform(0, 0.08, 3), rng.uniform(0, 2 * np.pi, 3)], axis=1)
    return blob(size, centre, radii, rng.uniform(0, np.pi), waves)


def _glow(rng: np.random.Generator, mask: Mask, size: int) -> Floats:
    """The light that a particle adds: even inside, its rim as sharp as its focus."""
    focus_px = rng.uniform(0.5, 1.6) * size / 128
    glow: Floats = rng.uniform(0.25, 0.5) * gaussian_filter(mask.astype(np.float64), focus_px)
    return glow


def _overlap(first: Mask, second: Mask) -> float:
    smaller = min(int(first.sum()), int(second.sum()))
    return int((first & second).sum()) / smaller if smaller else 1.0
