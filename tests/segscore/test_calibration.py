"""Calibration: tables counted by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import read_labels, write_classes, write_label_map
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import Rle, rle_area, rle_bbox, rle_encode
from segscore import evaluate
from segscore.calibration import calibration_of, count_confidences


def test_the_error_is_the_mean_gap_weighted_by_count() -> None:
    confidences = np.array([0.95, 0.85, 0.85, 0.85, 0.15])
    right = np.array([True, True, False, False, True])
    calibration = calibration_of(count_confidences(confidences, right))
    # (1 x |1 - 0.95| + 3 x |1/3 - 0.85| + 1 x |1 - 0.15|) / 5
    assert calibration.error == pytest.approx((0.05 + 1.55 + 0.85) / 5, abs=1e-15)
    row = calibration.bins[8]
    assert (row.low, row.high, row.count) == (pytest.approx(0.8), pytest.approx(0.9), 3)
    assert (row.mean_confidence, row.share_right) == (pytest.approx(0.85), pytest.approx(1 / 3))
    assert calibration.bins[3].count == 0 and math.isnan(calibration.bins[3].share_right)


def test_bins_are_open_below_and_closed_above() -> None:
    counts = count_confidences(np.array([0.0, 0.1, 0.3, 0.7, 0.71, 1.0]), np.ones(6, bool))[0]
    assert counts.tolist() == [2, 0, 1, 0, 0, 0, 1, 1, 0, 1]


def test_nothing_predicted_has_no_error() -> None:
    assert math.isnan(calibration_of(count_confidences(np.zeros(0), np.zeros(0, bool))).error)


def square(x: int) -> Rle:
    mask_HW = np.zeros((40, 60), dtype=bool)
    mask_HW[5:15, x : x + 10] = True
    return rle_encode(mask_HW)


def test_detections_are_right_at_half_an_iou_and_crowds_are_left_out(tmp_path: Path) -> None:
    image, classes = ImageRecord(1, "a.png", 60, 40), (Category(1, "bag"),)
    objects = tuple(
        ObjectRecord(x, 1, 1, square(x), rle_bbox(square(x)), rle_area(square(x)), x == 40) for x in (0, 20, 40)
    )
    rles = (square(2), square(26), square(41))  # IoU 8/12 with the first, 4/16 with the second, within the crowd
    meta = PredictionMeta(
        task="instance",
        classes=("bag",),
        category_ids=(1,),
        dataset_fingerprint="0",
        code_version="0",
        codec="coco-rle",
    )
    with PredictionWriter(tmp_path / "found", meta) as writer:
        boxes = [(x, 5, x + 10, 15) for x in (2, 26, 41)]
        record = PredictedImage(id=1, file_name="a.png", width=60, height=40)
        writer.add_instances(record, ImageInstances.of(boxes, [0.75, 0.5, 0.25], [0, 0, 0], rles))
    evaluation = evaluate(InstanceDataset((image,), classes, objects), PredictionSet.open(tmp_path / "found"))
    assert evaluation.calibration is not None
    table = {round(row.mean_confidence, 2): row.share_right for row in evaluation.calibration.bins if row.count}
    assert table == {0.75: 1.0, 0.5: 0.0}
    assert evaluation.values["calibration_error"] == pytest.approx((0.25 + 0.5) / 2)


def test_pixels_count_with_their_largest_probability(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_classes(tmp_path / "labels", ("background", "bag"))
    Image.new("RGB", (4, 1)).save(tmp_path / "images" / "a.png")
    write_label_map(np.array([[0, 0, 1, 255]], np.uint8), tmp_path / "labels" / "a.png")
    meta = PredictionMeta(
        task="semantic", classes=("background", "bag"), dataset_fingerprint="0", code_version="0", codec="prob8"
    )
    bag_HW = np.array([[51, 204, 204, 255]]) / 255  # 0.2, 0.8, 0.8, ignored
    with PredictionWriter(tmp_path / "found", meta) as writer:
        record = PredictedImage(id=1, file_name="a.png", width=4, height=1)
        writer.add_probabilities(record, np.stack([1 - bag_HW, bag_HW]))
    truth = read_labels(tmp_path / "images", tmp_path / "labels")
    evaluation = evaluate(truth, PredictionSet.open(tmp_path / "found"))
    # each of the three pixels is 0.8 sure, two of them are right
    assert evaluation.values["calibration_error"] == pytest.approx(0.8 - 2 / 3, abs=1e-6)
    assert evaluation.confusion is not None and evaluation.confusion.tolist() == [[1, 1], [0, 1]]
