"""Pseudo labels: what is sure of a prediction set becomes a data set that trains."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from segdata.coco import read_coco
from segdata.dataset_folder import open_dataset_folder
from segdata.defects import find_defects
from segdata.errors import DatasetError, InputError
from segdata.labelmaps import read_label_map, read_labels, write_label_map
from segdata.pseudo_labels import SureObjects, SurePixels, overlapping, write_pseudo_labels
from tests.segdata.submitted_sets import (
    HEIGHT,
    IMAGES,
    WIDTH,
    crowded,
    instance_set,
    label_set,
    objects,
    probability_set,
    random_labels,
    with_confidence,
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for value, image in enumerate(IMAGES):
        pixels = np.full((HEIGHT, WIDTH, 3), 90 * value, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / image.file_name)
    return tmp_path / "photos"


def probabilities(sure: float, unsure: float, unsure_pixels: int, index: int = 1) -> npt.NDArray[np.float64]:
    """One class in the first 20 of 24 pixels, that many of them unsure; the rest is background with 1.0."""
    prob_CHW = np.zeros((3, HEIGHT * WIDTH))
    prob_CHW[index, :20] = sure
    prob_CHW[index, :unsure_pixels] = unsure
    prob_CHW[0] = 1 - prob_CHW[index]
    return prob_CHW.reshape(3, HEIGHT, WIDTH)


def errors(folder: Path) -> list[str]:
    parts = open_dataset_folder(folder)
    found = find_defects(images=parts.images, annotations=parts.annotations, labels=parts.labels)
    return [defect.detail for defect in found if defect.severity == "error"]


def test_sure_objects_become_coco_annotations(photos: Path, tmp_path: Path) -> None:
    written = write_pseudo_labels(crowded(tmp_path / "set"), photos, tmp_path / "out", SureObjects(0.5))
    assert (written.kept, written.labels) == (1, 2)
    assert written.dropped == {"a.jpg": "no object with confidence 0.5 or more"}
    dataset = read_coco(tmp_path / "out" / "annotations.json")
    assert [image.file_name for image in dataset.images] == ["b.png"]
    assert (dataset.category_ids, dataset.class_names) == ((5, 9), ("bag", "bottle"))
    assert [(obj.category_id, obj.bbox_xywh, obj.area_px) for obj in dataset.objects] == [
        (5, (0, 0, 4, 2), 8),
        (5, (2, 0, 4, 2), 8),
    ]
    assert errors(tmp_path / "out") == []
    origin = json.loads((tmp_path / "out" / "pseudo_labels.json").read_text())
    assert origin["predictions"] == str(tmp_path / "set") and origin["trial"] == "0003"
    assert origin["rules"] == {"min_confidence": 0.5, "keep_empty": False}
    assert (origin["kept"], origin["dropped"]) == (1, written.dropped)


def test_images_without_objects_stay_when_asked_for(photos: Path, tmp_path: Path) -> None:
    written = write_pseudo_labels(crowded(tmp_path / "set"), photos, tmp_path / "o", SureObjects(0.9, keep_empty=True))
    assert (written.kept, written.dropped, written.labels) == (2, {}, 0)
    assert errors(tmp_path / "o") == []


def test_images_are_further_names_of_the_same_files(photos: Path, tmp_path: Path) -> None:
    write_pseudo_labels(crowded(tmp_path / "set"), photos, tmp_path / "out", SureObjects())
    assert (tmp_path / "out" / "images" / "b.png").samefile(photos / "b.png")


def test_an_image_is_dropped_when_more_than_a_tenth_of_its_foreground_is_unsure(photos: Path, tmp_path: Path) -> None:
    # 2 of 20 are a tenth, 3 are more; 0.8 = 204/255 counts as unsure.
    found = probability_set(tmp_path / "set", probabilities(0.9, 0.8, 2), probabilities(0.9, 0.8, 3))
    written = write_pseudo_labels(found, photos, tmp_path / "out", SurePixels())
    assert (written.kept, written.labels) == (1, 20)
    assert written.dropped == {"a.jpg": "15.0% of its foreground has confidence 0.8 or less"}
    dataset = read_labels(tmp_path / "out" / "images", tmp_path / "out" / "labels")
    assert (dataset.classes, [image.name for image in dataset.images]) == (found.meta.classes, ["b.png"])
    assert np.array_equal(read_label_map(dataset.images[0].label_path), found.labels("b.png"))
    assert errors(tmp_path / "out") == []


@pytest.mark.parametrize(("below", "value"), [("background", 0), ("ignored", 255)])
def test_pixels_below_the_confidence_become_background_or_are_ignored(
    photos: Path, tmp_path: Path, below: Any, value: int
) -> None:
    found = probability_set(tmp_path / "set", probabilities(0.9, 0.6, 8), probabilities(0.95, 0.6, 0))
    rules = SurePixels(min_confidence=0.9, below=below, max_unsure=1)
    written = write_pseudo_labels(found, photos, tmp_path / "out", rules)
    label_HW = read_label_map(tmp_path / "out" / "labels" / "b.png").ravel()
    # 0.9 is stored as 230/255 = 0.902; background with probability 1 stays.
    assert label_HW.tolist() == [value] * 8 + [1] * 12 + [0] * 4
    assert (written.kept, written.labels) == (2, 12 + 20) and errors(tmp_path / "out") == []


def test_an_image_whose_foreground_is_all_unsure_pixels_is_dropped(photos: Path, tmp_path: Path) -> None:
    found = probability_set(tmp_path / "set", probabilities(0.7, 0.7, 0), probabilities(0.95, 0.7, 0))
    rules = SurePixels(min_confidence=0.9, max_unsure=1)
    assert write_pseudo_labels(found, photos, tmp_path / "out", rules).dropped == {"b.png": "no sure foreground"}


def test_labels_alone_do_only_where_no_confidence_is_asked_for(photos: Path, tmp_path: Path) -> None:
    found = label_set(tmp_path / "set", random_labels(1), random_labels(2))
    with pytest.raises(InputError, match="expected predictions with probabilities, but got labels only"):
        write_pseudo_labels(found, photos, tmp_path / "out", SurePixels())
    assert write_pseudo_labels(found, photos, tmp_path / "out", SurePixels(max_unsure=1)).kept == 2


def test_without_a_background_every_pixel_is_foreground_and_none_can_become_it(photos: Path, tmp_path: Path) -> None:
    found = probability_set(tmp_path / "set", probabilities(0.9, 0.8, 2), probabilities(0.9, 0.8, 3))
    for rules in (SurePixels(background="sky"), SurePixels(background="sky", min_confidence=0.9)):
        with pytest.raises(InputError, match=r"--background: .*\(background, bag, bottle\), but got 'sky'"):
            write_pseudo_labels(found, photos, tmp_path / "out", rules)
    assert write_pseudo_labels(found, photos, tmp_path / "out", SurePixels(background="bottle")).labels == 24 + 0


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda photos: (photos / "b.png").unlink(), "b.png: expected an image, but got nothing there"),
        (
            lambda photos: Image.new("RGB", (5, 4)).save(photos / "b.png"),
            "expected 6x4 pixels as predicted, but got 5x4",
        ),
    ],
)
def test_other_images_are_refused_and_nothing_is_left(
    photos: Path, tmp_path: Path, break_it: Any, message: str
) -> None:
    break_it(photos)
    with pytest.raises(DatasetError, match=message):
        write_pseudo_labels(crowded(tmp_path / "set"), photos, tmp_path / "out", SureObjects())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "set"]


def test_nothing_sure_is_an_error_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    found = instance_set(tmp_path / "set", objects(), objects())
    with pytest.raises(InputError, match="expected images with sure predictions, but got none of 2"):
        write_pseudo_labels(found, photos, tmp_path / "out", SureObjects())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("confidence", [float("nan"), 1.5, -0.1])
def test_confidences_that_are_none_are_refused(photos: Path, tmp_path: Path, confidence: float) -> None:
    found = with_confidence(crowded(tmp_path / "set"), confidence)
    with pytest.raises(DatasetError, match=r"set: expected confidences from 0 to 1 in b\.png, but got .* object 0"):
        write_pseudo_labels(found, photos, tmp_path / "out", SureObjects(0.5))
    assert not (tmp_path / "out").exists()


def test_labels_that_are_no_class_are_refused(photos: Path, tmp_path: Path) -> None:
    found = label_set(tmp_path / "set", random_labels(1), random_labels(2))
    write_label_map(np.full((HEIGHT, WIDTH), 3, np.uint8), found.path / "labels" / "a.png")
    with pytest.raises(DatasetError, match=r"expected classes from 0 to 2, but got 3 in a\.jpg"):
        write_pseudo_labels(found, photos, tmp_path / "out", SurePixels(max_unsure=1))
    assert not (tmp_path / "out").exists()


def test_images_that_are_test_images_too_are_found_by_their_bytes(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "renamed.png").write_bytes((photos / "b.png").read_bytes())
    assert overlapping(photos, (tmp_path / "test").iterdir()) == ("b.png",)


@pytest.mark.parametrize(
    ("rules", "values", "message"),
    [
        (SureObjects, {"min_confidence": 1.5}, "--min-confidence: expected a number from 0 to 1, but got 1.5"),
        (SurePixels, {"unsure": -0.1}, "--unsure: expected a number from 0 to 1, but got -0.1"),
        (SurePixels, {"max_unsure": float("nan")}, "--max-unsure: expected a number from 0 to 1, but got nan"),
        (SurePixels, {"below": "void"}, "--below: expected background or ignored, but got 'void'"),
    ],
)
def test_values_out_of_range_are_refused(rules: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rules(**values)
