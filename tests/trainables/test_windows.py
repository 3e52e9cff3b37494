"""Windows: what they cover, probabilities without seams, and objects that come out once and whole.

The stand-in predictor returns the truth seen through a window, so that merging must return exactly the truth.
"""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import find_objects
from scipy.ndimage import label as parts_of
from scipy.spatial import cKDTree

from segdata.predictions import ImageInstances
from segdata.rle import rle_encode, rle_of_crop
from trainables.window_merge import Piece, merge, pieces_of
from trainables.windows import Window, blend, grid, starts

Labels = npt.NDArray[np.int64]


@given(st.integers(1, 400), st.integers(2, 120), st.data())
def test_every_stretch_of_the_overlap_lies_whole_in_a_window(length: int, side: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, side - 1))
    found = starts(length, side, overlap)
    assert found[0] == 0 and list(found) == sorted(set(found))
    if length <= side:
        assert found == (0,)
        return
    assert found[-1] + side == length
    for begin in range(length - overlap + 1):
        assert any(start <= begin and begin + overlap <= start + side for start in found)


def test_windows_are_as_few_as_the_overlap_allows() -> None:
    assert starts(1000, 512, 128) == (0, 244, 488)
    assert starts(512, 512, 128) == (0,)
    assert starts(896, 512, 128) == (0, 384)
    assert len(grid(1000, 600, 512, 512, 0.25)) == 6
    assert grid(100, 600, 512, 512, 0.25)[-1] == Window(0, 88, 100, 600)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(2, 60), st.integers(2, 60), st.floats(0, 0.9), st.integers(0, 9)
)
def test_probabilities_seen_through_windows_come_back(
    width: int, height: int, side_x: int, side_y: int, overlap: float, seed: int
) -> None:
    prob_CHW = np.random.default_rng(seed).dirichlet(np.ones(3), (height, width)).transpose(2, 0, 1).astype(np.float32)
    windows = grid(width, height, side_x, side_y, overlap)
    views = ((w, prob_CHW[:, w.y0 : w.y1, w.x0 : w.x1]) for w in windows)
    bands = list(blend(views, width, windows))
    np.testing.assert_allclose(np.concatenate(bands, axis=1), prob_CHW, atol=1e-6)


def test_one_window_changes_no_bit() -> None:
    prob_CHW = np.random.default_rng(1).random((4, 30, 50), dtype=np.float32)
    (band,) = blend([(Window(0, 0, 50, 30), prob_CHW)], 50, [Window(0, 0, 50, 30)])
    np.testing.assert_array_equal(band, prob_CHW)


def test_windows_that_disagree_meet_without_a_seam() -> None:
    windows = grid(150, 100, 100, 100, 0.5)
    views = [(window, np.full((1, 100, 100), float(value))) for window, value in zip(windows, (0, 1), strict=True)]
    (band,) = blend(views, 150, windows)
    assert windows[1].x0 == 50
    steps = np.abs(np.diff(band[0, 0]))
    assert steps.max() <= 1 / 50 + 0.01, "the change is spread over the overlap"
    assert band[0, 0, 49] == 0 and band[0, 0, 100] == 1


