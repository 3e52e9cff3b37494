"""Fused masks against a plain numpy vote, and run lengths against pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ensembling.masks import fuse_masks
from ensembling.run_lengths import boundaries_of, rles_of
from segdata.errors import InputError
from segdata.rle import Rle, rle_encode


def voted(masks_NHW: np.ndarray, votes_N: np.ndarray, threshold: float) -> np.ndarray:
    """The vote as its definition reads."""
    share_HW = np.tensordot(votes_N, masks_NHW.astype(float), 1) / votes_N.sum()
    result: np.ndarray = share_HW >= threshold - 1e-9
    return result


stacks = st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 8)).flatmap(
    lambda shape: hnp.arrays(np.bool_, shape)
)


@given(stacks)
@settings(max_examples=100, deadline=None)
def test_run_lengths_are_read_and_written_as_pycocotools_does(masks_NHW: np.ndarray) -> None:
    rles = [rle_encode(mask_HW) for mask_HW in masks_NHW]
    bounds = boundaries_of(rles)
    height, width = masks_NHW.shape[1:]
    inside = ~(bounds.rises & (bounds.positions == height * width))
    positions, masks = bounds.positions[inside], bounds.masks[inside]
    # a mask that starts with foreground has an empty first run; both boundaries are at 0 only for the rise
    assert rles_of(positions, masks, len(rles), height=height, width=width) == rles


def test_run_lengths_of_large_masks() -> None:
    mask_HW = np.zeros((3000, 4000), dtype=np.bool_)
    mask_HW[2999, 3999] = True
    mask_HW[1000:2500, 5:3000] = True
    rles = [rle_encode(mask_HW), rle_encode(~mask_HW)]
    bounds = boundaries_of(rles)
    inside = ~(bounds.rises & (bounds.positions == mask_HW.size))
    assert rles_of(bounds.positions[inside], bounds.masks[inside], 2, height=3000, width=4000) == rles


@given(stacks, st.data())
@settings(max_examples=150, deadline=None)
def test_fused_masks_equal_a_vote_on_pixels(masks_NHW: np.ndarray, data: st.DataObject) -> None:
    count = len(masks_NHW)
    votes_N = np.array(data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, 1.0]), min_size=count, max_size=count)))
    cluster_N = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count)))
    threshold = data.draw(st.sampled_from([0.25, 0.5, 0.75, 1.0]))
    rles = [rle_encode(mask_HW) for mask_HW in masks_NHW]
    fused = fuse_masks(rles, cluster_N, votes_N, 3, mask_threshold=threshold)
    for cluster in range(3):
        chosen = np.flatnonzero(cluster_N == cluster)
        if len(chosen) == 1:
            assert fused[cluster] is rles[chosen[0]]
        elif len(chosen):
            expected_HW = voted(masks_NHW[chosen], votes_N[chosen], threshold)
            assert fused[cluster] == (rle_encode(expected_HW) if expected_HW.any() else None)
        else:
            assert fused[cluster] is None


def block(start: int, stop: int) -> np.ndarray:
    mask_HW = np.zeros((12, 12), dtype=np.bool_)
    mask_HW[start:stop, start:stop] = True
    return mask_HW


def square(start: int, stop: int) -> Rle:
    return rle_encode(block(start, stop))


def test_a_pixel_with_exactly_half_of_the_votes_is_foreground() -> None:
    fused = fuse_masks([square(0, 6), square(4, 10)], np.array([0, 0]), np.array([0.4, 0.4]), 1)
    assert fused == [rle_encode(block(0, 6) | block(4, 10))]


def test_a_tie_is_foreground_though_sums_of_floats_differ() -> None:
    # 0.1 + 0.2 against 0.3
    fused = fuse_masks([square(0, 6)] * 2 + [square(6, 12)], np.zeros(3, int), np.array([0.1, 0.2, 0.3]), 1)
    assert fused == [rle_encode(block(0, 6) | block(6, 12))]


def test_the_heavier_member_decides() -> None:
    fused = fuse_masks([square(0, 6), square(0, 3)], np.array([0, 0]), np.array([1.0, 2.0]), 1)
    assert fused == [square(0, 3)]


def test_masks_that_share_too_little_give_none() -> None:
    fused = fuse_masks([square(0, 3), square(4, 6), square(7, 9)], np.zeros(3, int), np.ones(3), 1)
    assert fused == [None]


def test_masks_of_different_sizes_are_refused() -> None:
    other = rle_encode(np.ones((12, 13), dtype=np.bool_))
    with pytest.raises(InputError, match="expected masks of one size in an image"):
        fuse_masks([square(0, 3), other], np.array([0, 0]), np.ones(2), 1)


def test_no_masks_give_none() -> None:
    assert fuse_masks([], np.zeros(0, np.int64), np.zeros(0), 0) == []
