"""Bootstrap and permutation: resamples equal the data set that was drawn, and known cases come out as they must."""

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segdata.errors import InputError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.rle import Rle, rle_area, rle_bbox, rle_encode
from segscore import differences, intervals, score_instance_results
from segscore.boundaries import boundary_counts
from segscore.instances import scene_of
from segscore.samples import InstanceSample, SemanticSample
from segscore.semantic import SemanticAccumulator, class_counts, confusion_matrix

HEIGHT, WIDTH = 40, 130
CLASSES = (Category(1, "bag"), Category(2, "can"))
Scenes = tuple[InstanceDataset, list[dict[str, Any]]]


def rectangle(x: int, y: int, width: int, height: int) -> Rle:
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask_HW[y : y + height, x : x + width] = True
    return rle_encode(mask_HW)


def scenes(seed: int, images: int) -> Scenes:
    """Objects of two classes and three sizes, a crowd now and then; results near them."""
    rng = np.random.default_rng(seed)
    objects: list[ObjectRecord] = []
    results: list[dict[str, Any]] = []
    for image_id in range(images):
        for _ in range(rng.integers(0, 5)):
            x, y, width = int(rng.integers(0, 20)), int(rng.integers(0, 5)), int(rng.choice([6, 35, 105]))
            rle, kind = rectangle(x, y, width, min(width, 32)), int(rng.integers(1, 3))
            crowd = bool(rng.random() < 0.1)
            objects.append(ObjectRecord(len(objects), image_id, kind, rle, rle_bbox(rle), rle_area(rle), crowd))
            if rng.random() < 0.8:
                moved = rectangle(x + int(rng.integers(0, 3)), y, width, min(width, 32))
                confidence = float(rng.random())
                results.append(entry(image_id, kind if rng.random() < 0.9 else 1, moved, confidence))
    records = tuple(ImageRecord(i, f"{i}.png", WIDTH, HEIGHT) for i in range(images))
    return InstanceDataset(records, CLASSES, tuple(objects)), results


def entry(image_id: int, kind: int, rle: Rle, confidence: float) -> dict[str, Any]:
    shape = {"segmentation": rle.to_coco(), "bbox": list(rle_bbox(rle))}
    return {"image_id": image_id, "category_id": kind, "score": confidence, **shape}


def sample_of(truth: InstanceDataset, results: list[dict[str, Any]]) -> InstanceSample:
    return InstanceSample("segm", truth.class_names, scene_of(truth, results).matches("segm"))


def drawn(scene: Scenes, counts: list[int]) -> Scenes:
    """The data set in which each image lies as often as it was drawn, copies side by side."""
    truth, results = scene
    places = [image for image, count in enumerate(counts) for _ in range(count)]
    objects = [
        ObjectRecord(0, new, o.category_id, o.segmentation, o.bbox_xywh, o.area_px, o.is_crowd)
        for new, old in enumerate(places)
        for o in truth.objects_of(old)
    ]
    found = [r | {"image_id": new} for new, old in enumerate(places) for r in results if r["image_id"] == old]
    records = tuple(ImageRecord(i, f"{i}.png", WIDTH, HEIGHT) for i in range(len(places)))
    return InstanceDataset(records, CLASSES, tuple(objects)), found


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=5, max_size=5).filter(any))
@settings(max_examples=60, deadline=None)
def test_a_weighted_resample_scores_as_the_data_set_that_was_drawn(seed: int, counts: list[int]) -> None:
    scene = scenes(seed, 5)
    weight_BN = np.array([np.ones(5), counts, np.ones(5)], dtype=np.float64)
    values = sample_of(*scene).metrics(weight_BN)
    for row, data in ((0, scene), (1, drawn(scene, counts)), (2, scene)):
        expected = score_instance_results(*data)
        for name, attribute in (("", "ap"), ("_50", "ap50"), ("_75", "ap75"), ("_s", "ap_small"), ("_m", "ap_medium")):
            np.testing.assert_allclose(values[f"segm_mAP{name}"][row], getattr(expected, attribute), atol=1e-12)
        for name, value in expected.per_class:
            np.testing.assert_allclose(values[f"segm_mAP/{name}"][row], value, atol=1e-12)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=5, max_size=5))
