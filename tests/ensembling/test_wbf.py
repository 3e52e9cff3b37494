"""Weighted boxes fusion: arithmetic by hand, ensemble_boxes as the oracle, and what members may not change."""

import numpy as np
import pytest
from ensemble_boxes import weighted_boxes_fusion
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembling.boxes import BoxClusters, Objects, fuse_boxes
from segdata.errors import InputError

Member = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes xyxy, confidences, classes


def objects_of(members: list[Member]) -> Objects:
    return Objects(
        boxes_xyxy=np.concatenate([boxes for boxes, _, _ in members]).reshape(-1, 4).astype(float),
        confidences=np.concatenate([confidences for _, confidences, _ in members]).astype(float),
        classes=np.concatenate([classes for _, _, classes in members]).astype(np.int64),
        members=np.repeat(np.arange(len(members)), [len(classes) for _, _, classes in members]),
    )


def member(boxes: list[list[float]], confidences: list[float], classes: list[int] | None = None) -> Member:
    return np.array(boxes, float).reshape(-1, 4), np.array(confidences), np.array(classes or [0] * len(boxes))


def scattered(rng: np.random.Generator, members: int, count: int, noise: float) -> list[Member]:
    """Objects of 20 px on a grid of 40 px, seen by each member with some noise; distinct confidences."""
    corner = np.stack([np.arange(count) % 10 * 40.0 + 5, np.arange(count) // 10 * 40.0 + 5], axis=1)
    result = []
    for _ in range(members):
        seen = rng.random(count) < 0.8
        first = corner[seen] + rng.normal(0, noise, (seen.sum(), 2))
        last = corner[seen] + 20 + rng.normal(0, noise, (seen.sum(), 2))
        classes = np.arange(count)[seen] % 3
        result.append((np.concatenate([first, last], axis=1), rng.uniform(0.05, 1, seen.sum()), classes))
    return result


def rows(clusters: BoxClusters) -> np.ndarray:
    """Classes, confidences and boxes as one table in a canonical order."""
    table = np.column_stack([clusters.classes, clusters.confidences, clusters.boxes_xyxy])
    return table[np.lexsort(table.T)]


def test_two_members_agree_on_one_object() -> None:
    fused = fuse_boxes(
        objects_of([member([[0, 0, 10, 10]], [0.9]), member([[1, 0, 11, 10]], [0.3])]), np.array([1.0, 1.0])
    )
    # x1 = (0.9 * 0 + 0.3 * 1) / 1.2; the confidence is the mean over both members
    np.testing.assert_allclose(fused.boxes_xyxy, [[0.25, 0, 10.25, 10]])
    np.testing.assert_allclose(fused.confidences, [0.6])
    assert fused.cluster_of.tolist() == [0, 0]


def test_object_of_one_member_among_three_keeps_a_third_of_its_confidence() -> None:
    empty = member([], [])
    fused = fuse_boxes(objects_of([empty, member([[0, 0, 4, 4]], [0.9]), empty]), np.ones(3))
    np.testing.assert_allclose(fused.confidences, [0.3])


def test_weights_scale_coordinates_and_confidence() -> None:
    fused = fuse_boxes(
        objects_of([member([[0, 0, 10, 10]], [0.5]), member([[2, 0, 12, 10]], [0.5])]), np.array([3.0, 1.0])
    )
    np.testing.assert_allclose(fused.boxes_xyxy, [[0.5, 0, 10.5, 10]])
    np.testing.assert_allclose(fused.confidences, [0.5])


def test_two_boxes_of_one_member_count_as_one_member() -> None:
    own = member([[0, 0, 10, 10], [0, 0, 10, 9]], [0.8, 0.6])
    fused = fuse_boxes(objects_of([own, member([], [])]), np.ones(2), merge_own=True)
    # mean 0.7, times the one of two members that is present; counting boxes would give 0.7
    np.testing.assert_allclose(fused.confidences, [0.35])
    assert fused.cluster_of.tolist() == [0, 0]


def test_a_members_own_boxes_stay_apart_by_default() -> None:
    own = member([[0, 0, 10, 10], [0, 0, 10, 9]], [0.8, 0.6])
    other = member([[0, 0, 10, 9.1]], [0.5])
    fused = fuse_boxes(objects_of([own, other]), np.ones(2))
    assert fused.cluster_of.tolist() == [1, 0, 0]  # the other's box is nearer to the second
    np.testing.assert_allclose(fused.confidences, [(0.6 + 0.5) / 2, 0.8 / 2])


def test_classes_are_never_mixed() -> None:
    fused = fuse_boxes(
        objects_of([member([[0, 0, 10, 10]], [0.9], [0]), member([[0, 0, 10, 10]], [0.8], [1])]), np.ones(2)
    )
    assert fused.classes.tolist() == [0, 1]


def test_an_iou_on_the_threshold_does_not_join() -> None:
    two = objects_of([member([[0, 0, 10, 10]], [0.9]), member([[0, 0, 10, 5]], [0.8])])  # IoU exactly 0.5
    assert len(fuse_boxes(two, np.ones(2), iou_threshold=0.5).classes) == 2
    assert len(fuse_boxes(two, np.ones(2), iou_threshold=0.49).classes) == 1


def test_equal_confidences_are_taken_by_member_then_in_input_order() -> None:
    first = member([[0, 0, 10, 10], [50, 0, 60, 10]], [0.5, 0.5])
    second = member([[100, 0, 110, 10]], [0.5])
    fused = fuse_boxes(objects_of([first, second]), np.ones(2))
    assert fused.boxes_xyxy[:, 0].tolist() == [0, 50, 100]


def test_objects_below_the_minimum_confidence_are_left_out() -> None:
    fused = fuse_boxes(
        objects_of([member([[0, 0, 10, 10], [50, 0, 60, 10]], [0.5, 0.01])]), np.ones(1), minimum_confidence=0.05
    )
    assert fused.cluster_of.tolist() == [0, -1]


def test_boxes_without_area_and_confidence_zero_pass() -> None:
    fused = fuse_boxes(objects_of([member([[3, 3, 3, 3], [3, 3, 3, 3]], [0.0, 0.0])]), np.ones(1))
    np.testing.assert_allclose(fused.boxes_xyxy, [[3, 3, 3, 3]] * 2)
    assert fused.confidences.tolist() == [0, 0]


def test_nothing_gives_nothing() -> None:
    fused = fuse_boxes(objects_of([member([], []), member([], [])]), np.ones(2))
    assert fused.boxes_xyxy.shape == (0, 4)
    assert fused.cluster_of.shape == (0,)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 0.5, 3.0]])
