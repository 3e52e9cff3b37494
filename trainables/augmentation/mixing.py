"""Steps that put parts of other images into one: mosaic, copy-paste, ClassMix, CutMix. Pure functions on samples.

`wanted` is a rare class that must be among what is pasted, or None.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from trainables.augmentation.geometric import Setting
from trainables.augmentation.layers import Labels
from trainables.augmentation.library import albumentations as album
from trainables.augmentation.sample import IGNORED, MIN_PIXELS, Sample

__all__ = ["class_mix", "copy_paste", "cut_mix", "mixed", "mosaic"]

Mask = npt.NDArray[np.bool_]

JITTER_SHIFT, JITTER_SCALE, JITTER_DEG = 0.2, 0.25, 15.0  # of what copy-paste pastes
CENTRE = (0.3, 0.7)  # where a mosaic's four images meet, as shares of its sides


def mixed(
    name: str, samples: Sequence[Sample], wanted: int | None, ground: int | None, rng: np.random.Generator
) -> Sample:
    """Returns the first sample after a step by name that takes from the others."""
    if name == "mosaic":
        return mosaic(samples, rng)
    target, source = samples
    if name == "copy_paste":
        return copy_paste(target, source, wanted, ground, rng)
    return {"class_mix": class_mix, "cut_mix": cut_mix}[name](target, source, wanted, rng)


def copy_paste(
    target: Sample, source: Sample, wanted: int | None, ground: int | None, rng: np.random.Generator
) -> Sample:
    """Pastes some of the source's objects (Ghiasi et al. 2021, arXiv 2012.07177); what they cover is hidden.

    The source is flipped, scaled, rotated and shifted first. Each object is pasted with probability 1/2, those of the
    wanted class always. A semantic sample's objects are the connected parts of its classes, save the `ground` class.
    """
    moved = jittered(fitted(source, target.size, rng), rng)
    if target.classes is None:
        chosen_HW = chosen_parts(moved.labels[0], wanted, ground, rng)
        return pasted_labels(target, moved, chosen_HW)
    assert moved.classes is not None and moved.ignored is not None
    taken = ((rng.random(len(moved.classes)) < 0.5) | (moved.classes == wanted)) & ~moved.ignored
    return pasted_objects(target, moved, with_overlapping(taken, moved.labels))


def jittered(sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample flipped half of the time, scaled, rotated and shifted at random."""
    setting = Setting(1.0, *sample.size, sample.outside)
    steps = [album.HorizontalFlip(p=0.5)]
    steps.append(
        album.Affine(
            translate_percent=setting.around_zero(JITTER_SHIFT),
            scale=setting.around_one(JITTER_SCALE),
            rotate=setting.around_zero(JITTER_DEG),
            keep_ratio=True,
            fill_mask=sample.outside,
            p=1,
        )
    )
    for step in steps:
        step.set_random_seed(int(rng.integers(2**31)))
        moved = step(image=sample.image, masks=sample.labels)
        sample = replace(sample, image=moved["image"], labels=moved["masks"])
    return sample


def chosen_parts(label_HW: Labels, wanted: int | None, ground: int | None, rng: np.random.Generator) -> Mask:
    """Chooses connected parts of classes: each with probability 1/2, those of the wanted class always."""
    chosen: Mask = np.zeros(label_HW.shape, dtype=bool)
    for index in np.unique(label_HW):
        if index in (IGNORED, ground):
            continue
        count, parts_HW, stats, _ = cv2.connectedComponentsWithStats((label_HW == index).astype(np.uint8))
        taken = (rng.random(count) < 0.5) | (index == wanted)
        taken[0] = False  # what is not of this class
        taken &= stats[:, cv2.CC_STAT_AREA] >= MIN_PIXELS
        chosen |= taken[parts_HW]
    return chosen


def with_overlapping(taken_N: Mask, labels_LHW: Labels) -> Mask:
    """Returns the taken objects with all that share pixels with them: which one is seen there is not known."""
    shared_LP = labels_LHW[:, (labels_LHW > 0).sum(axis=0) > 1]
    marks = np.concatenate([[False], taken_N])
    while True:
        beside = np.unique(shared_LP[:, marks[shared_LP].any(axis=0)])
        beside = beside[beside > 0]
        if marks[beside].all():
            return marks[1:]
        marks[beside] = True


def pasted_labels(target: Sample, source: Sample, chosen_HW: Mask) -> Sample:
    """Returns the target with the chosen pixels of a source of the same size, labels with them."""
    image, labels = target.image.copy(), target.labels.copy()
    image[chosen_HW] = source.image[chosen_HW]
    labels[0][chosen_HW] = source.labels[0][chosen_HW]
    return replace(target, image=image, labels=labels)