@settings(max_examples=40, deadline=None)
def test_weights_count_by_their_ratios_however_large(seed: int, counts: list[int]) -> None:
    """Sums of such weights need 64 bits; the first resample has ordinary ones."""
    sample = sample_of(*scenes(seed, 5))
    plain = sample.metrics(np.array([np.ones(5), counts], dtype=np.float64))
    large = sample.metrics(np.array([np.ones(5), counts], dtype=np.float64) * [[1], [1 << 30]])
    for name, value in plain.items():
        np.testing.assert_allclose(large[name], value, atol=1e-12)


LABELS = ("background", "bag", "can")


def pixels(seed: int, images: int, right: float) -> tuple[SemanticSample, SemanticAccumulator]:
    """Label maps of which about a share `right` is right, counted image by image and in the evaluator."""
    rng = np.random.default_rng(seed)
    total = SemanticAccumulator(LABELS, boundaries=True)
    counts, edges = [], []
    for _ in range(images):
        true_HW = rng.choice([0, 0, 1, 2, 255], (12, 15)).astype(np.uint8)
        found_HW = np.where(rng.random(true_HW.shape) < right, true_HW % 255, rng.integers(0, 3, true_HW.shape))
        found_HW = found_HW.astype(np.uint8)
        total.add(true_HW, found_HW)
        counts.append(class_counts(confusion_matrix(true_HW, found_HW, 3)))
        edges.append(boundary_counts(true_HW, found_HW, 3))
    return SemanticSample(LABELS, np.stack(counts), np.stack(edges)), total


def test_label_maps_weighted_once_each_score_as_in_the_evaluator() -> None:
    sample, total = pixels(0, 7, 0.7)
    values, scores = sample.metrics(np.ones((2, 7))), total.scores()
    expected = [scores.miou, scores.miou_per_image, scores.accuracy, scores.boundary_iou]
    for name, value in zip(("mIoU", "mIoU_per_image", "accuracy", "boundary_IoU"), expected, strict=True):
        np.testing.assert_allclose(values[name], [value, value], atol=1e-15)
    assert [values[f"IoU/{name}"][1] for name in LABELS] == pytest.approx([value for _, value in scores.per_class])


def test_batches_are_counted_together_and_then_averaged() -> None:
    sample, _ = pixels(1, 5, 0.6)
    parts = [pixels_of(sample, 0, 2), pixels_of(sample, 2, 4), pixels_of(sample, 4, 5)]
    assert sample.miou_per_batch(2) == pytest.approx(np.mean(parts), abs=1e-15)
    ones = sample.metrics(np.ones((1, 5)))
    assert sample.miou_per_batch(1) == pytest.approx(ones["mIoU_per_image"][0], abs=1e-15)
    assert sample.miou_per_batch(5) == sample.miou_per_batch(99) == pytest.approx(ones["mIoU"][0], abs=1e-15)


def pixels_of(sample: SemanticSample, start: int, end: int) -> float:
    part = SemanticSample(LABELS, sample.counts[start:end], sample.boundaries[start:end])
    return float(part.metrics(np.ones((1, end - start)))["mIoU"][0])


