"""Reading, refusing and writing COCO instance JSON."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO

from segdata.coco import Rle, mask_of, read_coco, rle_encode, rle_of, write_coco
from segdata.errors import DatasetError

SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]  # 4x4 pixels
UNCOMPRESSED = {"size": [10, 12], "counts": [0, 5, 115]}
VALID = {
    "info": {"year": 2026},
    "images": [
        {"id": 1, "file_name": "a.png", "width": 12, "height": 10},
        {"id": 9, "file_name": "b.png", "width": 12, "height": 10},
    ],
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat", "supercategory": "pet"}],
    "annotations": [
        {"id": 5, "image_id": 1, "category_id": 7, "segmentation": [SQUARE], "bbox": [2, 2, 4, 4], "area": 16.5},
        {"id": 6, "image_id": 1, "category_id": 3, "segmentation": UNCOMPRESSED, "iscrowd": 1},
    ],
}


def written(tmp_path, change=lambda raw: None):
    raw = copy.deepcopy(VALID)
    change(raw)
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(raw))
    return path


def test_classes_come_in_the_order_of_their_category_ids(tmp_path):
    dataset = read_coco(written(tmp_path))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.category_ids == (3, 7)


def test_objects_are_found_by_image_and_an_image_without_objects_has_none(tmp_path):
    dataset = read_coco(written(tmp_path))
    assert [obj.id for obj in dataset.objects_of(1)] == [5, 6]
    assert dataset.objects_of(9) == ()


def test_given_box_and_area_are_kept_and_missing_ones_computed(tmp_path):
    polygon, crowd = read_coco(written(tmp_path)).objects
    assert (polygon.bbox_xywh, polygon.area_px, polygon.is_crowd) == ((2, 2, 4, 4), 16.5, False)
    # Column-major: the first five pixels of column 0.
    assert (crowd.bbox_xywh, crowd.area_px, crowd.is_crowd) == ((0, 0, 1, 5), 5, True)


def test_uncompressed_rle_is_compressed_on_reading(tmp_path):
    crowd = read_coco(written(tmp_path)).objects[1]
    expected = np.zeros((10, 12), dtype=bool)
    expected[:5, 0] = True
    assert crowd.segmentation == rle_encode(expected)
    np.testing.assert_array_equal(mask_of(crowd, 10, 12), expected)


def test_categories_are_written_by_their_ids_whatever_their_order(tmp_path):
    """MMDetection numbers classes in the file's order; in another one the classes' names would be swapped."""
    dataset = read_coco(written(tmp_path))
    write_coco(dataset, tmp_path / "x.json")
    assert [entry["id"] for entry in json.loads((tmp_path / "x.json").read_text())["categories"]] == [3, 7]
    assert read_coco(tmp_path / "x.json").class_names == dataset.class_names == ("cat", "dog")


def test_writing_and_reading_again_changes_the_order_of_classes_only_and_pycocotools_agrees(tmp_path):
    dataset = read_coco(written(tmp_path))
    copied = tmp_path / "new" / "copy.json"
    write_coco(dataset, copied)
    by_id = tuple(sorted(dataset.categories, key=lambda category: category.id))
    assert read_coco(copied) == replace(dataset, categories=by_id)
    assert [path.name for path in copied.parent.iterdir()] == ["copy.json"]
    theirs = COCO(str(copied))
    for obj in dataset.objects:
        np.testing.assert_array_equal(theirs.annToMask(theirs.anns[obj.id]).astype(bool), mask_of(obj, 10, 12))


def test_a_subset_keeps_the_named_images_with_their_objects_and_all_classes(tmp_path):
    dataset = read_coco(written(tmp_path))
    only_b = dataset.subset(["b.png"])
    assert [image.file_name for image in only_b.images] == ["b.png"]
    assert only_b.objects == ()
    assert only_b.class_names == dataset.class_names
    assert len(dataset.subset(["a.png"]).objects) == 2


def test_a_subset_of_unknown_names_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="1 unknown, such as 'c.png'.*split"):
        read_coco(written(tmp_path)).subset(["a.png", "c.png"])


def first(key, value):
    return lambda raw: raw["annotations"][0].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first("image_id", 4), r"annotations\[0\] \(id 5\)\.image_id: expected the id of an image.*got 4"),
        (first("category_id", 4), r"\(id 5\)\.category_id: expected the id of a category.*got 4"),
        (first("category_id", "7"), r"category_id: expected an integer, but got '7'"),
        (first("segmentation", []), r"segmentation: expected polygons or RLE, but got nothing"),
        (first("segmentation", [[1, 2, 3, 4]]), r"segmentation\[0\]: expected a polygon.*three or more.*got 4 numbers"),
        (first("segmentation", [[1, 2, 3, 4, 5, 6, 7]]), r"but got 7 numbers"),
        (first("segmentation", [[1, 2, 3, 4, 5, "x"]]), r"segmentation\[0\]: expected numbers"),
        (
            first("segmentation", [[1, 2, 3, 4, 5, 1e9]]),
            r"expected coordinates in pixels of the 12x10 image.*1000000000",
        ),
        (first("segmentation", [[1, 2, 3, 4, 5, float("nan")]]), r"expected coordinates in pixels.*nan"),
        (first("segmentation", {"size": [12, 10], "counts": "a"}), r"size: expected \[height, width\] = \[10, 12\]"),
        (
            first("segmentation", {"size": [10, 12], "counts": [1]}),
            r"counts: expected run lengths that add up to 10x12",
        ),
        (first("segmentation", {"size": [10, 12], "counts": "ooo"}), r"counts: expected compressed RLE"),
        (first("segmentation", {"size": [10, 12], "counts": [-1, 121]}), r"counts: expected a string or a list"),
        (first("bbox", [1, 2, 3]), r"bbox: expected \[x, y, width, height\]"),
        (first("area", "big"), r"area: expected a finite number, but got 'big'"),
        (first("iscrowd", 2), r"iscrowd: expected 0 or 1, but got 2"),
        (lambda raw: raw["annotations"][1].update(id=5), r"annotations\[1\]\.id: expected.*once, but got 5 again"),
        (lambda raw: raw["annotations"].append("x"), r"annotations\[2\].*expected an object with keys"),
        (lambda raw: raw["images"][1].update(id=1), r"images\[1\]\.id.*got 1 again"),
        (lambda raw: raw["images"][1].update(file_name="a.png"), r"images\[1\]\.file_name.*'a.png' again"),
        (lambda raw: raw["images"][0].pop("width"), r"images\[0\]\.width: expected this key"),
        (lambda raw: raw["images"][0].update(height=0), r"images\[0\]: expected a width and height of at least 1"),
        (lambda raw: raw["categories"][0].update(name="cat"), r"categories\[1\]\.name.*'cat' again"),
        (lambda raw: raw["categories"][0].update(name=""), r"categories\[0\]\.name: expected a text"),
        (lambda raw: raw.pop("categories"), r"lists images, annotations, categories\), but got info, images, annot"),
    ],
)
def test_what_training_would_trip_over_is_refused_with_file_and_key(tmp_path, change, message):
    path = written(tmp_path, change)
    with pytest.raises(DatasetError, match=message) as caught:
        read_coco(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_json_is_refused_with_its_line(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"images": [],\n "annotations": [,]}')
    with pytest.raises(DatasetError, match=r"broken\.json, line 2: expected JSON"):
        read_coco(path)


def test_a_list_of_results_is_not_a_data_set(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("[]")
    with pytest.raises(DatasetError, match="expected COCO annotations .* but got a list"):
        read_coco(path)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_missing_file_or_a_folder_is_refused(tmp_path, name):
    with pytest.raises(DatasetError, match="expected a COCO annotation file, but got"):
        read_coco(tmp_path / name)


def test_run_lengths_of_another_size_are_refused_when_drawn(tmp_path):
    crowd = read_coco(written(tmp_path)).objects[1]
    assert isinstance(crowd.segmentation, Rle)
    with pytest.raises(DatasetError, match="object 6: expected a mask of 8x8 pixels, but got one of 12x10"):
        rle_of(crowd, 8, 8)


def test_real_annotations_read_and_every_object_has_its_image(real_data):
    dataset = read_coco(real_data / "trashbags" / "train.json")
    assert (len(dataset.images), len(dataset.objects)) == (117, 452)
    assert sum(len(dataset.objects_of(image.id)) for image in dataset.images) == 452
    assert dataset.class_names == ("general_trashbag", "other_trashbag")
