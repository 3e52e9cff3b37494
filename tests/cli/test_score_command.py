"""`segsweep score`: the tables at 80 columns, the JSON, and wrong input."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from segdata.coco import Category, ImageRecord, InstanceDataset, ObjectRecord, write_coco
from segdata.errors import DatasetError, InputError
from segdata.labelmaps import read_labels, write_classes, write_label_map
from segdata.predictions import truth_as_predictions
from segsweep.cli.score import score


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(score)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def instance(tmp_path: Path) -> tuple[Path, Path]:
    square = ((5.0, 5.0, 45.0, 5.0, 45.0, 45.0, 5.0, 45.0),)
    dataset = InstanceDataset(
        (ImageRecord(1, "a.png", 64, 64),),
        (Category(1, "bag [new]"), Category(2, "bottle")),
        (ObjectRecord(1, 1, 1, square, (5.0, 5.0, 40.0, 40.0), 1600.0, False),),
    )
    write_coco(dataset, tmp_path / "truth.json")
    return truth_as_predictions(dataset, tmp_path / "objects"), tmp_path / "truth.json"


@pytest.fixture
def semantic(tmp_path: Path) -> tuple[Path, Path, Path]:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    write_classes(labels, ("background", "bag", "bottle"))
    Image.new("RGB", (8, 6)).save(images / "a.png")
    write_label_map(np.eye(6, 8, dtype=np.uint8), labels / "a.png")
    return truth_as_predictions(read_labels(images, labels), tmp_path / "pixels"), labels, images


def test_instance_tables_name_max_dets_and_averaging(instance: tuple[Path, Path]) -> None:
    predictions, truth = instance
    result = run(predictions, "--annotations", truth)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Masks, maxDets 100, 1 images" in result.output
    assert "Boxes, maxDets 100, 1 images" in result.output
    assert "mean over IoU 0.50:0.05:0.95" in " ".join(result.output.split())
    row = {cells[0].strip(): cells[1].strip() for line in lines if len(cells := line.strip("│┃ ").split("│")) == 2}
    assert (row["segm_mAP"], row["bbox_mAP_50"], row["segm_mAP/bag [new]"]) == ("1.0000", "1.0000", "1.0000")
    assert (row["segm_mAP_s"], row["segm_mAP/bottle"]) == ("absent", "absent")


def test_instance_json_is_unrounded_and_has_null_for_absent(instance: tuple[Path, Path]) -> None:
    predictions, truth = instance
    record = json.loads(run(predictions, "--annotations", truth, "--max-detections", 7, "--json").output)
    assert (record["images"], record["max_detections"]) == (1, 7)
    assert record["metrics"]["segm_mAP"] == 1.0
    assert record["metrics"]["segm_mAP_s"] is None


def test_semantic_table_and_json(semantic: tuple[Path, Path, Path]) -> None:
    predictions, labels, images = semantic
    result = run(predictions, "--labels", labels, "--images", images)
    assert result.exit_code == 0, result.output
    assert "Pixels, 1 images" in result.output
    assert "mIoU_per_image" in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    record = json.loads(run(predictions, "--labels", labels, "--images", images, "--json").output)
    assert record["metrics"]["mIoU"] == 1.0
    assert record["metrics"]["IoU/bottle"] is None
    assert record["max_detections"] is None


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ([], "neither"),
        (["--labels", "x"], "--labels"),
        (["--annotations", "x", "--labels", "y", "--images", "z"], "--annotations, --labels, --images"),
    ],
)
def test_a_truth_that_is_not_clear_is_refused(options: list[str], got: str, instance: tuple[Path, Path]) -> None:
    error = run(instance[0], *options).exception
    assert isinstance(error, InputError)
    assert f"but got {got}. Name the truth" in str(error)
    assert error.exit_code == 2


def test_predictions_that_are_none_are_refused(instance: tuple[Path, Path], tmp_path: Path) -> None:
    error = run(tmp_path / "nowhere", "--annotations", instance[1]).exception
    assert isinstance(error, DatasetError)
    assert "expected a prediction set with meta.json" in str(error)


def test_truth_of_the_other_task_is_refused(instance: tuple[Path, Path], semantic: tuple[Path, Path, Path]) -> None:
    error = run(semantic[0], "--annotations", instance[1]).exception
    assert isinstance(error, InputError)
    assert "expected predictions of the truth's task, instance, but got semantic" in str(error)
