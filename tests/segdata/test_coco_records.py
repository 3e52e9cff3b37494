"""COCO annotations from the file that processes share: the very content of the COCO file, image by image."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from segdata.coco import read_coco
from segdata.coco_records import CocoRecords
from segdata.errors import DatasetError
from segdata.synthetic import synthesize

SQUARE = [1.5, 2.25, 11.1, 2.25, 11.1, 12.3, 1.5, 12.3]
RUNS = {"size": [40, 50], "counts": [100, 20, 1880]}  # uncompressed; a column of 20 pixels

CONTENT: dict[str, list[dict[str, Any]]] = {
    "images": [
        {"id": 9, "file_name": "b/nine.png", "width": 50, "height": 40, "license": 3},
        {"id": 4, "file_name": "empty.png", "width": 50, "height": 40},
        {"id": 7, "file_name": "sj\u00f6.png", "width": 60, "height": 30},
    ],
    "categories": [
        {"id": 5, "name": "five"},
        {"id": 2, "name": "two", "supercategory": "x"},
        {"id": 3, "name": "none"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 2,
            "segmentation": [SQUARE],
            "bbox": [1.5, 2.25, 9.6, 10.05],
            "area": 96.48,
        },
        {
            "id": 3,
            "image_id": 9,
            "category_id": 5,
            "segmentation": RUNS,
            "bbox": [2, 20, 1, 20],
            "area": 20,
            "iscrowd": 1,
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 5,
            "segmentation": [SQUARE, [20, 20, 25, 20, 25, 25]],
            "bbox": [1.5, 2.25, 23.5, 22.75],
            "area": 0.1 + 0.2,
            "iscrowd": 0,
        },
        {"id": 8, "image_id": 9, "category_id": 2, "segmentation": [SQUARE], "bbox": [1, 2, 0.5, 9], "area": 4.5},
    ],
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Images and objects in no order, an empty image, polygons and run lengths, a crowd, an object too thin."""
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps(CONTENT))
    return path


def test_the_data_set_is_what_read_coco_reads(mixed: Path, tmp_path: Path) -> None:
    assert CocoRecords(mixed).dataset() == read_coco(mixed)
    synthesize("particles", tmp_path / "particles", 5, 64, 7)
    path = tmp_path / "particles" / "annotations.json"
    assert CocoRecords(path).dataset() == read_coco(path)


def test_missing_boxes_and_areas_are_drawn_as_read_coco_does(mixed: Path) -> None:
    content = copy.deepcopy(CONTENT)
    for annotation in content["annotations"]:
        annotation["area"] = annotation["bbox"] = None
    mixed.write_text(json.dumps(content))
    records = CocoRecords(mixed)
    assert records.dataset() == read_coco(mixed)
    assert records.sample(0)[1][0]["bbox"] == [2.0, 20.0, 3.0, 40.0]  # the crowd's column of pixels


def test_samples_are_in_the_order_of_the_file_with_numbers_as_they_were(mixed: Path) -> None:
    records = CocoRecords(mixed)
    samples = [records.sample(index) for index in range(len(records))]
    assert [(image.id, image.file_name) for image, _ in samples] == [
        (9, "b/nine.png"),
        (4, "empty.png"),
        (7, "sj\u00f6.png"),
    ]
    assert [[one["bbox_label"] for one in instances] for _, instances in samples] == [[0], [], [1, 0]]
    assert samples[0][1] == [{"ignore_flag": 1, "bbox": [2, 20, 3, 40], "bbox_label": 0, "mask": RUNS}]
    assert samples[2][1][1]["mask"] == [SQUARE, [20, 20, 25, 20, 25, 25]]
    assert type(samples[2][1][1]["mask"][1][0]) is int


def test_images_are_told_by_side_and_by_what_they_hold(mixed: Path) -> None:
    records = CocoRecords(mixed)
    assert records.side_px().tolist() == [40, 40, 30]
    assert records.holds([2]).tolist() == [True, False, True]  # the thin one counts
    assert records.holds([3]).tolist() == [False, False, False]
    assert records.holds([]).tolist() == [False, False, False]
    assert [category.name for category in records.categories] == ["five", "two", "none"]
    assert records.category_ids == (2, 3, 5)


def test_a_file_without_objects_is_read(mixed: Path) -> None:
    mixed.write_text(json.dumps(CONTENT | {"annotations": []}))
    records = CocoRecords(mixed)
    assert records.dataset() == read_coco(mixed)
    assert records.holds([2, 5]).tolist() == [False] * 3


def test_a_changed_file_is_read_anew(mixed: Path) -> None:
    before = CocoRecords(mixed)
    mixed.write_text(json.dumps(CONTENT | {"annotations": CONTENT["annotations"][:1]}))
    assert len(CocoRecords(mixed).dataset().objects) == 1
    assert len(before.dataset().objects) == 4


def test_another_process_opens_the_file_for_itself(mixed: Path) -> None:
    records = CocoRecords(mixed)
    packed = pickle.dumps(records)
    assert len(packed) < 500 and pickle.loads(packed).sample(2) == records.sample(2)
    assert copy.deepcopy(records) is records


@pytest.mark.parametrize("cut", [False, True])
def test_a_file_that_is_damaged_while_in_use_is_built_again(mixed: Path, cache: Path, cut: bool) -> None:
    records = CocoRecords(mixed)
    expected = records.sample(0)
    path = next(cache.glob("*.records"))
    with path.open("r+b") as stream:
        if cut:
            stream.truncate(20)
        else:
            stream.write(b"[[9]")
    assert records.sample(0) == expected
    assert CocoRecords(mixed).dataset() == read_coco(mixed)
    assert len(list(cache.glob("*.records"))) == 1


@pytest.mark.parametrize(
    ("section", "entry", "message"),
    [
        ("images", {"id": 9, "file_name": "x.png", "width": 5, "height": 5}, "images: .* but got 9 again"),
        ("annotations", CONTENT["annotations"][0], "annotations: .* but got 1 again"),
        ("categories", {"id": 1}, "expected this key"),
    ],
)
def test_a_wrong_file_is_refused(mixed: Path, section: str, entry: dict[str, Any], message: str) -> None:
    mixed.write_text(json.dumps(CONTENT | {section: [*CONTENT[section], entry]}))
    with pytest.raises(DatasetError, match=message):
        CocoRecords(mixed)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone.json: expected a COCO annotation file, but got: No such file"):
        CocoRecords(tmp_path / "gone.json")
