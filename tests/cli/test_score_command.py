"""`segsweep score`: the tables at 80 columns, two sets against each other, the JSON, and wrong input."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from segdata.coco import Category, ImageRecord, InstanceDataset, ObjectRecord, write_coco
from segdata.errors import DatasetError, InputError
from segdata.labelmaps import read_labels, write_classes, write_label_map
from segdata.predictions import (
    ImageInstances,
    PredictedImage,
    PredictionMeta,
    PredictionWriter,
    truth_as_predictions,
)
from segdata.rle import Rle, rle_area, rle_bbox, rle_encode
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


def rows_of(result: Result) -> dict[str, list[str]]:
    """The cells of every table row by the first one."""
    lines = [line.strip()[1:-1].split("│") for line in result.output.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_instance_table_names_max_dets_and_averaging(instance: tuple[Path, Path]) -> None:
    predictions, truth = instance
    result = run(predictions, truth)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert "Masks, boxes and boundaries, maxDets 100, 1 image" in result.output
    assert "mean over IoU 0.50:0.05:0.95" in " ".join(result.output.split())
    assert "One image: no interval can be told from it." in result.output
    rows = rows_of(result)
    shown = ("segm_mAP", "bbox_mAP_50", "boundary_AP_75", "segm_mAP/bag [new]")
    assert [rows[name] for name in shown] == [["1.0000", ""]] * 4
    assert (rows["segm_mAP_s"][0], rows["segm_mAP/bottle"][0]) == ("absent", "absent")
    assert rows["calibration_error"][0] == "0.0000"


def test_instance_json_is_unrounded_and_has_null_for_absent(instance: tuple[Path, Path]) -> None:
    predictions, truth = instance
    record = json.loads(run(predictions, truth, "--max-detections", 7, "--json").output)
    assert (record["images"], record["max_detections"], record["objects_found"]) == (1, 7, 1)
    assert record["metrics"]["segm_mAP"] == 1.0
    assert record["metrics"]["segm_mAP_s"] is None
    assert record["calibration"]["bins"][-1] == {
        "low": 0.9, "high": 1.0, "count": 1, "mean_confidence": 1.0, "share_right": 1.0
    }  # fmt: skip


def test_semantic_table_and_json(semantic: tuple[Path, Path, Path]) -> None:
    predictions, labels, images = semantic
    result = run(predictions, labels, "--images", images)
    assert result.exit_code == 0, result.output
    assert "Pixels, 1 image" in result.output
    assert {"mIoU_per_image", "mIoU_per_batch_8", "boundary_IoU"} <= set(rows_of(result))
    assert max(map(len, result.output.splitlines())) <= 80
    record = json.loads(run(predictions, labels, "--json").output)  # images/ lies beside
    assert record["metrics"]["mIoU"] == 1.0
    assert record["metrics"]["IoU/bottle"] is None
    assert (record["max_detections"], record["calibration"]) == (None, None)
    assert record["confusion"] == [[42, 0, 0], [0, 6, 0], [0, 0, 0]]


def test_confusion_names_what_each_class_was_taken_for(semantic: tuple[Path, Path, Path], tmp_path: Path) -> None:
    predictions, labels, _ = semantic
    (tmp_path / "data").mkdir()
    shutil.copytree(tmp_path / "images", tmp_path / "data" / "images")
    shutil.copytree(labels, tmp_path / "data" / "labels")
    label_HW = np.eye(6, 8, dtype=np.uint8)
    label_HW[0, 0] = 2  # one of the six pixels that were found to be a bag
    write_label_map(label_HW, tmp_path / "data" / "labels" / "a.png")
    result = run(predictions, tmp_path / "data", "--confusion", "--batch", 2)
    assert result.exit_code == 0, result.output
    rows = rows_of(result)
    assert rows["bottle"] == ["1", "bag 100.0 %"]
    assert rows["bag"] == ["5", "bag 100.0 %"]
    assert "mIoU_per_batch_2" in rows


def test_confusion_of_many_classes_keeps_their_names_whole(tmp_path: Path) -> None:
    names = tuple(f"class number {index}" for index in range(9))
    rng = np.random.default_rng(0)
    for folder, label_HW in (("truth", rng.integers(0, 9, (40, 50))), ("found", rng.integers(0, 9, (40, 50)))):
        for part in ("images", "labels"):
            (tmp_path / folder / part).mkdir(parents=True)
        write_classes(tmp_path / folder / "labels", names)
        Image.new("RGB", (50, 40)).save(tmp_path / folder / "images" / "a.png")
        write_label_map(label_HW.astype(np.uint8), tmp_path / folder / "labels" / "a.png")
    found = read_labels(tmp_path / "found" / "images", tmp_path / "found" / "labels")
    result = run(truth_as_predictions(found, tmp_path / "predictions"), tmp_path / "truth", "--confusion")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    counts = {name: rows_of(result)[name][0] for name in names}
    labels = np.asarray(Image.open(tmp_path / "truth" / "labels" / "a.png"))
    assert counts == {name: str((labels == index).sum()) for index, name in enumerate(names)}


def disc(x: int, radius: int) -> Rle:
    rows, columns = np.ogrid[:64, :96]
    return rle_encode((columns - x) ** 2 + (rows - 32) ** 2 < radius**2)


@pytest.fixture
def two_sets(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Twelve images with two discs each; the first set has both, larger by a pixel, the second misses one in most."""
    images = tuple(ImageRecord(i, f"{i}.png", 96, 64) for i in range(12))
    objects = tuple(
        ObjectRecord(2 * image.id + side, image.id, 1, disc(x, 12), rle_bbox(disc(x, 12)), rle_area(disc(x, 12)), False)
        for image in images
        for side, x in enumerate((20, 70))
    )
    write_coco(InstanceDataset(images, (Category(1, "bag"),), objects), tmp_path / "truth.json")
    meta = PredictionMeta(
        task="instance",
        classes=("bag",),
        category_ids=(1,),
        dataset_fingerprint="0",
        code_version="0",
        codec="coco-rle",
    )
    for name in ("good", "poor"):
        with PredictionWriter(tmp_path / name, meta) as writer:
            for image in images:
                places = (20,) if name == "poor" and image.id % 4 else (20, 70)
                rles = tuple(disc(x, 13) for x in places)
                boxes = [(x, y, x + w, y + h) for x, y, w, h in map(rle_bbox, rles)]
                record = PredictedImage(id=image.id, file_name=image.file_name, width=96, height=64)
                writer.add_instances(record, ImageInstances.of(boxes, [0.9] * len(rles), [0] * len(rles), rles))
    return tmp_path / "good", tmp_path / "poor", tmp_path / "truth.json"


