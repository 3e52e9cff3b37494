"""Average precision: pycocotools as the oracle to 1e-12, perfect predictions, and what is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segdata.coco import Category, ImageRecord, InstanceDataset, ObjectRecord, rle_of
from segdata.errors import DatasetError, InputError
from segdata.predictions import (
    ImageInstances,
    PredictedImage,
    PredictionMeta,
    PredictionSet,
    PredictionWriter,
    truth_as_predictions,
)
from segdata.rle import rle_area, rle_bbox, rle_encode
from segscore import score_instance_results, score_instances

Kind = Literal["segm", "bbox", "boundary"]
KINDS: tuple[Kind, ...] = ("segm", "bbox", "boundary")
Oracle = Callable[[InstanceDataset, list[dict[str, Any]], str, int], Any]
HEIGHT, WIDTH = 200, 240
CLASSES = (Category(3, "bag"), Category(1, "bottle"), Category(8, "can"), Category(9, "never seen"))


def shape_of(rng: np.random.Generator, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    mask_HW: np.ndarray = ((columns - x) / radius) ** 2 + ((rows - y) / (radius * rng.uniform(0.7, 1.4))) ** 2 < 1
    return mask_HW


def crowded_scenes(seed: int, per_image: int, images: int = 4) -> tuple[InstanceDataset, list[dict[str, Any]]]:
    """Truth with crowds, an empty image and three size classes; results shifted, missed, doubled and of false class."""
    rng = np.random.default_rng(seed)
    records = tuple(ImageRecord(10 - i, f"{i}.png", WIDTH, HEIGHT) for i in range(images))
    objects: list[ObjectRecord] = []
    results: list[dict[str, Any]] = []
    for record in records[:-1]:  # the last image has no objects
        for _ in range(per_image):
            x, y, radius = (
                rng.uniform(0, WIDTH),
                rng.uniform(0, HEIGHT),
                rng.choice([4.0, 8.0, 25.0, 70.0], p=[0.5, 0.4, 0.08, 0.02]),
            )
            rle = rle_encode(shape_of(rng, x, y, radius))
            category = int(rng.choice([3, 1, 8]))
            crowd = bool(rng.random() < 0.05)
            objects.append(ObjectRecord(len(objects), record.id, category, rle, rle_bbox(rle), rle_area(rle), crowd))
            for _ in range(int(rng.choice([0, 1, 2], p=[0.15, 0.7, 0.15]))):
                moved = rle_encode(shape_of(rng, x + rng.normal(0, 1), y + rng.normal(0, 1), radius))
                found = category if rng.random() < 0.9 else 1
                results.append(result(record.id, found, moved, round(rng.random(), 2)))
    stray = rle_encode(shape_of(rng, 50, 50, 10))
    results.append(result(records[-1].id, 3, stray, 0.97))  # a false alarm in the empty image
    return InstanceDataset(records, CLASSES, tuple(objects)), results


def result(image_id: int, category_id: int, rle: Any, score: float) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": rle.to_coco(),
        "bbox": list(rle_bbox(rle)),
        "score": score,
    }


def mean(precision: np.ndarray) -> float:
    return float(precision[precision > -1].mean()) if (precision > -1).any() else math.nan


def assert_equal_to_pycocotools(
    truth: InstanceDataset, results: list[dict[str, Any]], kind: Kind, limit: int, oracle: Oracle
) -> None:
    precision = oracle(truth, results, kind, limit)
    scores = score_instance_results(truth, results, kind=kind, max_detections=limit)
    expected = {
        "ap": mean(precision[:, :, :, 0]),
        "ap50": mean(precision[0, :, :, 0]),
        "ap75": mean(precision[5, :, :, 0]),
        "ap_small": mean(precision[:, :, :, 1]),
        "ap_medium": mean(precision[:, :, :, 2]),
        "ap_large": mean(precision[:, :, :, 3]),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(scores, name), value, atol=1e-12, rtol=0, err_msg=name)
    for index, (_, value) in enumerate(scores.per_class):
        np.testing.assert_allclose(value, mean(precision[:, :, index, 0]), atol=1e-12, rtol=0)
    assert (scores.kind, scores.max_detections, scores.images) == (kind, limit, len(truth.images))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seed", "per_image", "limit"), [(0, 40, 100), (1, 40, 5), (2, 150, 300), (3, 1, 100)])
def test_equals_pycocotools(kind: Kind, seed: int, per_image: int, limit: int, by_pycocotools: Oracle) -> None:
    truth, results = crowded_scenes(seed, per_image)
    assert_equal_to_pycocotools(truth, results, kind, limit, by_pycocotools)
    per_class = score_instance_results(truth, results, kind=kind).per_class
    assert [name for name, _ in per_class] == ["bottle", "bag", "can", "never seen"]
    assert math.isnan(per_class[-1][1])


SIZES = [(1, 1), (6, 6), (6, 6), (8, 6), (7, 6), (32, 32), (33, 32), (96, 96), (97, 100)]  # some of each area range


@st.composite
def rectangles(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Few places and sizes, so that many coincide, nest, and overlap several others by equal shares."""
    return draw(st.integers(0, 4)), draw(st.sampled_from([0, 0, 1, 40])), *draw(st.sampled_from(SIZES))


