"""Views: what they are called, and that what is found in one comes back to where it is in the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segdata.predictions import ImageInstances
from segdata.rle import rle_bbox, rle_decode, rle_encode, rle_of_crop
from segdata.views import PLAIN, View

MOVES = ("plain", "hflip", "vflip", "rot90", "rot180", "rot270", "hflip+rot90", "hflip+rot270")
NUMPY = {"hflip": np.fliplr, "vflip": np.flipud, "rot90": lambda a: np.rot90(a, -1), "rot180": lambda a: np.rot90(a, 2)}

moves = st.sampled_from(MOVES).map(View.parse)
sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@pytest.mark.parametrize("word", NUMPY)
def test_a_word_does_what_numpy_does(word: str) -> None:
    image = np.arange(5 * 3 * 3).reshape(5, 3, 3)
    np.testing.assert_array_equal(View.parse(word).of_image(image), NUMPY[word](image))


def test_a_quarter_turn_is_clockwise() -> None:
    image = np.array([[1, 2], [3, 4]])[:, :, None]
    assert View.parse("rot90").of_image(image)[:, :, 0].tolist() == [[3, 1], [4, 2]]
    assert View.parse("rot270").of_image(image)[:, :, 0].tolist() == [[2, 4], [1, 3]]


@given(st.permutations(["hflip", "vflip", "rot90"]), st.integers(1, 3))
def test_words_act_from_left_to_right(words: list[str], count: int) -> None:
    image = expected = np.arange(4 * 3).reshape(4, 3, 1)
    for word in words[:count]:
        expected = NUMPY[word](expected)
    np.testing.assert_array_equal(View.parse("+".join(words[:count])).of_image(image), expected)


def test_eight_ways_to_lie_have_one_name_each() -> None:
    views = [View.parse(name) for name in MOVES]
    assert len(set(views)) == 8 and [str(view) for view in views] == list(MOVES)
    assert View.parse("hflip+vflip") == View.parse("rot180")
    assert View.parse("rot90+hflip") == View.parse("hflip+rot270")


@given(moves, st.integers(125, 8000), st.none() | st.integers(32, 999_999))
def test_a_views_name_is_read_back_as_the_view(view: View, thousandths: int, window_px: int | None) -> None:
    whole = View(view.flipped, view.quarter_turns, thousandths / 1000, window_px)
    assert View.parse(str(whole)) == whole


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("scale1.25+rot90", "rot90+scale1.25"),
        ("window64+scale2+vflip", "vflip+scale2+window64"),
        ("scale1", "plain"),
        ("scale1.0", "plain"),
        ("hflip+rot180", "vflip"),
    ],
)
def test_a_view_has_one_form(text: str, name: str) -> None:
    assert str(View.parse(text)) == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected plain, or words of hflip, vflip, .* joined by \\+, but got ''"),
        ("hflop", "expected plain, or words of .*, but got 'hflop'$"),
        ("hflip+rot45", "expected plain, or words of .*, but got 'rot45' in 'hflip\\+rot45'"),
        ("plain+hflip", "but got 'plain' in"),
        ("hflip+hflip", "expected each of flips, turn, scale and window once in a view, but got 'hflip\\+hflip'"),
        ("rot90+rot180", "once in a view"),
        ("scale0", "expected a scale from 0.125 to 8, but got 'scale0'"),
        ("scale50", "expected a scale from 0.125 to 8, but got 'scale50'"),
        ("scale", "but got 'scale'"),
        ("scale-1", "but got 'scale-1'"),
        ("scalenan", "but got 'scalenan'"),
        ("window31", "expected windows of at least 32 px, but got 'window31'"),
        ("window64.5", "but got 'window64.5'"),
        ("HFLIP", "but got 'HFLIP'"),
    ],
)
def test_what_is_no_view_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        View.parse(text)


@given(moves, sizes, st.integers(1, 3))
def test_planes_come_back_to_the_bit(view: View, size: tuple[int, int], classes: int) -> None:
    planes = np.random.default_rng(0).random((classes, *size), dtype=np.float32)
    seen = np.stack([view.of_image(plane[:, :, None])[:, :, 0] for plane in planes])
    assert seen.shape[1:] == view.size(size[1], size[0])[::-1]
    np.testing.assert_array_equal(view.back_planes(seen), planes)


@given(moves, hnp.arrays(np.bool_, st.tuples(st.integers(0, 4), st.integers(1, 12), st.integers(1, 12))))
def test_objects_come_back_to_the_pixel(view: View, masks_NHW: np.ndarray) -> None:
    _, height, width = masks_NHW.shape
    seen_Nhw = np.zeros((len(masks_NHW), *view.size(width, height)[::-1]), dtype=np.bool_)
    for seen_hw, mask_HW in zip(seen_Nhw, masks_NHW, strict=True):
        seen_hw[:] = moved(view, mask_HW)
    original = objects(masks_NHW)
    found = view.back_instances(objects(seen_Nhw), width, height)
    assert found.rles == original.rles
    filled = masks_NHW.any(axis=(1, 2))
    np.testing.assert_array_equal(found.boxes_xyxy[filled], original.boxes_xyxy[filled])
    np.testing.assert_array_equal(found.confidences, original.confidences)
    np.testing.assert_array_equal(found.classes, original.classes)
    assert found.boxes_xyxy.dtype == np.float32


def moved(view: View, mask_HW: np.ndarray) -> np.ndarray:
    return view.of_image(mask_HW[:, :, None])[:, :, 0]


def objects(masks_NHW: np.ndarray) -> ImageInstances:
    """Objects whose boxes are those of their masks; one without a pixel has no box of its own to come back."""
    rles = tuple(map(rle_encode, masks_NHW))
    boxes = np.array([rle_bbox(rle) for rle in rles], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    count = len(rles)
    return ImageInstances.of(boxes, np.linspace(0.1, 0.9, count), np.arange(count), rles)


@given(moves, sizes, st.lists(st.tuples(*[st.floats(0, 24, width=32)] * 4), max_size=3))
def test_boxes_come_back_to_the_rounding_of_float32(view: View, size: tuple[int, int], corners: list[tuple]) -> None:
    """Also those that lie between pixels or outside the image: against points moved one by one."""
    width, height = size
    boxes = np.array([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners], dtype=np.float32)
    empty = rle_encode(np.zeros(view.size(width, height)[::-1], dtype=np.bool_))
    found = view.back_instances(
        ImageInstances.of(boxes, [0.5] * len(corners), [0] * len(corners), (empty,) * len(corners)), width, height
    )
    for before, after in zip(boxes.reshape(-1, 4), found.boxes_xyxy, strict=True):
        ends = [back_point(view, x, y, width, height) for x, y in (before[:2], before[2:])]
        (x0, x1), (y0, y1) = (sorted(side) for side in zip(*ends, strict=True))
        np.testing.assert_allclose(after, (x0, y0, x1, y1), atol=1e-5)


def back_point(view: View, x: float, y: float, width: int, height: int) -> tuple[float, float]:
    """The point of the image that the view shows at (x, y): each quarter turn shows (x, y) at (height - y, x)."""
    steps = [(width, height), (height, width)] * 2
    for turn in reversed(range(view.quarter_turns)):
        x, y = y, steps[turn][1] - x
    return (width - x, y) if view.flipped else (x, y)


def test_a_plain_view_hands_on_what_it_got() -> None:
    found = objects(np.ones((1, 3, 4), dtype=np.bool_))
    assert View.parse("scale2").back_instances(found, 4, 3) is found and str(PLAIN) == "plain"


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(0, 4), st.integers(0, 4))
def test_a_cropped_mask_is_encoded_as_if_it_was_drawn(mask: np.ndarray, x0: int, y0: int) -> None:
    whole = np.zeros((y0 + mask.shape[0] + 2, x0 + mask.shape[1]), dtype=np.bool_)
    whole[y0 : y0 + mask.shape[0], x0:] = mask
    rle = rle_of_crop(mask, x0, y0, whole.shape[1], whole.shape[0])
    assert rle == rle_encode(whole)
    np.testing.assert_array_equal(rle_decode(rle), whole)