def cells(size: int, count: int, radius: int, seed: int, classes: int = 2) -> tuple[Labels, npt.NDArray[np.int64]]:
    """Draws touching connected objects, at most 2 radius + 1 pixels wide and high: Voronoi cells cut to squares."""
    rng = np.random.default_rng(seed)
    points = rng.choice(size * size, count, replace=False)
    centres = np.stack([points // size, points % size], axis=1)
    yx = np.stack(np.mgrid[:size, :size], axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(centres).query(yx)
    label = np.where(distance <= radius, nearest, -1).reshape(size, size)
    return label, rng.integers(0, classes, count)


def connected(label_HW: Labels) -> Labels:
    """Keeps of each object the largest part that hangs together by edges."""
    kept = np.full_like(label_HW, -1)
    for index, box in enumerate(find_objects(label_HW + 1)):
        if box is None:
            continue
        parts, count = parts_of(label_HW[box] == index)
        largest = 1 + np.argmax([(parts == number).sum() for number in range(1, count + 1)])
        kept[box][parts == largest] = index
    return kept


def seen(label_HW: Labels, classes: npt.NDArray[np.int64], window: Window) -> ImageInstances:
    """A perfect predictor: the objects of the truth as far as the window shows them."""
    view = label_HW[window.y0 : window.y1, window.x0 : window.x1]
    boxes = {number: box for number, box in enumerate(find_objects(view + 1)) if box is not None}
    rles = tuple(
        rle_of_crop(view[box] == number, box[1].start, box[0].start, window.width, window.height)
        for number, box in boxes.items()
    )
    corners = [(box[1].start, box[0].start, box[1].stop, box[0].stop) for box in boxes.values()]
    return ImageInstances.of(corners, np.ones(len(boxes)), classes[list(boxes)] if boxes else [], rles)


def through_windows(
    label_HW: Labels, classes: npt.NDArray[np.int64], side: int, overlap: float
) -> tuple[set[object], set[object]]:
    height, width = label_HW.shape
    windows = grid(width, height, side, side, overlap)
    pieces: list[Piece] = []
    for number, window in enumerate(windows):
        pieces += pieces_of(number, window, seen(label_HW, classes, window), width, height)
    merged = merge(pieces, windows, width, height)
    whole = seen(label_HW, classes, Window(0, 0, width, height))
    assert len(merged) == len(whole)
    return as_set(merged), as_set(whole)


def as_set(found: ImageInstances) -> set[object]:
    columns = zip(found.boxes_xyxy.tolist(), found.confidences.tolist(), found.classes.tolist(), strict=True)
    return {(*box, *rest, rle.counts) for (box, *rest), rle in zip(columns, found.rles, strict=True)}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(0, 60), st.floats(0, 1))
def test_touching_objects_no_larger_than_the_overlap_come_back_exactly(
    seed: int, radius: int, wider: int, more: float
) -> None:
    label_HW, classes = cells(120, 80, radius, seed)
    side = 4 * radius + wider
    least = (2 * radius + 1) / side
    merged, truth = through_windows(connected(label_HW), classes, side, least + more * max(0.0, 0.7 - least))
    assert merged == truth


@pytest.mark.parametrize(("side", "overlap"), [(512, 0.25), (256, 0.1), (999, 0.05)])
def test_hundreds_of_tiny_touching_objects_in_a_large_image_come_back_exactly(side: int, overlap: float) -> None:
    label_HW, classes = cells(1000, 900, 12, seed=side)
    merged, truth = through_windows(connected(label_HW), classes, side, overlap)
    assert len(truth) > 850
    assert merged == truth


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(30, 70), st.floats(0.1, 0.6))
def test_objects_larger_than_the_overlap_are_joined(seed: int, side: int, overlap: float) -> None:
    label_HW, classes = cells(160, 12, 60, seed)
    merged, truth = through_windows(connected(label_HW), classes, side, overlap)
    assert merged == truth


def piece(window: int, at: tuple[int, int, int, int], cut: bool, confidence: float, class_index: int = 0) -> Piece:
    x0, y0, x1, y1 = at
    mask = np.ones((y1 - y0, x1 - x0), dtype=np.bool_)
    return Piece(window, mask, x0, y0, cut, (x0, y0, x1, y1), confidence, class_index)


WINDOWS = grid(150, 100, 100, 100, 0.5)


def test_a_cut_object_loses_to_its_whole_twin_however_confident() -> None:
    cut, whole = piece(0, (80, 10, 100, 20), True, 0.99), piece(1, (80, 10, 110, 20), False, 0.4)
    merged = merge([cut, whole], WINDOWS, 150, 100)
    assert merged.confidences.tolist() == pytest.approx([0.4]) and merged.boxes_xyxy.tolist() == [[80, 10, 110, 20]]


def test_of_whole_twins_the_more_confident_wins() -> None:
    twins = [piece(0, (60, 10, 80, 20), False, 0.6), piece(1, (60, 10, 81, 20), False, 0.7)]
    assert merge(twins, WINDOWS, 150, 100).boxes_xyxy.tolist() == [[60, 10, 81, 20]]


def test_classes_stay_apart() -> None:
    twins = [piece(0, (65, 10, 85, 20), False, 0.6, 0), piece(1, (65, 10, 85, 20), False, 0.7, 1)]
    assert merge(twins, WINDOWS, 150, 100).classes.tolist() == [1, 0]


def test_a_second_fragment_of_a_whole_object_is_dropped() -> None:
    fragments = [piece(0, (80, 10, 98, 20), True, 0.9), piece(0, (98, 10, 100, 20), True, 0.3)]
    merged = merge([*fragments, piece(1, (80, 10, 110, 20), False, 0.8)], WINDOWS, 150, 100)
    assert merged.boxes_xyxy.tolist() == [[80, 10, 110, 20]]


def test_neighbours_in_one_window_never_become_one() -> None:
    apart = [piece(0, (60, 10, 70, 20), False, 0.9), piece(0, (70, 10, 80, 20), False, 0.8)]
    joined = piece(1, (60, 10, 80, 20), False, 0.7)
    assert len(merge([*apart, joined], WINDOWS, 150, 100)) == 2


def test_of_two_windows_that_hold_an_object_whole_the_one_that_sees_it_deeper_decides() -> None:
    deeper_in_the_other = piece(1, (55, 10, 75, 20), False, 0.9)
    assert len(merge([deeper_in_the_other], WINDOWS, 150, 100)) == 0
    deepest_here = piece(1, (80, 10, 95, 20), False, 0.2)
    assert len(merge([deepest_here], WINDOWS, 150, 100)) == 1
    both = [piece(0, (55, 10, 75, 20), False, 0.3), deeper_in_the_other]
    assert merge(both, WINDOWS, 150, 100).confidences.tolist() == pytest.approx([0.9])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_a_cropped_mask_encodes_as_the_whole_one(height: int, width: int, data: st.DataObject) -> None:
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    h, w = data.draw(st.integers(1, height - y0)), data.draw(st.integers(1, width - x0))
    crop = np.array(data.draw(st.lists(st.booleans(), min_size=h * w, max_size=h * w))).reshape(h, w)
    crop[0, 0] = True
    whole = np.zeros((height, width), dtype=np.bool_)
    whole[y0 : y0 + h, x0 : x0 + w] = crop
    assert rle_of_crop(crop, x0, y0, width, height) == rle_encode(whole)