@pytest.mark.parametrize("seed", range(5))
def test_equals_ensemble_boxes_with_one_box_a_member_in_a_cluster(seed: int, weights: list[float]) -> None:
    size = 400.0
    members = scattered(np.random.default_rng(seed), 4, 60, 1.0)
    boxes, confidences, classes = weighted_boxes_fusion(
        [boxes / size for boxes, _, _ in members],
        [confidences for _, confidences, _ in members],
        [classes for _, _, classes in members],
        weights=weights,
        iou_thr=0.55,
    )
    fused = fuse_boxes(objects_of(members), np.array(weights))
    assert len(fused.classes) == len(classes)
    theirs = np.column_stack([classes, confidences, boxes * size])
    ours = np.column_stack([fused.classes, fused.confidences, fused.boxes_xyxy])
    by_place = [np.lexsort((table[:, 3].round(), table[:, 2].round())) for table in (ours, theirs)]
    np.testing.assert_allclose(ours[by_place[0]], theirs[by_place[1]], atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_equals_ensemble_boxes_that_counts_members_when_own_boxes_merge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = []
    for _ in range(3):
        corner = rng.uniform(0.1, 0.6, (40, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.3, (40, 2))], axis=1)
        members.append((boxes, rng.uniform(0.05, 1, 40), np.zeros(40, np.int64)))
    theirs = weighted_boxes_fusion(
        *([part[index] for part in members] for index in range(3)), iou_thr=0.5, conf_type="box_and_model_avg"
    )
    fused = fuse_boxes(objects_of(members), np.ones(3), iou_threshold=0.5, merge_own=True)
    np.testing.assert_allclose(fused.confidences, theirs[1], atol=1e-6)
    np.testing.assert_allclose(fused.boxes_xyxy, theirs[0], atol=1e-6)


