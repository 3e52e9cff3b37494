"""Run-length masks against pycocotools, the reference implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from segdata.errors import DatasetError
from segdata.rle import rle_area, rle_bbox, rle_decode, rle_encode, rle_from_counts, rle_from_polygons, rle_iou

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70))


def runs_of(mask_HW: np.ndarray) -> list[int]:
    """Column-major run lengths, starting with zeros: the definition, written out."""
    runs, value, length = [], False, 0
    for pixel in mask_HW.ravel(order="F").tolist():
        if pixel == value:
            length += 1
        else:
            runs.append(length)
            value, length = pixel, 1
    return [*runs, length]


@given(masks)
def test_decoding_gives_back_what_was_encoded(mask_HW):
    rle = rle_encode(mask_HW)
    decoded = rle_decode(rle)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask_HW)
    assert rle_area(rle) == mask_HW.sum()


@given(masks)
def test_uncompressed_and_compressed_counts_of_one_mask_are_the_same_rle(mask_HW):
    height, width = mask_HW.shape
    compressed = coco_mask.encode(np.asfortranarray(mask_HW, dtype=np.uint8))["counts"].decode()
    assert rle_from_counts(runs_of(mask_HW), height, width) == rle_from_counts(compressed, height, width)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_text_as_counts_is_refused_or_decodes_safely(counts):
    try:
        rle = rle_from_counts(counts, 5, 7)
    except DatasetError:
        return
    assert rle_decode(rle).shape == (5, 7)


@pytest.mark.parametrize("counts", ["", "o", "zz", "é", [3], [40], [], "1" * 3, "ooooooooooooooo0"])
def test_counts_that_do_not_cover_the_mask_are_refused(counts):
    with pytest.raises(DatasetError, match="expected (compressed RLE counts|run lengths that add up to 5x7 = 35)"):
        rle_from_counts(counts, 5, 7)


def test_polygons_are_drawn_as_pycocotools_draws_them():
    polygons = ((1.0, 1.0, 8.5, 1.0, 8.5, 6.0), (10.0, 10.0, 14.0, 10.0, 14.0, 14.0, 10.0, 14.0))
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([list(p) for p in polygons], 16, 20)))
    np.testing.assert_array_equal(rle_decode(rle_from_polygons(polygons, 16, 20)), expected.astype(bool))
    assert rle_area(rle_from_polygons(polygons[1:], 16, 20)) == 16  # the 4x4 square


def test_box_is_xywh_of_the_pixels():
    mask_HW = np.zeros((10, 12), dtype=bool)
    mask_HW[2:5, 3:10] = True
    assert rle_bbox(rle_encode(mask_HW)) == (3.0, 2.0, 7.0, 3.0)
    assert rle_bbox(rle_encode(np.zeros((10, 12), dtype=bool))) == (0.0, 0.0, 0.0, 0.0)


def test_iou_is_intersection_over_union_and_zero_for_empty_masks():
    first, second = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    first[:, :2], second[:, 1:3] = True, True
    empty = rle_encode(np.zeros((4, 4), dtype=bool))
    iou = rle_iou([rle_encode(first), empty], [rle_encode(second), empty])
    np.testing.assert_allclose(iou, [[4 / 12, 0], [0, 0]])
    assert rle_iou([], [empty]).shape == (0, 1)


def test_a_mask_of_three_dimensions_is_refused():
    with pytest.raises(ValueError, match=r"expected a mask of shape \(H, W\)"):
        rle_encode(np.zeros((2, 3, 4), dtype=bool))