def test_intervals_are_those_of_scipy_and_equal_for_equal_seeds() -> None:
    sample, _ = pixels(2, 40, 0.7)
    found = intervals([sample], resamples=4000, seed=1)
    assert found == intervals([sample], resamples=4000, seed=1) != intervals([sample], resamples=4000, seed=2)
    theirs = stats.bootstrap(
        (sample.image_mious,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found["mIoU_per_image"].low == pytest.approx(theirs.low, abs=0.1 * width)
    assert found["mIoU_per_image"].high == pytest.approx(theirs.high, abs=0.1 * width)


def test_of_few_images_every_swap_is_tried() -> None:
    better, worse = pixels(3, 6, 0.9)[0], pixels(3, 6, 0.6)[0]
    found = differences([better], [worse])["mIoU_per_image"]
    apart = better.image_mious - worse.image_mious
    assert found.value == pytest.approx(apart.mean(), abs=1e-12)
    signs = np.array(list(itertools.product([1, -1], repeat=6)))
    assert found.p == np.mean(np.abs(signs @ apart) >= abs(apart.sum()) - 1e-9) == 2 / 64  # all six are better
    assert found.is_real and not differences([worse], [worse])["mIoU_per_image"].is_real
    theirs = stats.permutation_test(
        (better.image_mious, worse.image_mious), lambda a, b: np.mean(a - b), permutation_type="samples"
    )
    assert found.p == theirs.pvalue


def test_swapped_objects_score_as_the_sets_that_the_swap_makes() -> None:
    truth, results = scenes(11, 6)
    fewer = [result for number, result in enumerate(results) if number % 3]
    one, other = sample_of(truth, results), sample_of(truth, fewer)
    p = differences([one], [other])["segm_mAP"].p
    large, observed = 0, score_instance_results(truth, results).ap - score_instance_results(truth, fewer).ap
    for swap in itertools.product([False, True], repeat=6):
        mine = [r for r in results if not swap[r["image_id"]]] + [r for r in fewer if swap[r["image_id"]]]
        theirs = [r for r in fewer if not swap[r["image_id"]]] + [r for r in results if swap[r["image_id"]]]
        apart = score_instance_results(truth, mine).ap - score_instance_results(truth, theirs).ap
        large += abs(apart) >= abs(observed) - 1e-9
    assert p == large / 64


def test_the_difference_of_a_set_from_itself_is_nothing() -> None:
    sample = sample_of(*scenes(5, 30))
    found = differences([sample], [sample], resamples=200)["segm_mAP"]
    assert (found.value, found.interval.low, found.interval.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert not found.is_real


def test_swaps_without_the_metric_count_for_nothing() -> None:
    """A class that neither truth has: each set finds it in one image, and a swap of one leaves a set without it."""
    right = [5, 5, 5]  # of the background: right, in the truth, in the prediction
    found, none = [0, 0, 2], [0, 0, 0]
    one = SemanticSample(LABELS[:2], np.transpose([[right, found], [right, none]], (0, 2, 1)))
    other = SemanticSample(LABELS[:2], np.transpose([[right, none], [right, found]], (0, 2, 1)))
    apart = differences([one], [other])["IoU/bag"]
    assert (apart.value, apart.p) == (0.0, 1.0)  # in both swaps that count, the sets have IoU 0


@pytest.mark.parametrize("images", [7, 12])  # all swaps, and drawn ones
def test_resamples_in_blocks_are_those_of_one_draw(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    first, second = scenes(4, images), scenes(4, images)[1][::2]
    samples = [[sample_of(*first), pixels(4, images, 0.8)[0]], [sample_of(first[0], second), pixels(5, images, 0.7)[0]]]

    def found(block: int) -> str:
        monkeypatch.setattr(importlib.import_module("segscore.intervals"), "_BLOCK", block)
        return repr((intervals(samples[0], resamples=330), differences(*samples, resamples=330)))

    assert found(330) == found(100) == found(7)


def test_chance_alone_is_seldom_called_real() -> None:
    real = 0
    for seed in range(60):
        one, other = pixels(2 * seed, 25, 0.7)[0], pixels(2 * seed + 1, 25, 0.7)[0]
        real += differences([one], [other], resamples=200, seed=seed)["mIoU_per_image"].is_real
    assert real <= 8  # 60 x 5 % = 3 are expected; more than 8 would come up once in 200 times


def test_one_image_has_no_interval_and_an_absent_metric_none() -> None:
    assert intervals([pixels(0, 1, 0.7)[0]]) == {}
    truth, results = scenes(0, 3)
    large = {name for name in intervals([sample_of(truth, results)]) if name.endswith("_l")}
    assert bool(large) == any(obj.area_px > 96**2 and not obj.is_crowd for obj in truth.objects)


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(InputError, match="resamples: expected at least 100, but got 20"):
        intervals([pixels(0, 3, 0.7)[0]], resamples=20)