def test_a_set_that_is_really_better_is_called_so(two_sets: tuple[Path, Path, Path]) -> None:
    good, poor, truth = two_sets
    result = run(good, truth, "--against", poor)
    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.output.splitlines()[2:]) <= 80
    assert "A is really better than B: segm_mAP +" in result.output
    assert "12 images are few" in result.output
    mine, theirs, apart, interval, p = rows_of(result)["segm_mAP"]
    assert float(mine) - float(theirs) == pytest.approx(float(apart), abs=2e-4)
    assert interval.startswith("+") and float(p) < 0.05
    assert "A is really worse than B" in run(poor, truth, "--against", good).output


def test_a_set_against_itself_shows_no_difference(two_sets: tuple[Path, Path, Path]) -> None:
    good, _, truth = two_sets
    result = run(good, truth, "--against", good)
    assert "No real difference is shown between A and B: segm_mAP +0.0000" in " ".join(result.output.split())
    assert rows_of(result)["segm_mAP"][2:] == ["+0.0000", "+0.0000 to +0.0000", "1.000"]


def test_json_holds_intervals_and_differences(two_sets: tuple[Path, Path, Path]) -> None:
    good, poor, truth = two_sets
    record = json.loads(run(good, truth, "--against", poor, "--json", "--seed", 3).output)
    assert (record["resamples"], record["seed"]) == (1000, 3)
    low, high = record["intervals"]["segm_mAP"]
    assert low <= record["metrics"]["segm_mAP"] <= high
    found = record["against"]["differences"]["segm_mAP"]
    assert found["value"] == record["metrics"]["segm_mAP"] - record["against"]["metrics"]["segm_mAP"]
    assert found["interval"][0] <= found["value"] <= found["interval"][1]
    assert found["is_real"] is True


def test_without_resamples_there_are_no_intervals(two_sets: tuple[Path, Path, Path]) -> None:
    good, poor, truth = two_sets
    record = json.loads(run(good, truth, "--against", poor, "--json", "--resamples", 0).output)
    assert (record["intervals"], record["against"]["differences"]) == ({}, {})


