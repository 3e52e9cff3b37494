"""All instance methods: equal to plain numpy, equal to ensemble_boxes, and what may not change their results."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from ensemble_boxes import nms as hard_nms
from ensemble_boxes import non_maximum_weighted, soft_nms, weighted_boxes_fusion
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembling import instances
from ensembling.settings import FusionSettings
from segdata.errors import InputError
from segdata.predictions import ImageInstances
from segdata.rle import Rle, rle_bbox, rle_encode
from tests.ensembling import reference

HEIGHT, WIDTH = 14, 16
Fuse = Callable[[list[ImageInstances], np.ndarray, FusionSettings], ImageInstances]
OURS: dict[str, Fuse] = {
    "wbf": instances.fuse_by_boxes,
    "mask-fusion": instances.fuse_by_masks,
    "nms": instances.fuse_by_nms,
    "soft-nms": instances.fuse_by_soft_nms,
    "nmw": instances.fuse_by_nmw,
}
IOU = 0.4317  # no two boxes of whole pixels have this IoU, so that no rounding decides

# Every method with every choice that it reads.
BASE = FusionSettings(iou_threshold=IOU)
VARIANTS: list[tuple[str, FusionSettings]] = [
    *(
        (method, replace(BASE, merge_own=merge_own, mask_threshold=mask_threshold))
        for method, merge_own, mask_threshold in product(("wbf", "mask-fusion"), (False, True), (0.5, 0.3))
    ),
    *((method, replace(BASE, count_boxes=True)) for method in ("wbf", "mask-fusion")),
    *(
        (method, replace(BASE, overlap=overlap, merge_own=merge_own))
        for method, overlap, merge_own in product(("nms", "nmw"), ("mask", "box"), (False, True))
    ),
    *(
        ("soft-nms", replace(BASE, overlap=overlap, decay=decay, merge_own=merge_own))
        for overlap, decay, merge_own in product(("mask", "box"), ("linear", "gaussian"), (False, True))
    ),
]
APART = [(method, chosen) for method, chosen in VARIANTS if not chosen.merge_own and not chosen.count_boxes]
# soft-nms with the gaussian decay leaves the second of two equal objects with a confidence of exp(-1 / sigma).
WITHOUT_COPIES = [(method, chosen) for method, chosen in APART if (method, chosen.decay) != ("soft-nms", "gaussian")]
SUPPRESSING = [(method, chosen) for method, chosen in WITHOUT_COPIES if method in ("nms", "soft-nms")]
ADDING = [(method, chosen) for method, chosen in APART if method in ("wbf", "mask-fusion")]


def name_of(value: object) -> str:
    if isinstance(value, FusionSettings):
        own = (value.overlap, value.decay, value.mask_threshold)
        return "-".join([*map(str, own), *(["merge"] * value.merge_own), *(["boxes"] * value.count_boxes)])
    return str(value)


def blob(left: int, top: int, width: int, height: int, holes: list[int]) -> np.ndarray:
    """A rectangle of pixels with some taken out again, never all."""
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    inside = np.ones(width * height, dtype=np.bool_)
    inside[[hole % inside.size for hole in holes]] = False
    inside[0] = True
    mask_HW[top : top + height, left : left + width] = inside.reshape(height, width)
    return mask_HW


@st.composite
def objects(draw: st.DrawFn) -> tuple[np.ndarray, list[float], int]:
    """A mask, a box around it that need not fit, a class."""
    left, top = draw(st.integers(0, 8)), draw(st.integers(0, 7))
    width, height = draw(st.integers(1, 8)), draw(st.integers(1, 7))
    mask_HW = blob(left, top, width, height, draw(st.lists(st.integers(0, 60), max_size=4)))
    slack = draw(st.sampled_from([0.0, 0.25]))
    return mask_HW, [left - slack, top, left + width, top + height + slack], draw(st.integers(0, 1))


@st.composite
def members(draw: st.DrawFn, ties: bool = False) -> list[ImageInstances]:
    """What 1 to 4 members found; confidences all differ, or are often the same."""
    counts = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    total = sum(counts)
    if ties:
        confidences = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=total, max_size=total))
    else:
        confidences = [(index + 1) / 32 for index in draw(st.permutations(range(total)))]
    result, used = [], 0
    for count in counts:
        found = [draw(objects()) for _ in range(count)]
        own = confidences[used : used + count]
        rles = tuple(rle_encode(mask_HW) for mask_HW, _, _ in found)
        result.append(ImageInstances.of([box for _, box, _ in found], own, [kind for _, _, kind in found], rles))
        used += count
    return result


def table(found: ImageInstances) -> tuple[np.ndarray, list[Rle]]:
    """Rows of class, confidence and box, and the masks, in a canonical order."""
    rows = np.column_stack([found.classes, found.confidences, found.boxes_xyxy])
    keys = [(*(round(float(value), 4) for value in row), rle.counts) for row, rle in zip(rows, found.rles, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return rows[order], [found.rles[index] for index in order]


def assert_same(found: ImageInstances, expected: ImageInstances, atol: float = 2e-6) -> None:
    (rows, rles), (wanted, wanted_rles) = table(found), table(expected)
    assert rles == wanted_rles
    np.testing.assert_allclose(rows, wanted, atol=atol)


def with_own_boxes(method: str, chosen: FusionSettings, found: ImageInstances) -> ImageInstances:
    """What a member is after a method that takes the box from the mask, and from the most confident down."""
    boxes = found.boxes_xyxy
    if method == "mask-fusion" or (method == "nmw" and chosen.overlap == "mask"):
        tight = np.array([rle_bbox(rle) for rle in found.rles]).reshape(-1, 4)
        boxes = np.concatenate([tight[:, :2], tight[:, :2] + tight[:, 2:]], axis=1)
    return ImageInstances.of(boxes, found.confidences, found.classes, found.rles)


weights_of = st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.1]), min_size=4, max_size=4)


@pytest.mark.parametrize(("method", "chosen"), VARIANTS, ids=name_of)
@given(members(), weights_of)
@settings(max_examples=25, deadline=None)
def test_each_method_equals_plain_numpy(
    method: str, chosen: FusionSettings, found_M: list[ImageInstances], weights: list[float]
) -> None:
    # Confidences x weights must differ, since ties are resolved by rules that are tested below.
    own = np.array(weights[: len(found_M)])
    products = [float(c) * w for found, w in zip(found_M, own, strict=True) for c in found.confidences]
    if len({round(value, 9) for value in products}) < len(products):
        own = np.ones(len(found_M))
    assert_same(OURS[method](found_M, own, chosen), reference.METHODS[method](found_M, own, chosen))


@pytest.mark.parametrize(("method", "chosen"), VARIANTS, ids=name_of)
@given(members(ties=True), weights_of, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_members_is_irrelevant_to_the_last_bit(
    method: str, chosen: FusionSettings, found_M: list[ImageInstances], weights: list[float], random: object
) -> None:
    order = list(range(len(found_M)))
    random.shuffle(order)  # type: ignore[attr-defined]
    own = np.array(weights[: len(found_M)])
    before = OURS[method](found_M, own, chosen)
    after = OURS[method]([found_M[index] for index in order], own[order], chosen)
    np.testing.assert_array_equal(after.confidences, before.confidences)
    np.testing.assert_array_equal(after.boxes_xyxy, before.boxes_xyxy)
    np.testing.assert_array_equal(after.classes, before.classes)
    assert after.rles == before.rles


@pytest.mark.parametrize(("method", "chosen"), APART, ids=name_of)
@given(members(ties=True))
@settings(max_examples=25, deadline=None)
def test_an_ensemble_of_one_is_that_one(method: str, chosen: FusionSettings, found_M: list[ImageInstances]) -> None:
    """While a member's own objects stay apart; a box that comes from the mask is the mask's."""
    alone = OURS[method](found_M[:1], np.array([0.7]), chosen)
    assert_same(alone, with_own_boxes(method, chosen, found_M[0]))


@pytest.mark.parametrize(("method", "chosen"), WITHOUT_COPIES, ids=name_of)
@given(members(ties=True), st.integers(2, 3))
@settings(max_examples=25, deadline=None)
def test_fusing_identical_members_changes_nothing(
    method: str, chosen: FusionSettings, found_M: list[ImageInstances], copies: int
) -> None:
    again = OURS[method](found_M[:1] * copies, np.ones(copies), chosen)
    assert_same(again, with_own_boxes(method, chosen, found_M[0]))


@pytest.mark.parametrize("overlap", ["mask", "box"])
def test_gaussian_soft_nms_leaves_a_copy_far_below_the_object(overlap: str) -> None:
    """Identity can't hold: IoU 1 leaves exp(-1 / sigma) of a copy's confidence. The object itself is unchanged."""
    chosen = FusionSettings(decay="gaussian", overlap=overlap)  # type: ignore[arg-type]
    member = square(2, 8, 0.9)
    again = OURS["soft-nms"]([member, member], np.ones(2), chosen)
    np.testing.assert_allclose(again.confidences, [0.9, 0.9 * np.exp(-1 / 0.5)], rtol=1e-6)
    assert again.rles == member.rles * 2


@pytest.mark.parametrize(("method", "chosen"), ADDING, ids=name_of)
@given(members(ties=True), weights_of)
@settings(max_examples=40, deadline=None)
def test_a_member_twice_at_half_weight_is_that_member_once(
    method: str, chosen: FusionSettings, found_M: list[ImageInstances], weights: list[float]
) -> None:
    own = np.array(weights[: len(found_M)])
    once = OURS[method](found_M, own, chosen)
    twice = OURS[method]([found_M[0], *found_M], np.array([own[0] / 2, own[0] / 2, *own[1:]]), chosen)
    assert_same(twice, once)


@pytest.mark.parametrize(("method", "chosen"), SUPPRESSING, ids=name_of)
@given(members(), st.data())
@settings(max_examples=25, deadline=None)
def test_suppression_of_a_member_twice_at_its_own_weight_is_that_member_once(
    method: str, chosen: FusionSettings, found_M: list[ImageInstances], data: st.DataObject
) -> None:
    """Halves can't hold: a confidence x weight decides who stays, so half the weight is half the confidence."""
    once = OURS[method](found_M, np.ones(len(found_M)), chosen)
    twice = OURS[method]([found_M[0], *found_M], np.ones(len(found_M) + 1), chosen)
    assert_same(twice, once)


