"""Litter on the ground: four classes told apart by shape and colour, one of them rare, on a textured background."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from segdata.rle import Mask
from segdata.synthetic_shapes import DrawnObject, Floats, Scene, blob, rounded_box, smooth_noise

__all__ = ["LITTER_CLASSES", "litter_scene"]

LITTER_CLASSES = ("bag", "bottle", "paper", "battery")

_FEWEST, _MOST = 4, 9
_RARE_CLASS = LITTER_CLASSES.index("battery")
_RARE_EVERY = 6  # only every sixth image holds the rare class, one object of it
_MOST_HIDDEN = 0.35  # share of an object that others may cover
_TRIES = 60
_GROUNDS = np.array([[0.52, 0.45, 0.34], [0.35, 0.42, 0.26], [0.45, 0.45, 0.46], [0.60, 0.54, 0.42]])  # earth .. sand


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    class_index: int
    mask: Mask
    rgb: Floats


def litter_scene(rng: np.random.Generator, number: int, size: int) -> Scene:
    """Draws one picture; an object's mask is what can be seen of it, so masks do not overlap."""
    wanted = int(rng.integers(_FEWEST, _MOST + 1))
    classes = [int(index) for index in rng.integers(0, _RARE_CLASS, wanted)]
    if number % _RARE_EVERY == 0:
        classes[0] = _RARE_CLASS
    items = _place(rng, size, classes)
    picture_HWC = _ground(rng, size)
    for item in items:
        picture_HWC = _drawn(rng, picture_HWC, item, size)
    picture_HWC += rng.normal(0, 0.02, picture_HWC.shape)
    rgb_HWC = np.rint(np.clip(picture_HWC, 0, 1) * 255).astype(np.uint8)
    seen = [DrawnObject(item.class_index, visible) for item, visible in zip(items, _visible(items), strict=True)]
    return Scene(rgb_HWC, tuple(seen))


def _place(rng: np.random.Generator, size: int, classes: list[int]) -> list[_Item]:
    """Lays the items down, largest first, so that the smaller one lies on top, none hidden too much."""
    items: list[_Item] = []
    waiting = list(classes)
    for _ in range(_TRIES):
        if not waiting:
            break
        candidate = _ITEMS[waiting[0]](rng, size)
        trial = sorted([*items, candidate], key=lambda item: -int(item.mask.sum()))
        shares = [
            visible.sum() / max(1, int(item.mask.sum())) for item, visible in zip(trial, _visible(trial), strict=True)
        ]
        if min(shares) >= 1 - _MOST_HIDDEN:
            items = trial
            waiting.pop(0)
    return items


def _visible(items: list[_Item]) -> list[Mask]:
    covered = np.zeros_like(items[0].mask) if items else np.zeros((0, 0), dtype=np.bool_)
    masks: list[Mask] = []
    for item in reversed(items):
        masks.append(item.mask & ~covered)
        covered = covered | item.mask
    return masks[::-1]


def _ground(rng: np.random.Generator, size: int) -> Floats:
    texture_HW = 0.05 * smooth_noise(rng, size, size / 10) + 0.04 * smooth_noise(rng, size, size / 100)
    ground_HWC: Floats = _GROUNDS[rng.integers(len(_GROUNDS))] + texture_HW[..., None]
    return ground_HWC


def _drawn(rng: np.random.Generator, picture_HWC: Floats, item: _Item, size: int) -> Floats:
    """Paints an item with folds of light and shade and a shadow at its rim."""
    edge = gaussian_filter(item.mask.astype(np.float64), 0.6 * size / 128)[..., None]
    shadow = gaussian_filter(item.mask.astype(np.float64), 2.0 * size / 128)[..., None]
    folds = 1 + 0.08 * smooth_noise(rng, size, size / 40)[..., None]
    painted: Floats = picture_HWC * (1 - 0.35 * shadow) * (1 - edge) + item.rgb * folds * edge
    return painted


def _centre(rng: np.random.Generator, size: int) -> tuple[float, float]:
    return (rng.uniform(0.06, 0.94) * size, rng.uniform(0.06, 0.94) * size)


def _shade(rng: np.random.Generator, rgb: tuple[float, float, float]) -> Floats:
    shaded: Floats = np.clip(np.array(rgb) * rng.uniform(0.8, 1.15) + rng.normal(0, 0.03, 3), 0, 1)
    return shaded


def _bag(rng: np.random.Generator, size: int) -> _Item:
    radius = rng.uniform(13, 19) / 128 * size
    waves = np.stack([rng.uniform(0.03, 0.12, 4), rng.uniform(0, 2 * np.pi, 4)], axis=1)
    radii = (radius, radius * rng.uniform(0.75, 1.0))
    mask = blob(size, _centre(rng, size), radii, rng.uniform(0, np.pi), waves)
    return _Item(0, mask, _shade(rng, (0.15, 0.25, 0.75)))


def _bottle(rng: np.random.Generator, size: int) -> _Item:
    half = rng.uniform(13, 20) / 128 * size
    width = half * rng.uniform(0.28, 0.38)
    mask = rounded_box(size, _centre(rng, size), (half, width), rng.uniform(0, np.pi), width * 0.95)
    return _Item(1, mask, _shade(rng, (0.10, 0.70, 0.30)))


def _paper(rng: np.random.Generator, size: int) -> _Item:
    half = rng.uniform(8, 14) / 128 * size
    sides = (half, half * rng.uniform(0.7, 1.0))
    mask = rounded_box(size, _centre(rng, size), sides, rng.uniform(0, np.pi), 0.5)
    return _Item(2, mask, _shade(rng, (0.92, 0.90, 0.86)))


def _battery(rng: np.random.Generator, size: int) -> _Item:
    half = rng.uniform(7, 10) / 128 * size
    mask = rounded_box(size, _centre(rng, size), (half, half * 0.45), rng.uniform(0, np.pi), 1.5 / 128 * size)
    return _Item(3, mask, _shade(rng, (0.95, 0.45, 0.05)))


_ITEMS: tuple[Callable[[np.random.Generator, int], _Item], ...] = (_bag, _bottle, _paper, _battery)
