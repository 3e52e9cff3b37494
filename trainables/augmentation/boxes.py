"""Steps inside an object's box only (Zoph et al. 2019, arXiv 1906.11172): its pixels move, the rest of the image stays.

Whatever lies in the box moves, parts of neighbours too, and every mask with its pixels. Where a moved pixel would come
from outside the box, the old one stays, so that no black corners appear inside the image.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from trainables.augmentation.sample import Sample

__all__ = ["BOX_STEPS", "change_boxes"]

Matrix = npt.NDArray[np.float64]  # 2 x 3, maps a pixel of the changed box to where it comes from

SHEAR_DEG, ROTATE_DEG = 15.0, 30.0  # at strength 1


def flipped(width: int, height: int, strength: float, rng: np.random.Generator) -> Matrix:
    """Left to right."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])


def sheared(width: int, height: int, strength: float, rng: np.random.Generator) -> Matrix:
    """Along x or y, about the centre of the box."""
    slope = math.tan(math.radians(rng.uniform(-SHEAR_DEG, SHEAR_DEG) * strength))
    turn = [[1.0, slope], [0.0, 1.0]] if rng.random() < 0.5 else [[1.0, 0.0], [slope, 1.0]]
    return about_centre(np.array(turn), width, height)


def rotated(width: int, height: int, strength: float, rng: np.random.Generator) -> Matrix:
    """About the centre of the box."""
    angle = math.radians(rng.uniform(-ROTATE_DEG, ROTATE_DEG) * strength)
    turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return about_centre(np.array(turn), width, height)


def about_centre(turn: npt.NDArray[np.float64], width: int, height: int) -> Matrix:
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([turn, centre - turn @ centre])


BOX_STEPS: dict[str, Callable[[int, int, float, np.random.Generator], Matrix]] = {
    "box_flip": flipped,
    "box_shear": sheared,
    "box_rotate": rotated,
}


def change_boxes(sample: Sample, name: str, prob: float, strength: float, rng: np.random.Generator) -> Sample:
    """Returns the sample with each object's box changed with probability `prob`, one after the other.

    The very same sample comes back if no object is drawn.
    """
    boxes = sample.layers().boxes_xyxy().astype(int)
    chosen = boxes[rng.random(len(boxes)) < prob]
    if not len(chosen):
        return sample
    image, labels = sample.image.copy(), sample.labels.copy()
    for left, top, right, bottom in chosen:
        if right - left < 2 or bottom - top < 2:
            continue
        matrix = BOX_STEPS[name](right - left, bottom - top, strength, rng)
        window = np.s_[top:bottom, left:right]
        inside = moved(np.ones((bottom - top, right - left), np.uint8), matrix, cv2.INTER_NEAREST).astype(bool)
        image[window][inside] = moved(image[window], matrix, cv2.INTER_LINEAR)[inside]
        for layer in labels:
            layer[window][inside] = moved(layer[window], matrix, cv2.INTER_NEAREST)[inside]
    return replace(sample, image=image, labels=labels)


def moved(pixels: npt.NDArray[np.generic], matrix: Matrix, interpolation: int) -> npt.NDArray[np.generic]:
    """Returns the box's pixels taken from where the matrix says; near its edge the image is replicated."""
    border = cv2.BORDER_CONSTANT if interpolation == cv2.INTER_NEAREST else cv2.BORDER_REPLICATE
    height, width = pixels.shape[:2]
    return np.asarray(
        cv2.warpAffine(
            np.ascontiguousarray(pixels),
            matrix,
            (width, height),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=0,
        )
    )
