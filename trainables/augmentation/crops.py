"""Cropping to a patch that overlaps objects enough (Liu et al. 2016, arXiv 1512.02325, section 2.2)."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from trainables.augmentation.sample import Sample

__all__ = ["min_iou_crop", "resized"]

MIN_IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # 0: any overlap will do
SMALLEST_SIDE = 0.3  # share of the image's side, at strength 1
WIDEST = 2.0  # the longer side of a patch over its shorter one, at most
ATTEMPTS = 50

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def min_iou_crop(sample: Sample, strength: float, rng: np.random.Generator) -> Sample:
    """Returns a random patch, enlarged to fit into the image's old size with its aspect kept.

    The patch holds the centre of an object, and each object whose centre it holds has at least a drawn IoU with it.
    Unlike MMDetection's, objects whose centre lies outside keep the part of their mask that is seen. Where no patch is
    found in 50 attempts (tiny objects never reach a high IoU), the sample stays as it is.
    """
    boxes = sample.layers().boxes_xyxy()
    least = float(rng.choice(MIN_IOUS))
    for _ in range(ATTEMPTS):
        patch = draw_patch(sample.size, max(0.1, 1 - (1 - SMALLEST_SIDE) * strength), rng)
        if patch is not None and overlaps_enough(boxes, patch, least):
            return cropped_to(sample, patch)
    return sample


def draw_patch(size: tuple[int, int], smallest: float, rng: np.random.Generator) -> Box | None:
    """Draws a patch of the image, or None if the draw is too narrow."""
    height, width = size
    h, w = rng.uniform(smallest, 1) * height, rng.uniform(smallest, 1) * width
    if max(h / w, w / h) > WIDEST or min(h, w) < 2:
        return None
    left, top = int(rng.uniform(0, width - w)), int(rng.uniform(0, height - h))
    return left, top, int(left + w), int(top + h)


def overlaps_enough(boxes_xyxy: npt.NDArray[np.float32], patch: Box, least_iou: float) -> bool:
    """Says whether the patch holds a centre, and has the IoU with every object whose centre it holds."""
    low, high = np.array(patch[:2]), np.array(patch[2:])
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    inside = ((centres > low) & (centres < high)).all(axis=1)
    if not inside.any():
        return False
    seen = boxes_xyxy[inside]
    shared = np.clip(np.minimum(seen[:, 2:], high) - np.maximum(seen[:, :2], low), 0, None).prod(axis=1)
    union = (seen[:, 2:] - seen[:, :2]).prod(axis=1) + (high - low).prod() - shared
    return bool((shared / union >= least_iou).all())


def cropped_to(sample: Sample, patch: Box) -> Sample:
    left, top, right, bottom = patch
    height, width = sample.size
    window = np.s_[top:bottom, left:right]
    factor = min(width / (right - left), height / (bottom - top))
    size = (round((right - left) * factor), round((bottom - top) * factor))
    part = replace(sample, image=sample.image[window], labels=np.stack([layer[window] for layer in sample.labels]))
    return resized(part, size)


def resized(sample: Sample, size: tuple[int, int]) -> Sample:
    """Returns the sample at another size (width, height): the image interpolated, labels from the nearest pixel."""
    return replace(
        sample,
        image=np.asarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8),
        labels=np.stack([cv2.resize(layer, size, interpolation=cv2.INTER_NEAREST_EXACT) for layer in sample.labels]),
    )
