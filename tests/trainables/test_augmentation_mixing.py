"""Mixing images: what is pasted, what it hides, and at which share."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trainables.augmentation.layers import ObjectLayers
from trainables.augmentation.mixing import class_mix, copy_paste, cut_mix, fitted, mosaic, with_overlapping
from trainables.augmentation.sample import IGNORED, Sample

Array = npt.NDArray[Any]
HEIGHT, WIDTH = 60, 80


def flat(value: int, label_HW: Array) -> Sample:
    """A semantic sample of one grey value."""
    return Sample(np.full((*label_HW.shape, 3), value, np.uint8), label_HW.astype(np.uint8)[None])


def stripes(classes: int) -> Array:
    """A label map of vertical stripes, one a class."""
    return np.tile(np.arange(WIDTH) * classes // WIDTH, (HEIGHT, 1))


def scene(value: int, boxes: list[tuple[int, int, int, int]], classes: list[int]) -> Sample:
    """An instance sample of one grey value; object n is a box (left, top, right, bottom) of value + 10 (n + 1)."""
    picture = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes):
        masks[number, top:bottom, left:right] = 1
        picture[top:bottom, left:right] = value + 10 * (number + 1)
    return Sample(picture, ObjectLayers.of(masks).labels, np.array(classes), np.zeros(len(boxes), bool))


@pytest.mark.parametrize(("classes", "pasted"), [(1, 1), (2, 1), (3, 2), (4, 2), (8, 4)])
def test_class_mix_pastes_half_of_the_classes(classes: int, pasted: int) -> None:
    target, source = flat(10, np.full((HEIGHT, WIDTH), 9)), flat(200, stripes(classes))
    seen: set[int] = set()
    for seed in range(20):
        mixed = class_mix(target, source, None, np.random.default_rng(seed))
        new = mixed.image[..., 0] == 200
        found = np.unique(mixed.labels[0][new])
        assert len(found) == pasted and (mixed.labels[0][~new] == 9).all()
        assert (mixed.labels[0][new] == stripes(classes)[new]).all()
        assert new.sum() == np.isin(stripes(classes), found).sum(), "every pixel of a class is pasted"
        seen |= set(found.tolist())
    assert seen == set(range(classes))


def test_a_wanted_class_is_always_among_those_of_class_mix() -> None:
    target, source = flat(10, np.full((HEIGHT, WIDTH), 9)), flat(200, stripes(8))
    for seed in range(20):
        assert 6 in class_mix(target, source, 6, np.random.default_rng(seed)).labels[0]


def test_ignored_pixels_are_never_pasted() -> None:
    label = stripes(4)
    label[:, :30] = IGNORED
    target, source = flat(10, np.full((HEIGHT, WIDTH), 9)), flat(200, label)
    for seed in range(10):
        for mix in (class_mix, cut_mix):
            assert IGNORED not in mix(target, source, None, np.random.default_rng(seed)).labels[0]


def test_cut_mix_pastes_a_rectangle_of_a_uniform_share() -> None:
    target, source = flat(10, np.full((HEIGHT, WIDTH), 9)), flat(200, np.zeros((HEIGHT, WIDTH)))
    shares = []
    for seed in range(400):
        new = cut_mix(target, source, None, np.random.default_rng(seed)).image[..., 0] == 200
        rows, columns = np.flatnonzero(new.any(axis=1)), np.flatnonzero(new.any(axis=0))
        if len(rows):
            assert new[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        shares.append(new.mean())
    # A side of share s keeps s - s^2 / 4 of itself on average (its centre is uniform), with s^2 uniform in [0, 1]:
    # the integral of (s - s^2/4)^2 * 2 s ds = 1/2 - 1/5 + 1/48 = 0.3208.
    assert np.mean(shares) == pytest.approx(0.3208, abs=0.04)


def test_the_rectangle_of_cut_mix_lies_on_a_wanted_class() -> None:
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[50:53, 70:73] = 2
    target, source = flat(10, np.full((HEIGHT, WIDTH), 9)), flat(200, label)
    found = [2 in cut_mix(target, source, 2, np.random.default_rng(seed)).labels[0] for seed in range(50)]
    assert sum(found) >= 48  # a rectangle narrower than a pixel may miss it


def test_what_is_pasted_hides_what_lies_behind() -> None:
    target = scene(20, [(5, 5, 40, 40), (50, 10, 75, 50)], [0, 1])
    source = scene(120, [(10, 10, 30, 30), (45, 20, 70, 45), (35, 48, 45, 58)], [2, 2, 1])
    for seed in range(20):
        mixed = copy_paste(target, source, 2, None, np.random.default_rng(seed))
        assert mixed.classes is not None and (mixed.classes[:4] == [0, 1, 2, 2]).all()
        masks = mixed.layers().masks().astype(bool)
        assert masks.sum(axis=0).max() == 1, "a pixel belongs to what is seen there"
        covered = masks[2:].any(axis=0)
        before = target.layers().masks().astype(bool)
        assert (masks[:2] == before & ~covered).all()
        assert (mixed.image[~covered] == target.image[~covered]).all()
        assert (mixed.image[covered] > 110).mean() > 0.95  # the source's values; its edges are interpolated with 120


def test_crowd_regions_are_not_pasted() -> None:
    source = scene(120, [(10, 10, 30, 30), (45, 20, 70, 45)], [2, 1])
    source = Sample(source.image, source.labels, source.classes, np.array([True, False]))
    for seed in range(10):
        mixed = copy_paste(scene(20, [(5, 5, 40, 40)], [0]), source, None, None, np.random.default_rng(seed))
        assert mixed.classes is not None and 2 not in mixed.classes


def test_objects_that_share_pixels_are_pasted_together() -> None:
    layers = ObjectLayers.of(np.stack([np.eye(8, k=k) + np.eye(8, k=k + 1) for k in (-6, -5, 0, 5)]).astype(np.uint8))
    chain = np.array([True, False, False, False])  # 0 and 1 share the diagonal of k = -5
    assert with_overlapping(chain, layers.labels).tolist() == [True, True, False, False]
    assert with_overlapping(np.array([False, False, True, False]), layers.labels).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_semantic_copy_paste_takes_connected_parts_but_not_the_ground() -> None:
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[10:20, 10:20] = label[10:20, 50:60] = label[40:50, 30:40] = 1
    target = flat(10, np.full((HEIGHT, WIDTH), 3))
    counts = []
    for seed in range(40):
        mixed = copy_paste(target, flat(200, label), None, 0, np.random.default_rng(seed))
        assert set(np.unique(mixed.labels)) <= {1, 3}
        counts.append((mixed.labels[0] == 1).sum() / 100)
    assert 0.5 < np.mean(counts) < 2.0  # three parts of 100 px, each with probability 1/2, some scaled or out of view


def test_a_mosaic_holds_a_part_of_each_image_at_its_own_scale() -> None:
    samples = [scene(value, [(20, 20, 40, 40)], [index]) for index, value in enumerate((20, 80, 140, 200))]
    for seed in range(20):
        mixed = mosaic(samples, np.random.default_rng(seed))
        assert mixed.image.shape == (HEIGHT, WIDTH, 3) and mixed.classes is not None
        assert mixed.classes.tolist() == [0, 1, 2, 3]
        corners = mixed.image[[0, 0, -1, -1], [0, -1, 0, -1], 0] // 60
        assert corners.tolist() == [0, 1, 2, 3]
        for index, mask in enumerate(mixed.layers().masks().astype(bool)):
            assert (mixed.image[mask] == (20, 80, 140, 200)[index] + 10).all()
            rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
            assert rows <= 20 and columns <= 20 and mask.sum() == rows * columns


@pytest.mark.parametrize("size", [(30, 100), (100, 30), (60, 80), (10, 10), (200, 200)])
def test_a_sample_is_cropped_and_padded_to_a_size(size: tuple[int, int]) -> None:
    label = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 200
    sample = Sample(np.repeat(label[..., None], 3, axis=2).astype(np.uint8), label.astype(np.uint8)[None])
    found = fitted(sample, size, np.random.default_rng(0))
    known = found.labels[0] != IGNORED
    assert found.image.shape[:2] == size and known.sum() == min(HEIGHT, size[0]) * min(WIDTH, size[1])
    assert (found.image[known][:, 0] == found.labels[0][known]).all() and (found.image[~known] == 0).all()