@st.composite
def any_scene(draw: st.DrawFn) -> tuple[InstanceDataset, list[dict[str, Any]]]:
    """Up to three images, some empty, of two classes; crowds; confidences that tie; results of no object."""
    ids = (7, 2, 5)[: draw(st.integers(1, 3))]
    image, kind = st.sampled_from([*ids[:1], *ids]), st.sampled_from([1, 1, 1, 3])
    objects, results = [], []
    for number in range(draw(st.integers(0, 8))):
        rle = rle_of_rectangle(draw(rectangles()))
        crowd = draw(st.sampled_from([False, False, False, True]))
        objects.append(ObjectRecord(number, draw(image), draw(kind), rle, rle_bbox(rle), float(rle_area(rle)), crowd))
    for _ in range(draw(st.integers(1, 12))):
        shape = rle_of_rectangle(draw(rectangles()))
        results.append(result(draw(image), draw(kind), shape, draw(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0]))))
    records = tuple(ImageRecord(number, f"{number}.png", WIDTH, HEIGHT) for number in ids)
    return InstanceDataset(records, CLASSES, tuple(objects)), results


def rle_of_rectangle(rectangle: tuple[int, int, int, int]) -> Any:
    x, y, width, height = rectangle
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask_HW[y : y + height, x : x + width] = True
    return rle_encode(mask_HW)


@given(any_scene(), st.sampled_from(KINDS), st.sampled_from([1, 2, 3, 100]))
@settings(max_examples=300, deadline=None)
def test_equals_pycocotools_on_any_scene(
    by_pycocotools: Oracle, scene: tuple[InstanceDataset, list[dict[str, Any]]], kind: Kind, limit: int
) -> None:
    assert_equal_to_pycocotools(*scene, kind, limit, by_pycocotools)


def test_of_objects_that_overlap_equally_the_later_is_taken(by_pycocotools: Oracle) -> None:
    rles = [rle_of_rectangle((x, 0, 6, 6)) for x in (0, 2)]
    objects = tuple(ObjectRecord(i, 7, 1, rle, rle_bbox(rle), 36.0, False) for i, rle in enumerate(rles))
    truth = InstanceDataset((ImageRecord(7, "7.png", WIDTH, HEIGHT),), CLASSES, objects)
    # the first lies between both, by 5/7 each; the second is the later object, and overlaps the other by 1/2
    results = [result(7, 1, rle_of_rectangle((1, 0, 6, 6)), 0.9), result(7, 1, rles[1], 0.8)]
    assert_equal_to_pycocotools(truth, results, "segm", 100, by_pycocotools)
    # at 0.50 both are right; up to 0.70 the first alone; from 0.75 the second alone, behind a wrong one
    expected = (1 + 4 * 51 / 101 + 5 * 0.5 * 51 / 101) / 10
    assert score_instance_results(truth, results).ap == pytest.approx(expected, abs=1e-12)


