"""Fused masks against a plain numpy vote, and run lengths against pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ensembling.masks import fuse_masks
from ensembling.run_lengths import rles_of, runs_of
from segdata.errors import InputError
from segdata.rle import Rle, rle_area, rle_bbox, rle_encode, rle_from_counts


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
    runs = runs_of(rles)
    assert rles_of(runs) == rles
    areas, boxes = runs.outlines()
    assert areas.tolist() == [rle_area(rle) for rle in rles]
    for rle, (x1, y1, x2, y2) in zip(rles, boxes, strict=True):
        assert rle_bbox(rle) == (x1, y1, x2 - x1, y2 - y1)


def test_run_lengths_of_large_masks() -> None:
    mask_HW = np.zeros((3000, 4000), dtype=np.bool_)
    mask_HW[2999, 3999] = True
    mask_HW[1000:2500, 5:3000] = True
    rles = [rle_encode(mask_HW), rle_encode(~mask_HW)]
    assert rles_of(runs_of(rles)) == rles


def test_runs_of_no_length_are_joined_or_passed_over() -> None:
    """Other tools write masks with empty runs: 2 background, 3 + 0 + 2 foreground, 1 background, 0, 4 background."""
    runs = runs_of([rle_from_counts([2, 3, 0, 2, 1, 0, 4], 4, 3)])
    assert (runs.starts.tolist(), runs.ends.tolist()) == ([2], [7])


def test_a_run_over_several_columns_reaches_from_top_to_bottom() -> None:
    rle = rle_from_counts([3, 6, 3], 4, 3)  # the last pixel of column 0, all of column 1, the first of column 2
    _, boxes = runs_of([rle]).outlines()
    assert boxes.tolist() == [[0, 0, 3, 4]]


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