def pasted_objects(target: Sample, source: Sample, taken_N: Mask) -> Sample:
    """Returns the target with the taken objects of a source of the same size in front of its own."""
    marks = np.concatenate([[False], taken_N])
    shown_LHW = marks[source.labels]
    covered_HW = shown_LHW.any(axis=0)
    image = target.image.copy()
    image[covered_HW] = source.image[covered_HW]
    numbers = np.zeros(len(marks), dtype=np.uint16)
    numbers[marks] = np.arange(1, int(taken_N.sum()) + 1) + len(target.ignored if target.ignored is not None else ())
    layers = [np.where(covered_HW, 0, layer).astype(np.uint16) for layer in target.labels]
    for index, (layer, shown_HW) in enumerate(zip(source.labels, shown_LHW, strict=True)):
        if index == len(layers):
            layers.append(np.zeros_like(layers[0]))
        layers[index][shown_HW] = numbers[layer[shown_HW]]
    return joined(image, np.stack(layers), [(target, None), (source, taken_N)])


def joined(image_HWC: npt.NDArray[np.uint8], labels_LHW: Labels, parts: Sequence[tuple[Sample, Mask | None]]) -> Sample:
    """Returns an instance sample with the objects of several, of which some only those marked, in order."""
    classes = [s.classes[... if m is None else m] for s, m in parts if s.classes is not None]
    ignored = [s.ignored[... if m is None else m] for s, m in parts if s.ignored is not None]
    return Sample(image_HWC, labels_LHW, np.concatenate(classes), np.concatenate(ignored))


def class_mix(target: Sample, source: Sample, wanted: int | None, rng: np.random.Generator) -> Sample:
    """Pastes every pixel of half of the source's classes (Olsson et al. 2021, arXiv 2007.07936, section 3.1)."""
    source = fitted(source, target.size, rng)
    present = np.array([index for index in np.unique(source.labels[0]) if index != IGNORED])
    rng.shuffle(present)
    order = sorted(present, key=lambda index: index != wanted)  # stable: the wanted class first
    return pasted_labels(target, source, np.isin(source.labels[0], order[: (len(order) + 1) // 2]))


def cut_mix(target: Sample, source: Sample, wanted: int | None, rng: np.random.Generator) -> Sample:
    """Pastes a rectangle (Yun et al. 2019, arXiv 1905.04899, eq. 1 and 2 with alpha = 1), labels with it.

    Its share of the image is uniform in [0, 1]; its centre is anywhere, or on a pixel of the wanted class.
    """
    source = fitted(source, target.size, rng)
    height, width = target.size
    side = float(np.sqrt(rng.uniform(0, 1)))
    centre = np.array([rng.uniform(0, height), rng.uniform(0, width)])
    places = np.argwhere(source.labels[0] == wanted) if wanted is not None else ()
    if len(places):
        centre = places[rng.integers(len(places))]
    low = np.clip(np.round(centre - side * np.array([height, width]) / 2), 0, None).astype(int)
    high = np.round(centre + side * np.array([height, width]) / 2).astype(int)
    chosen: Mask = np.zeros((height, width), dtype=bool)
    chosen[low[0] : high[0], low[1] : high[1]] = True
    return pasted_labels(target, source, chosen & within(source))


def within(sample: Sample) -> Mask:
    """Returns the pixels that are labelled, which padding is not."""
    return np.asarray(sample.labels[0] != IGNORED)


def mosaic(samples: Sequence[Sample], rng: np.random.Generator) -> Sample:
    """Puts four samples into the frame of the first (Bochkovskiy et al. 2020, arXiv 2004.10934), at their own scale.

    They meet at a random point; each quadrant holds a random part of its sample.
    """
    height, width = samples[0].size
    middle_y, middle_x = (round(side * rng.uniform(*CENTRE)) for side in (height, width))
    image = np.zeros_like(samples[0].image)
    depth = max(len(sample.labels) for sample in samples)
    labels = np.full((depth, height, width), samples[0].outside, dtype=samples[0].labels.dtype)
    rows, columns = (slice(0, middle_y), slice(middle_y, height)), (slice(0, middle_x), slice(middle_x, width))
    before = 0
    for index, sample in enumerate(samples):
        row, column = rows[index // 2], columns[index % 2]
        part = fitted(sample, (row.stop - row.start, column.stop - column.start), rng)
        image[row, column] = part.image
        if sample.classes is None:
            labels[:, row, column] = part.labels
            continue
        shown = part.labels
        labels[: len(shown), row, column] = np.where(shown > 0, shown + np.uint16(before), 0)
        before += len(sample.classes)
    if samples[0].classes is None:
        return replace(samples[0], image=image, labels=labels)
    return joined(image, labels, [(sample, None) for sample in samples])


def fitted(sample: Sample, size: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Returns the sample cropped and padded to a size (height, width), at a random place along each side."""
    image = np.zeros((*size, sample.image.shape[2]), dtype=np.uint8)
    labels = np.full((len(sample.labels), *size), sample.outside, dtype=sample.labels.dtype)
    rows, columns = (overlap(old, new, rng) for old, new in zip(sample.size, size, strict=True))
    image[rows[1], columns[1]] = sample.image[rows[0], columns[0]]
    labels[:, rows[1], columns[1]] = sample.labels[:, rows[0], columns[0]]
    return replace(sample, image=image, labels=labels)


def overlap(old: int, new: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Returns which part of a side of length `old` lands where in one of length `new`."""
    length, gap = min(old, new), int(rng.integers(abs(old - new) + 1))
    start_old, start_new = (gap, 0) if old > new else (0, gap)
    return slice(start_old, start_old + length), slice(start_new, start_new + length)
