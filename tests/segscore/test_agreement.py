"""Predictions that do not belong to the truth, or are broken, are refused, and the message names what differs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segdata.errors import DatasetError, InputError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import SemanticDataset, read_labels, write_classes, write_label_map
from segdata.predictions import PredictionSet, truth_as_predictions
from segdata.rle import rle_encode
from segscore import evaluate, score_predictions

MASK_HW = np.ones((6, 8), dtype=bool)


def objects(*names: str, classes: tuple[str, ...] = ("bag", "can"), size: tuple[int, int] = (8, 6)) -> InstanceDataset:
    """One object that covers the image, in each image."""
    width, height = size
    rle, box = rle_encode(np.ones((height, width), dtype=bool)), (0.0, 0.0, float(width), float(height))
    return InstanceDataset(
        tuple(ImageRecord(index, name, width, height) for index, name in enumerate(names)),
        tuple(Category(index, name) for index, name in enumerate(classes)),
        tuple(ObjectRecord(index, index, 0, rle, box, float(width * height), False) for index in range(len(names))),
    )


def found_in(dataset: InstanceDataset | SemanticDataset, path: Path) -> PredictionSet:
    return PredictionSet.open(truth_as_predictions(dataset, path))


def test_images_that_were_not_predicted_are_named(tmp_path: Path) -> None:
    found = found_in(objects("a.png"), tmp_path / "found")
    message = r"found: expected a prediction for 'b.png', 'c.png', 'd.png' and 1 more images, but got none among 1 pred"
    with pytest.raises(DatasetError, match=message):
        evaluate(objects("a.png", "b.png", "c.png", "d.png", "e.png"), found)


def test_a_set_of_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected a prediction for 'a.png', but got none among 0 predicted images"):
        evaluate(objects("a.png"), found_in(objects(), tmp_path / "found"))


def test_truth_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected images in the truth, but got none"):
        evaluate(objects(), found_in(objects("a.png"), tmp_path / "found"))


def test_classes_that_differ_are_named(tmp_path: Path) -> None:
    found = found_in(objects("a.png", classes=("bag", "cup")), tmp_path / "found")
    message = r"expected the truth's classes \(bag, can\), but got \(bag, cup\); missing: can, not in the truth: cup"
    with pytest.raises(DatasetError, match=message):
        evaluate(objects("a.png"), found)


def test_images_of_another_size_are_named(tmp_path: Path) -> None:
    found = found_in(objects("a.png", "b.png", size=(16, 6)), tmp_path / "found")
    with pytest.raises(DatasetError, match=r"expected 8x6 pixels for 'a.png', 'b.png', but got 16x6"):
        evaluate(objects("a.png", "b.png"), found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": 1.5}, r"expected confidences from 0 to 1 in a.png, but got 1.5 in object 0"),
        ({"score": -0.1}, r"expected confidences from 0 to 1 in a.png, but got -0.1 in object 0"),
        ({"score": float("nan")}, r"expected confidences from 0 to 1 in a.png, but got nan in object 0"),
        ({"bbox": [0, 0, float("nan"), 6]}, r"expected finite boxes in a.png, but got \(0, 0, nan, 6\) in object 0"),
        (
            {"segmentation": rle_encode(MASK_HW.T).to_coco()},
            r"expected a mask of size \[6, 8\], but got \[8, 6\]",
        ),
    ],
)
def test_numbers_that_another_program_wrote_are_checked(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    truth = objects("a.png")
    folder = truth_as_predictions(truth, tmp_path / "found")
    results = json.loads((folder / "instances.json").read_text())
    (folder / "instances.json").write_text(json.dumps([results[0] | changes]))
    (folder / "instances_index.json").unlink()
    with pytest.raises(DatasetError, match=message):
        score_predictions(truth, PredictionSet.open(folder))


def test_labels_that_are_no_class_are_named_with_their_image(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_classes(tmp_path / "labels", ("background", "bag"))
    Image.new("RGB", (8, 6)).save(tmp_path / "images" / "a.png")
    write_label_map(np.zeros((6, 8), np.uint8), tmp_path / "labels" / "a.png")
    truth = read_labels(tmp_path / "images", tmp_path / "labels")
    found = found_in(truth, tmp_path / "found")
    write_label_map(np.full((6, 8), 7, np.uint8), found.path / "labels" / "a.png")
    with pytest.raises(
        DatasetError, match=r"a.png: labels of the prediction: expected class indices below 2, but got 7"
    ):
        evaluate(truth, found)
    with pytest.raises(InputError, match="expected predictions of the truth's task, instance, but got semantic"):
        evaluate(objects("a.png"), found)


def test_predicted_images_beyond_the_truth_are_left_out(tmp_path: Path) -> None:
    found = found_in(objects("a.png", "b.png"), tmp_path / "found")
    evaluation = evaluate(objects("a.png"), found)
    assert (evaluation.values["segm_mAP"], evaluation.scores[0].images, evaluation.objects_found) == (1.0, 1, 1)


def test_images_predicted_to_be_empty_score_nothing(tmp_path: Path) -> None:
    truth = objects("a.png", "b.png")
    empty = InstanceDataset(truth.images, truth.categories, ())
    evaluation = evaluate(truth, found_in(empty, tmp_path / "found"))
    assert (evaluation.values["segm_mAP"], evaluation.objects_found) == (0.0, 0)
    assert np.isnan(evaluation.values["calibration_error"])
