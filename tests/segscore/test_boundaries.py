"""Boundaries: cases small enough to count, and the definition itself, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.rle import rle_area, rle_bbox, rle_crop, rle_encode
from segscore import SemanticAccumulator, score_instance_results
from segscore.boundaries import boundary_counts, boundary_width
from segscore.overlaps import Kind

SIZE = 100  # the diagonal is 141.4, so boundaries are 3 pixels deep


def square(left: int, top: int, side: int) -> np.ndarray:
    mask_HW = np.zeros((SIZE, SIZE), dtype=bool)
    mask_HW[top : top + side, left : left + side] = True
    return mask_HW


def boundary_by_distance(mask_HW: np.ndarray, counted_HW: np.ndarray) -> np.ndarray:
    """The definition: counted pixels of the mask with the image's edge or a counted pixel outside within the width."""
    width = boundary_width(*mask_HW.shape)
    outside = np.pad(counted_HW & ~mask_HW, width, constant_values=True)
    near_HW = np.zeros_like(mask_HW)
    for row in range(mask_HW.shape[0]):
        for column in range(mask_HW.shape[1]):
            near_HW[row, column] = outside[row : row + 2 * width + 1, column : column + 2 * width + 1].any()
    return near_HW & mask_HW & counted_HW


def boundary_ap(true_HW: np.ndarray, found_HW: np.ndarray) -> dict[str, float]:
    """AP of one object and one detection by the kinds of overlap."""
    return ap_of([(true_HW, False)], [(found_HW, 0.9)])


def ap_of(masks: list[tuple[np.ndarray, bool]], found: list[tuple[np.ndarray, float]]) -> dict[str, float]:
    """AP of objects, some of them crowds, and detections with their confidences."""
    rles = [(rle_encode(mask_HW), crowd) for mask_HW, crowd in masks]
    objects = tuple(
        ObjectRecord(number, 1, 1, rle, rle_bbox(rle), float(rle_area(rle)), crowd)
        for number, (rle, crowd) in enumerate(rles)
    )
    truth = InstanceDataset((ImageRecord(1, "a.png", SIZE, SIZE),), (Category(1, "bag"),), objects)
    results = [
        {"image_id": 1, "category_id": 1, "score": confidence, "segmentation": rle_encode(mask_HW).to_coco()}
        for mask_HW, confidence in found
    ]
    kinds: tuple[Kind, ...] = ("segm", "boundary")
    return {kind: score_instance_results(truth, results, kind=kind).ap for kind in kinds}


@pytest.mark.parametrize(("size", "width"), [((100, 100), 3), ((480, 640), 16), ((1024, 1280), 33), ((8, 8), 1)])
def test_the_width_is_a_fiftieth_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert boundary_width(*size) == width  # 2.83, 16.0, 32.8, and at least one pixel


def test_a_shifted_square_counted_by_hand() -> None:
    # Squares of side 40, one shifted by 2: masks share 38 x 40 = 1520 of 1680 pixels, IoU 0.905.
    # Rings of depth 3 hold 40^2 - 34^2 = 444 pixels each. They share what both masks share, 1520, less the union of
    # the two insides, 34 x (34 + 2) = 1224: 296 pixels. So boundary IoU is 296 / (888 - 296) = 0.5.
    found = boundary_ap(square(20, 20, 40), square(22, 20, 40))
    assert found["segm"] == pytest.approx(0.9)  # right at 0.50 to 0.90
    assert found["boundary"] == pytest.approx(0.1)  # right at 0.50 only


def test_the_smaller_of_both_counts() -> None:
    # A hole of 11 x 11 in the middle of the object keeps boundary IoU high where mask IoU is lower, and the other way
    # round: the outer ring of 276 pixels is shared, the ring of the hole, 17^2 - 11^2 = 168 pixels, is not.
    true_HW = square(10, 10, 26)
    found_HW = true_HW.copy()
    found_HW[18:29, 18:29] = False
    mask_iou, boundary_iou = (676 - 121) / 676, 276 / (276 + 168)
    assert found_at(min(mask_iou, boundary_iou)) == boundary_ap(true_HW, found_HW)["boundary"]
    # A shape of three pixels' thickness is its own boundary: both are the same.
    thin_HW = square(10, 10, 6)
    assert boundary_ap(thin_HW, square(11, 10, 6)) == {"segm": found_at(30 / 42), "boundary": found_at(30 / 42)}