@st.composite
def crowds(draw: st.DrawFn) -> list[Member]:
    """Any members: boxes overlap within members and between them; all confidences differ."""
    counts = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    confidences = draw(st.permutations([(index + 1) / 32 for index in range(sum(counts))]))
    members, used = [], 0
    for count in counts:
        numbers = st.lists(st.integers(0, 12), min_size=4, max_size=4)
        raw = np.array([draw(numbers) for _ in range(count)], float).reshape(-1, 4)
        boxes = np.concatenate([raw[:, :2], raw[:, :2] + raw[:, 2:] + 1], axis=1)
        classes = np.array([draw(st.integers(0, 1)) for _ in range(count)], np.int64)
        members.append((boxes, np.array(confidences[used : used + count]), classes))
        used += count
    return members


@given(crowds(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_the_order_of_members_does_not_matter(members: list[Member], random: object) -> None:
    shuffled = members[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before = fuse_boxes(objects_of(members), np.ones(len(members)))
    after = fuse_boxes(objects_of(shuffled), np.ones(len(members)))
    np.testing.assert_allclose(rows(after), rows(before), atol=1e-9)


@given(crowds())
@settings(max_examples=80, deadline=None)
def test_an_ensemble_of_one_is_that_one(members: list[Member]) -> None:
    boxes, confidences, classes = members[0]
    fused = fuse_boxes(objects_of(members[:1]), np.array([0.7]))
    order = np.argsort(-confidences)
    np.testing.assert_allclose(fused.boxes_xyxy, boxes[order], atol=1e-6)
    np.testing.assert_allclose(fused.confidences, confidences[order], atol=1e-12)
    assert fused.classes.tolist() == classes[order].tolist()
    assert fused.cluster_of[order].tolist() == list(range(len(order)))


@given(crowds(), st.integers(2, 3))
@settings(max_examples=80, deadline=None)
def test_fusing_identical_members_changes_nothing(members: list[Member], copies: int) -> None:
    once = fuse_boxes(objects_of(members[:1]), np.ones(1))
    again = fuse_boxes(objects_of(members[:1] * copies), np.ones(copies))
    np.testing.assert_allclose(rows(again), rows(once), atol=1e-9)


@given(st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_a_member_twice_at_half_weight_is_that_member_once(seed: int) -> None:
    members = scattered(np.random.default_rng(seed), 3, 20, 1.5)
    once = fuse_boxes(objects_of(members), np.ones(3))
    twice = fuse_boxes(objects_of([members[0], *members]), np.array([0.5, 0.5, 1, 1]))
    np.testing.assert_allclose(rows(twice), rows(once), atol=1e-9)


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_confidences_outside_0_to_1_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match=r"expected confidences within 0\.\.1, but got"):
        fuse_boxes(objects_of([member([[0, 0, 1, 1]], [bad])]), np.ones(1))


@pytest.mark.parametrize("box", [[0, 0, np.nan, 1], [5, 0, 1, 1]])
def test_boxes_that_are_none_are_refused(box: list[float]) -> None:
    with pytest.raises(InputError, match="expected boxes .* with x1 <= x2"):
        fuse_boxes(objects_of([member([box], [0.5])]), np.ones(1))