def test_calibration_shows_how_many_of_each_confidence_are_right(two_sets: tuple[Path, Path, Path]) -> None:
    good, _, truth = two_sets
    result = run(good, truth, "--calibration", "--resamples", 0)
    assert rows_of(result)["0.8 to 0.9"] == ["24", "0.9000", "1.0000"]
    assert rows_of(result)["0.1 to 0.2"] == ["0", "", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resamples", "50"], "--resamples: expected 0, or 100 or more, but got 50"),
        (["--confusion"], "--confusion: expected a semantic prediction set, but got an instance one"),
        (["--images", "."], "--images: expected a semantic prediction set, but got an instance one"),
        (["--batch", "4"], "--batch: expected a semantic prediction set, but got an instance one"),
        (["--seed", "-1"], "--seed: expected 0 or more, but got -1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: list[str], message: str, instance: tuple[Path, Path]) -> None:
    error = run(*instance, *options).exception
    assert isinstance(error, InputError)
    assert message in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "batch: expected at least 1, but got 0"),
        (["--max-detections", "9"], "--max-detections: expected an instance prediction set, but got a semantic one"),
    ],
)
def test_options_that_do_not_fit_label_maps_are_refused(
    options: list[str], message: str, semantic: tuple[Path, Path, Path]
) -> None:
    predictions, labels, images = semantic
    error = run(predictions, labels, "--images", images, *options).exception
    assert isinstance(error, InputError)
    assert message in str(error)


def test_calibration_of_labels_without_probabilities_is_refused(semantic: tuple[Path, Path, Path]) -> None:
    error = run(*semantic[:2], "--calibration").exception
    assert isinstance(error, InputError)
    assert "--calibration: expected predictions with confidences, but got labels only" in str(error)


def test_sets_of_other_tasks_are_not_compared(instance: tuple[Path, Path], semantic: tuple[Path, Path, Path]) -> None:
    error = run(*instance, "--against", semantic[0]).exception
    assert isinstance(error, InputError)
    assert "expected predictions of the same task, instance, but got semantic" in str(error)


def test_a_truth_that_is_not_there_is_refused(instance: tuple[Path, Path], tmp_path: Path) -> None:
    error = run(instance[0], tmp_path / "nothing").exception
    assert isinstance(error, InputError)
    assert "nothing: expected a COCO JSON file, a folder of label maps, or a dataset folder" in str(error)


def test_label_maps_without_images_are_refused(semantic: tuple[Path, Path, Path], tmp_path: Path) -> None:
    shutil.copytree(semantic[1], tmp_path / "alone" / "labels")
    error = run(semantic[0], tmp_path / "alone" / "labels").exception
    assert isinstance(error, InputError)
    assert "expected the images of the label maps in" in str(error) and "--images" in str(error)


def test_a_dataset_folder_with_both_kinds_of_labels_fits_both_tasks(
    instance: tuple[Path, Path], semantic: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    shutil.copy(instance[1], tmp_path / "annotations.json")
    for predictions, name in ((instance[0], "segm_mAP"), (semantic[0], "mIoU")):
        record = json.loads(run(predictions, tmp_path, "--json").output)
        assert record["metrics"][name] == 1.0


def test_predictions_that_are_none_are_refused(instance: tuple[Path, Path], tmp_path: Path) -> None:
    error = run(tmp_path / "nowhere", instance[1]).exception
    assert isinstance(error, DatasetError)
    assert "expected a prediction set with meta.json" in str(error)


def test_truth_of_the_other_task_is_refused(instance: tuple[Path, Path], semantic: tuple[Path, Path, Path]) -> None:
    error = run(semantic[0], instance[1]).exception
    assert isinstance(error, InputError)
    assert "expected predictions of the truth's task, instance, but got semantic" in str(error)


OWN = """
def share(truths, predictions, ignore_index):
    pairs = list(zip(truths, predictions))
    return sum((t == p).mean() for t, p in pairs) / len(pairs)


def found(truth, found):
    return len(found) / len(truth["annotations"])


def broken(truth, found):
    return 1 / 0
"""


def test_a_metric_of_ones_own_is_scored_beside_the_others(
    instance: tuple[Path, Path], semantic: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    predictions, labels, images = semantic
    result = run(
        predictions, labels, "--images", images, "--metric", f"{tmp_path}/own.py:share", "--against", predictions
    )
    assert rows_of(result)["share"][:3] == ["1.0000", "1.0000", "+0.0000"]
    told = json.loads(run(*instance, "--metric", f"{tmp_path}/own.py:found", "--json").output)
    assert told["metrics"]["found"] == 1.0 and told["metrics"]["segm_mAP"] == 1.0


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("own.py", r"--metric .*own\.py: expected FILE\.py:FUNCTION, but got"),
        ("gone.py:found", r"expected a Python file at .*gone\.py, but got none"),
        ("own.py:none", r"expected a function none in .*own\.py, but got none"),
        ("own.py:share", r"expected share to take truth, found, but got \(truths, predictions, ignore_index\)"),
        ("own.py:broken", r"--metric: .*own\.py:12: expected a metric that returns, but got ZeroDivisionError"),
    ],
)
def test_a_metric_of_ones_own_that_is_wrong_is_told(
    instance: tuple[Path, Path], tmp_path: Path, metric: str, message: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    result = run(*instance, "--metric", f"{tmp_path}/{metric}")
    assert isinstance(result.exception, InputError) and re.search(message, str(result.exception)), result.exception
