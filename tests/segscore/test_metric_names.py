"""Metric names: each is a value of the scores, and a prediction set of either task gets all of its own."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdata.coco import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.errors import InputError
from segdata.labelmaps import SemanticDataset, read_labels, write_classes, write_label_map
from segdata.predictions import PredictionSet, truth_as_predictions
from segscore import METRICS, score_predictions
from segscore.metrics import names_boundaries

SUFFIXES = ("", "_50", "_75", "_s", "_m", "_l")
INSTANCE_NAMES = {f"{kind}_mAP{suffix}" for kind in ("segm", "bbox") for suffix in SUFFIXES}
BOUNDARY_NAMES = {f"boundary_AP{suffix}" for suffix in SUFFIXES}


@pytest.fixture
def objects() -> InstanceDataset:
    square = ((5.0, 5.0, 45.0, 5.0, 45.0, 45.0, 5.0, 45.0),)
    return InstanceDataset(
        (ImageRecord(1, "a.png", 64, 64),),
        (Category(1, "bag"), Category(2, "glass bottle")),
        (ObjectRecord(1, 1, 1, square, (5.0, 5.0, 40.0, 40.0), 1600.0, False),),
    )


@pytest.fixture
def pixels(tmp_path: Path) -> SemanticDataset:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    write_classes(tmp_path / "labels", ("background", "bag"))
    Image.new("RGB", (8, 6)).save(tmp_path / "images" / "a.png")
    write_label_map(np.eye(6, 8, dtype=np.uint8), tmp_path / "labels" / "a.png")
    return read_labels(tmp_path / "images", tmp_path / "labels")


def test_instances_get_mask_and_box_scores_by_name(objects: InstanceDataset, tmp_path: Path) -> None:
    values = score_predictions(objects, PredictionSet.open(truth_as_predictions(objects, tmp_path / "truth")))
    per_class = {f"{kind}_mAP/{name}" for kind in ("segm", "bbox") for name in objects.class_names}
    assert set(values) == INSTANCE_NAMES | per_class
    absent = {name for name, value in values.items() if math.isnan(value)}
    assert absent == {name for name in values if name.endswith(("_s", "_l", "/glass bottle"))}
    assert all(values[name] == 1.0 for name in set(values) - absent)


def test_semantic_gets_its_scores_by_name(pixels: SemanticDataset, tmp_path: Path) -> None:
    values = score_predictions(pixels, PredictionSet.open(truth_as_predictions(pixels, tmp_path / "truth")))
    assert values == {"mIoU": 1, "mIoU_per_image": 1, "accuracy": 1, "IoU/background": 1, "IoU/bag": 1}


def test_boundaries_are_scored_where_they_are_asked_for(
    objects: InstanceDataset, pixels: SemanticDataset, tmp_path: Path
) -> None:
    found = PredictionSet.open(truth_as_predictions(objects, tmp_path / "objects"))
    values = score_predictions(objects, found, boundaries=True)
    per_class = {f"{kind}/{name}" for kind in ("segm_mAP", "bbox_mAP", "boundary_AP") for name in objects.class_names}
    assert set(values) == INSTANCE_NAMES | BOUNDARY_NAMES | per_class
    assert (values["boundary_AP"], values["boundary_AP/bag"], values["boundary_AP_m"]) == (1.0, 1.0, 1.0)
    of_pixels = PredictionSet.open(truth_as_predictions(pixels, tmp_path / "pixels"))
    assert score_predictions(pixels, of_pixels, boundaries=True)["boundary_IoU"] == 1.0


def test_names_of_boundaries_are_known() -> None:
    assert {name for name in METRICS if names_boundaries([name])} == BOUNDARY_NAMES | {"boundary_IoU"}
    assert (
        names_boundaries(["mIoU", "boundary_IoU"]) and not names_boundaries([]) and not names_boundaries(["boundary"])
    )


def test_every_metric_belongs_to_a_task() -> None:
    assert {name for name, metric in METRICS.items() if metric.task == "instance"} == INSTANCE_NAMES | BOUNDARY_NAMES
    assert {name for name, metric in METRICS.items() if metric.task == "semantic"} == {
        "mIoU",
        "mIoU_per_image",
        "accuracy",
        "boundary_IoU",
    }


def test_truth_of_the_other_task_is_refused(objects: InstanceDataset, pixels: SemanticDataset, tmp_path: Path) -> None:
    predictions = PredictionSet.open(truth_as_predictions(pixels, tmp_path / "truth"))
    with pytest.raises(InputError, match="expected predictions of the truth's task, instance, but got semantic"):
        score_predictions(objects, predictions)