@pytest.mark.parametrize(("method", "chosen"), WITHOUT_COPIES, ids=name_of)
@given(members())
@settings(max_examples=25, deadline=None)
def test_all_members_twice_at_half_weight_are_all_once(
    method: str, chosen: FusionSettings, found_M: list[ImageInstances]
) -> None:
    own = np.array([1.0, 0.7, 1.3, 2.0])[: len(found_M)]
    once = OURS[method](found_M, own, chosen)
    twice = OURS[method]([*found_M, *found_M], np.concatenate([own / 2, own / 2]), chosen)
    assert_same(twice, once)


def crowd(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Boxes in 0..1, confidences, classes of 3 members; much overlaps."""
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(3):
        corner = rng.uniform(0.1, 0.6, (40, 2))
        boxes.append(np.concatenate([corner, corner + rng.uniform(0.1, 0.3, (40, 2))], axis=1))
    return boxes, [rng.uniform(0.05, 1, 40) for _ in range(3)], [np.arange(40) % 2 for _ in range(3)]


def as_members(
    boxes: list[np.ndarray], confidences: list[np.ndarray], classes: list[np.ndarray]
) -> list[ImageInstances]:
    """The same with a mask of one pixel each, which box methods only carry along."""
    pixel = rle_encode(np.eye(1, dtype=np.bool_))
    return [
        ImageInstances.of(box, confidence, kind, (pixel,) * len(kind))
        for box, confidence, kind in zip(boxes, confidences, classes, strict=True)
    ]


def assert_same_boxes(found: ImageInstances, boxes: np.ndarray, confidences: np.ndarray, classes: np.ndarray) -> None:
    theirs = np.column_stack([classes, confidences, boxes])
    ours = np.column_stack([found.classes, found.confidences, found.boxes_xyxy])
    by_value = [np.lexsort((rows[:, 2], rows[:, 1].round(5))) for rows in (ours, theirs)]
    np.testing.assert_allclose(ours[by_value[0]], theirs[by_value[1]], atol=1e-6)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("seed", range(4))
def test_wbf_that_counts_boxes_equals_ensemble_boxes(seed: int, weights: list[float]) -> None:
    boxes, confidences, classes = crowd(seed)
    theirs = weighted_boxes_fusion(boxes, confidences, classes, weights=weights, iou_thr=0.5)
    chosen = FusionSettings(iou_threshold=0.5, count_boxes=True)
    assert_same_boxes(OURS["wbf"](as_members(boxes, confidences, classes), np.array(weights), chosen), *theirs)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("seed", range(4))
def test_nmw_equals_ensemble_boxes(seed: int, weights: list[float]) -> None:
    boxes, confidences, classes = crowd(seed)
    theirs = non_maximum_weighted(boxes, confidences, classes, weights=weights, iou_thr=0.5)
    chosen = FusionSettings(iou_threshold=0.5, overlap="box", merge_own=True)
    assert_same_boxes(OURS["nmw"](as_members(boxes, confidences, classes), np.array(weights), chosen), *theirs)


@pytest.mark.parametrize("seed", range(4))
def test_nms_equals_ensemble_boxes(seed: int) -> None:
    boxes, confidences, classes = crowd(seed)
    theirs = hard_nms(boxes, confidences, classes, iou_thr=0.4)
    chosen = FusionSettings(iou_threshold=0.4, overlap="box", merge_own=True)
    assert_same_boxes(OURS["nms"](as_members(boxes, confidences, classes), np.ones(3), chosen), *theirs)


@pytest.mark.parametrize("sigma", [0.5, 0.1])
@pytest.mark.parametrize(("decay", "number"), [("linear", 1), ("gaussian", 2)])
@pytest.mark.parametrize("seed", range(3))
def test_soft_nms_rescores_by_its_formula(seed: int, decay: str, number: int, sigma: float) -> None:
    """ensemble_boxes keeps the right boxes but returns them with the confidences that they came with."""
    boxes, confidences, classes = crowd(seed)
    their_boxes, _, _ = soft_nms(boxes, confidences, classes, method=number, iou_thr=0.3, sigma=sigma, thresh=0.01)
    chosen = FusionSettings(
        iou_threshold=0.3, overlap="box", merge_own=True, decay=decay, sigma=sigma, least_decayed=0.01
    )
    found = OURS["soft-nms"](as_members(boxes, confidences, classes), np.ones(3), chosen)
    assert sorted(map(tuple, found.boxes_xyxy.tolist())) == sorted(map(tuple, their_boxes.astype(np.float32).tolist()))


def square(start: int, stop: int, confidence: float) -> ImageInstances:
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask_HW[start:stop, start:stop] = True
    return ImageInstances.of([[start, start, stop, stop]], [confidence], [0], (rle_encode(mask_HW),))


def test_mask_fusion_by_hand() -> None:
    """Two squares of 10 and 8 px share 64 of 100 px; the fused one has those that half of the votes have."""
    fused = OURS["mask-fusion"]([square(0, 10, 0.9), square(0, 8, 0.6)], np.array([1.0, 1.0]), FusionSettings())
    assert fused.rles == square(0, 10, 0.9).rles  # 0.9 of 1.5 votes
    np.testing.assert_allclose(fused.confidences, [0.75])
    heavier = OURS["mask-fusion"]([square(0, 10, 0.9), square(0, 8, 0.6)], np.array([1.0, 2.0]), FusionSettings())
    assert heavier.rles == square(0, 8, 0.6).rles  # 1.2 of 2.1 votes
    np.testing.assert_allclose(heavier.boxes_xyxy, [[0, 0, 8, 8]])
    np.testing.assert_allclose(heavier.confidences, [(0.9 + 2 * 0.6) / 3])


def test_soft_nms_by_hand() -> None:
    """IoU 64 / 100."""
    pair = [square(0, 10, 0.9), square(0, 8, 0.6)]
    linear = OURS["soft-nms"](pair, np.ones(2), FusionSettings())
    np.testing.assert_allclose(linear.confidences, [0.9, 0.6 * (1 - 0.64)], rtol=1e-6)
    gaussian = OURS["soft-nms"](pair, np.ones(2), FusionSettings(decay="gaussian", sigma=0.2))
    np.testing.assert_allclose(gaussian.confidences, [0.9, 0.6 * np.exp(-(0.64**2) / 0.2)], rtol=1e-6)


def test_nmw_by_hand() -> None:
    """The second box counts for 0.5 x 0.64 beside 0.8 x 1."""
    pair = [square(0, 10, 0.8), square(0, 8, 0.5)]
    fused = OURS["nmw"](pair, np.ones(2), FusionSettings(overlap="box"))
    np.testing.assert_allclose(fused.boxes_xyxy[0, 2], (0.8 * 10 + 0.32 * 8) / 1.12, rtol=1e-6)
    np.testing.assert_allclose(fused.confidences, [0.8])


@pytest.mark.parametrize("method", OURS)
def test_objects_without_a_pixel_are_left_out(method: str) -> None:
    empty = rle_encode(np.zeros((HEIGHT, WIDTH), dtype=np.bool_))
    nothing = ImageInstances.of([[0, 0, 5, 5]], [0.9], [0], (empty,))
    assert len(OURS[method]([nothing, nothing], np.ones(2), FusionSettings())) == 0


@pytest.mark.parametrize("method", OURS)
def test_no_objects_at_all_give_none(method: str) -> None:
    nothing = ImageInstances.of([], [], [], ())
    assert len(OURS[method]([nothing, nothing], np.ones(2), FusionSettings())) == 0


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("confidence", [1.2, -0.1, float("nan")])
def test_confidences_outside_0_to_1_are_refused(method: str, confidence: float) -> None:
    with pytest.raises(InputError, match=r"expected confidences within 0\.\.1, but got"):
        OURS[method]([square(0, 4, 0.5), square(0, 4, confidence)], np.ones(2), FusionSettings())


@pytest.mark.parametrize("method", OURS)
def test_masks_of_another_size_are_refused(method: str) -> None:
    other = ImageInstances.of([[0, 0, 2, 2]], [0.5], [0], (rle_encode(np.ones((3, 4), dtype=np.bool_)),))
    with pytest.raises(InputError, match=r"expected masks of one size in an image, but got .*\(3, 4\), \(14, 16\)"):
        OURS[method]([square(0, 4, 0.5), other], np.ones(2), FusionSettings())