def found_at(iou: float) -> float:
    return pytest.approx(sum(iou >= 0.5 + 0.05 * step - 1e-9 for step in range(10)) / 10)  # type: ignore[no-any-return]


def test_the_images_edge_is_a_boundary() -> None:
    # The same square at the corner: its ring is whole, 40^2 - 34^2, though two sides lie on the image's edge.
    true_HW = square(0, 0, 40)
    assert boundary_by_distance(true_HW, np.ones_like(true_HW)).sum() == 444
    assert boundary_ap(true_HW, square(2, 0, 40))["boundary"] == pytest.approx(0.1)


def test_crops_are_what_lies_in_the_box() -> None:
    mask_HW = square(30, 60, 7)
    mask_HW[62, 33] = False
    crop_HW, left, top = rle_crop(rle_encode(mask_HW))
    assert (left, top, crop_HW.shape) == (30, 60, (7, 7))
    np.testing.assert_array_equal(crop_HW, mask_HW[60:67, 30:37])
    assert rle_crop(rle_encode(np.zeros((5, 6), bool)))[0].size == 0


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(max_examples=100, deadline=None)
def test_crops_are_the_mask_within_its_box(mask_HW: np.ndarray) -> None:
    crop_HW, left, top = rle_crop(rle_encode(mask_HW))
    drawn_HW = np.zeros_like(mask_HW)
    drawn_HW[top : top + crop_HW.shape[0], left : left + crop_HW.shape[1]] = crop_HW
    np.testing.assert_array_equal(drawn_HW, mask_HW)


LABELS = hnp.arrays(np.uint8, (70, 9), elements=st.sampled_from([0, 0, 0, 1, 2]), fill=st.just(np.uint8(1)))
TRUTH = hnp.arrays(np.uint8, (70, 9), elements=st.sampled_from([0, 1, 2, 255, 255]), fill=st.just(np.uint8(1)))


@given(TRUTH, LABELS)
@settings(max_examples=25, deadline=None)
def test_classes_of_label_maps_follow_the_definition(true_HW: np.ndarray, found_HW: np.ndarray) -> None:
    counts_3C = boundary_counts(true_HW, found_HW, 3)
    counted_HW = true_HW != 255
    for index in range(3):
        truth, found = (boundary_by_distance(label_HW == index, counted_HW) for label_HW in (true_HW, found_HW))
        assert counts_3C[:, index].tolist() == [int((truth & found).sum()), int(truth.sum()), int(found.sum())]


def test_boundary_iou_of_classes_is_counted_over_the_data_set() -> None:
    accumulator = SemanticAccumulator(("background", "bag"), boundaries=True)
    true_HW = square(20, 20, 40).astype(np.uint8)
    accumulator.add(true_HW, square(22, 20, 40).astype(np.uint8))
    accumulator.add(true_HW, true_HW)
    # bag: 296 of 592 in the first image, 444 of 444 in the second
    bag = (296 + 444) / (592 + 444)
    outer_HW = ~square(20, 20, 40), ~square(22, 20, 40)
    one, other = (boundary_by_distance(mask_HW, np.ones_like(mask_HW)) for mask_HW in outer_HW)
    background = ((one & other).sum() + one.sum()) / ((one | other).sum() + one.sum())
    assert accumulator.scores().boundary_iou == pytest.approx((bag + background) / 2, abs=1e-15)


def test_a_crowd_is_matched_by_its_mask() -> None:
    # A detection within a crowd is neither right nor wrong, however far its outline is from the crowd's.
    masks = [(square(10, 10, 60), True), (square(80, 80, 15), False)]
    found = [(square(30, 30, 10), 0.9), (square(80, 80, 15), 0.5)]
    assert ap_of(masks, found) == {"segm": 1.0, "boundary": 1.0}