def test_scores_are_not_rounded() -> None:
    truth, results = crowded_scenes(0, 40)
    score = score_instance_results(truth, results).ap
    assert 0.2 < score < 0.9
    assert score != round(score, 6)


def test_results_are_not_changed() -> None:
    truth, results = crowded_scenes(0, 5)
    before = [dict(entry) for entry in results]
    score_instance_results(truth, results)
    assert results == before


def dense_truth(per_image: int) -> InstanceDataset:
    """Many small squares an image, one large, and one class with a single object."""
    objects: list[ObjectRecord] = []
    for image_id in (0, 1):
        for i in range(per_image):
            x, y = float(i % 24 * 10), float(i // 24 * 10)
            polygon = ((x, y, x + 7, y, x + 7, y + 7, x, y + 7),)
            objects.append(ObjectRecord(len(objects) + 1, image_id, 1 + i % 2, polygon, (x, y, 7.0, 7.0), 49.0, False))
    objects.append(ObjectRecord(0, 1, 3, ((0, 0, 239, 0, 239, 199, 0, 199),), (0.0, 0.0, 239.0, 199.0), 47561.0, False))
    images = tuple(ImageRecord(i, f"{i}.png", WIDTH, HEIGHT) for i in (0, 1, 2))
    categories = tuple(Category(i, name) for i, name in enumerate(("a", "b", "c"), start=1))
    return InstanceDataset(images, categories, tuple(objects))


def test_the_truth_itself_scores_exactly_1_with_hundreds_of_objects_an_image(tmp_path: Path) -> None:
    truth = dense_truth(450)
    predictions = PredictionSet.open(truth_as_predictions(truth, tmp_path / "truth"))
    scores = score_instances(truth, predictions)
    assert (scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_large) == (1.0, 1.0, 1.0, 1.0, 1.0)
    assert math.isnan(scores.ap_medium)
    assert dict(scores.per_class) == {"a": 1.0, "b": 1.0, "c": 1.0}
    assert scores.max_detections == 500
    assert score_instances(truth, predictions, kind="bbox").ap == 1.0


def test_detections_beyond_max_detections_are_ignored(tmp_path: Path) -> None:
    truth = dense_truth(450)
    predictions = PredictionSet.open(truth_as_predictions(truth, tmp_path / "truth"))
    scores = score_instances(truth, predictions, max_detections=100)
    # 100 an image, so 200 of 450 objects of class a are found: precision 1 at the 45 recalls up to 200 / 450
    assert scores.max_detections == 100
    assert dict(scores.per_class)["a"] == pytest.approx(45 / 101, abs=1e-15)
    assert dict(scores.per_class)["c"] == 1.0


def test_a_recall_is_reached_by_the_division_that_pycocotools_does() -> None:
    truth = dense_truth(100)
    one_image = InstanceDataset(truth.images[:1], truth.categories, tuple(o for o in truth.objects if o.image_id == 0))
    results = [
        result(0, obj.category_id, rle_of(obj, HEIGHT, WIDTH), 1.0) for obj in one_image.objects if obj.category_id == 1
    ]
    for found in range(1, 51):  # of 50 objects; 0.14 x 50, for one, is a little more than 7 in floating point
        reached = np.count_nonzero(np.linspace(0, 1, 101) <= found / 50)
        per_class = dict(score_instance_results(one_image, results[:found]).per_class)
        assert per_class["a"] == pytest.approx(reached / 101, abs=1e-15), found


def test_objects_without_a_pixel_are_left_out_and_counted() -> None:
    truth = dense_truth(5)
    sliver = ObjectRecord(99, 0, 1, ((50.1, 50.1, 50.3, 50.1, 50.3, 50.3),), (50.1, 50.1, 0.2, 0.2), 0.02, False)
    results = [
        result(obj.image_id, obj.category_id, rle_of(obj, HEIGHT, WIDTH), 1.0) | {"bbox": list(obj.bbox_xywh)}
        for obj in truth.objects
    ]
    more = InstanceDataset(truth.images, truth.categories, (*truth.objects, sliver))
    for kind in KINDS:
        scores = score_instance_results(more, results, kind=kind)
        assert (scores.ap, scores.left_out) == (1.0, 1)
        assert score_instance_results(truth, results, kind=kind).left_out == 0


def test_no_predictions_score_0_and_no_truth_scores_nan() -> None:
    truth, results = crowded_scenes(0, 3)
    assert score_instance_results(truth, []).ap == 0.0
    nothing = InstanceDataset(truth.images, truth.categories, ())
    assert math.isnan(score_instance_results(nothing, results).ap)


def write_set(path: Path, images: tuple[ImageRecord, ...], classes: tuple[str, ...]) -> PredictionSet:
    meta = PredictionMeta(
        task="instance",
        classes=classes,
        category_ids=tuple(range(1, len(classes) + 1)),
        dataset_fingerprint="0",
        code_version="0",
        codec="coco-rle",
    )
    with PredictionWriter(path, meta) as writer:
        for i in images:
            record = PredictedImage(id=i.id, file_name=i.file_name, width=i.width, height=i.height)
            writer.add_instances(record, ImageInstances.of([], [], [], ()))
    return PredictionSet.open(path)


def test_an_image_that_was_not_predicted_is_not_counted_as_empty(tmp_path: Path) -> None:
    truth = dense_truth(5)
    predictions = write_set(tmp_path / "some", truth.images[:2], truth.class_names)
    with pytest.raises(DatasetError, match=r"expected a prediction for '2\.png'"):
        score_instances(truth, predictions)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    truth = dense_truth(5)
    predictions = write_set(tmp_path / "other", truth.images, ("a", "b", "d"))
    with pytest.raises(DatasetError, match=r"expected the truth's classes \(a, b, c\), but got \(a, b, d\)"):
        score_instances(truth, predictions)


def test_classes_are_matched_by_name_though_ids_and_order_differ(tmp_path: Path) -> None:
    truth = dense_truth(30)
    renumbered = {1: 30, 2: 20, 3: 10}
    other = InstanceDataset(
        truth.images,
        tuple(Category(renumbered[c.id], c.name) for c in truth.categories),
        tuple(
            ObjectRecord(o.id, o.image_id, renumbered[o.category_id], o.segmentation, o.bbox_xywh, o.area_px, False)
            for o in truth.objects
        ),
    )
    predictions = PredictionSet.open(truth_as_predictions(other, tmp_path / "other"))
    assert score_instances(truth, predictions).ap == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 99}, "result 1: expected the id of an image of the truth, but got image_id 99"),
        ({"category_id": 2}, "result 1: expected the id of a category of the truth, but got category_id 2"),
        ({"score": math.nan}, "result 1: expected a finite score, but got nan"),
        (
            {"segmentation": {"size": [9, 9], "counts": "1"}},
            r"result 1: expected a mask of \[height, width\] \[200, 240\]",
        ),
    ],
)
def test_broken_results_are_refused(changes: dict[str, Any], message: str) -> None:
    truth, results = crowded_scenes(0, 3)
    results[1] = results[1] | changes
    with pytest.raises(DatasetError, match=message):
        score_instance_results(truth, results)


def test_max_detections_below_1_is_refused() -> None:
    truth, results = crowded_scenes(0, 3)
    with pytest.raises(InputError, match="max_detections: expected at least 1, but got 0"):
        score_instance_results(truth, results, max_detections=0)
