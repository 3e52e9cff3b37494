"""mIoU and accuracy: scikit-learn as the oracle, and arithmetic by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.metrics import confusion_matrix as sklearn_confusion

from segdata.errors import DatasetError
from segdata.labelmaps import SemanticDataset, read_labels, write_classes, write_label_map
from segdata.predictions import PredictionSet, truth_as_predictions
from segscore import SemanticAccumulator, confusion_matrix, iou_per_class, score_semantic, scores_from_confusion

CLASSES = ("background", "bag", "bottle")
labels_5_6 = hnp.arrays(np.uint8, (5, 6), elements=st.integers(0, 2))


@given(labels_5_6, labels_5_6)
@settings(max_examples=60, deadline=None)
def test_equals_scikit_learn(truth_HW: np.ndarray, predicted_HW: np.ndarray) -> None:
    counts = confusion_matrix(truth_HW, predicted_HW, 3)
    truth, predicted = truth_HW.ravel(), predicted_HW.ravel()
    np.testing.assert_array_equal(counts, sklearn_confusion(truth, predicted, labels=[0, 1, 2]))
    present = np.union1d(truth, predicted)
    expected = jaccard_score(truth, predicted, labels=present, average=None)
    np.testing.assert_allclose(iou_per_class(counts)[present], expected, rtol=1e-15)
    scores = scores_from_confusion(counts, CLASSES)
    assert scores.miou == pytest.approx(expected.mean(), abs=1e-15)
    assert scores.accuracy == accuracy_score(truth, predicted)


def test_counts_first_ratios_last() -> None:
    accumulator = SemanticAccumulator(CLASSES)
    accumulator.add(np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8))
    accumulator.add(np.array([[0, 0, 0, 255]], np.uint8), np.array([[0, 0, 0, 2]], np.uint8))
    scores = accumulator.scores()
    # over the data set: background 4 of 5, bag 2 of 3, bottle absent (its one pixel is ignored)
    assert scores.miou == pytest.approx((4 / 5 + 2 / 3) / 2, abs=1e-15)
    # image 1: background 1/2, bag 2/3; image 2: background only, 1
    assert scores.miou_per_image == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2, abs=1e-15)
    assert scores.accuracy == 6 / 7
    assert scores.per_class[:2] == (("background", 4 / 5), ("bag", 2 / 3))
    assert math.isnan(scores.per_class[2][1])
    assert scores.images == 2


def test_a_class_predicted_where_there_is_none_counts_as_0() -> None:
    counts = confusion_matrix(np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 2]], np.uint8), 3)
    np.testing.assert_array_equal(iou_per_class(counts), [3 / 4, np.nan, 0.0])


def test_an_image_that_is_all_ignored_is_in_no_mean() -> None:
    accumulator = SemanticAccumulator(CLASSES)
    accumulator.add(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert math.isnan(accumulator.scores().miou)
    assert math.isnan(accumulator.scores().accuracy)
    accumulator.add(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    assert accumulator.scores().miou_per_image == 1.0


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([[0, 1]], [[0], [1]], r"expected \(height, width\) \(1, 2\) as the truth, but got \(2, 1\)"),
        ([[0, 3]], [[0, 0]], "labels of the truth: expected class indices below 3, but got 3"),
        ([[0, 0]], [[0, 255]], "labels of the prediction: expected class indices below 3, but got 255"),
    ],
)
def test_broken_labels_are_refused(truth: list[list[int]], predicted: list[list[int]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        confusion_matrix(np.array(truth, np.uint8), np.array(predicted, np.uint8), 3)


@pytest.fixture
def dataset(tmp_path: Path) -> SemanticDataset:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    write_classes(tmp_path / "labels", CLASSES)
    for name in ("a", "b"):
        Image.new("RGB", (16, 12)).save(tmp_path / "images" / f"{name}.jpg")
        write_label_map(rng.choice([0, 1, 2, 255], (12, 16)).astype(np.uint8), tmp_path / "labels" / f"{name}.png")
    return read_labels(tmp_path / "images", tmp_path / "labels")


def test_the_truth_itself_scores_exactly_1(dataset: SemanticDataset, tmp_path: Path) -> None:
    scores = score_semantic(dataset, PredictionSet.open(truth_as_predictions(dataset, tmp_path / "truth")))
    assert (scores.miou, scores.miou_per_image, scores.accuracy, scores.images) == (1.0, 1.0, 1.0, 2)


def test_an_image_that_was_not_predicted_is_named(dataset: SemanticDataset, tmp_path: Path) -> None:
    predictions = PredictionSet.open(truth_as_predictions(dataset.subset(["a.jpg"]), tmp_path / "some"))
    with pytest.raises(DatasetError, match=r"expected a prediction for 'b\.jpg'"):
        score_semantic(dataset, predictions)


def test_other_classes_are_refused(dataset: SemanticDataset, tmp_path: Path) -> None:
    predictions = PredictionSet.open(truth_as_predictions(dataset, tmp_path / "truth"))
    renamed = SemanticDataset(dataset.images, ("background", "bottle", "bag"), dataset.ignore_index)
    with pytest.raises(DatasetError, match=r"expected the truth's classes \(background, bottle, bag\) in this order"):
        score_semantic(renamed, predictions)
