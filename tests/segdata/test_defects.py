"""The data check: each planted defect is found as itself, and the real ones in real data are found too."""

import copy
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from segdata.coco import read_coco
from segdata.defects import Defect, find_defects, find_leaks
from segdata.errors import DatasetError, InputError
from segdata.labelmaps import coco_to_labelmaps, write_classes


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


CLEAN = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 2, "file_name": "b.png", "width": 40, "height": 30},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": square(2, 2, 10)},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": square(20, 2, 10)},
        {"id": 3, "image_id": 2, "category_id": 1, "segmentation": square(2, 2, 10)},
    ],
}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for shade, name in enumerate(("a.png", "b.png")):
        Image.new("RGB", (40, 30), (shade, 0, 0)).save(folder / name)
    return folder


def check(images, change=lambda raw: None):
    raw = copy.deepcopy(CLEAN)
    change(raw)
    path = images.parent / "coco.json"
    path.write_text(json.dumps(raw))
    return find_defects(images=images, annotations=path)


def add(segmentation, category_id=1, image_id=2, object_id=9):
    entry = {"id": object_id, "image_id": image_id, "category_id": category_id, "segmentation": segmentation}
    return lambda raw: raw["annotations"].append(entry)


def test_a_clean_data_set_has_no_defects(images):
    assert check(images) == ()


@pytest.mark.parametrize(
    ("change", "expected", "detail"),
    [
        (add(square(1, 1, 5), image_id=77), ("unknown-id", "error", None, 9), "image_id 77"),
        (add(square(1, 1, 5), category_id=5), ("unknown-id", "error", "b.png", 9), "category_id 5"),
        (add(square(20, 20, 5), object_id=1), ("duplicate-id", "error", "b.png", 1), r"annotations\[3\]"),
        (add([]), ("empty-shape", "error", "b.png", 9), "no polygon"),
        (add(square(20, 20, 0)), ("empty-shape", "error", "b.png", 9), "covers no pixel"),
        (add([[1, 2, 3, 4]]), ("bad-entry", "error", "b.png", 9), "three or more points"),
        (add({"size": [30, 40], "counts": "~"}), ("bad-entry", "error", "b.png", 9), "counts"),
        (add(square(20, 20, 3)), ("tiny-shape", "warning", "b.png", 9), "covers 9 px, under 16"),
        (add(square(35, 20, 8)), ("out-of-image", "warning", "b.png", 9), "reaches 3.0 px out of the 40x30 image"),
        (add(square(2, 2, 10)), ("duplicate-object", "warning", "b.png", 9), "same object as annotation 3"),
        (add(square(2, 2, 10), 2), ("conflicting-duplicate", "error", "b.png", 9), "'dog', but annotation 3 is 'cat'"),
        (lambda raw: raw["annotations"].append(3), ("bad-entry", "error", None, None), r"annotations\[3\]"),
        (lambda raw: raw["annotations"].pop(2), ("no-objects", "warning", "b.png", None), "without objects"),
        (
            lambda raw: raw["categories"].append({"id": 3, "name": "cow"}),
            ("unused-class", "warning", None, None),
            "cow",
        ),
        (lambda raw: raw["categories"].append({"id": 2, "name": "x"}), ("duplicate-id", "error", None, None), "id 2"),
        (lambda raw: raw["categories"][1].update(name="cat"), ("duplicate-name", "error", None, None), "'cat' again"),
        (lambda raw: raw["images"].append(raw["images"][0]), ("duplicate-id", "error", "a.png", None), "id 1 again"),
        (lambda raw: raw["images"][0].update(width=30), ("size-mismatch", "error", "a.png", None), "30x30.*40x30"),
        (lambda raw: raw["images"][1].update(width="x"), ("bad-entry", "error", None, None), r"images\[1\]\.width"),
    ],
)
def test_a_planted_defect_is_found_as_itself(images, change, expected, detail):
    found = check(images, change)
    defect = next(d for d in found if (d.kind, d.severity, d.image, d.annotation_id) == expected)
    assert re.search(detail, defect.detail)


def test_shapes_that_share_most_but_not_nine_tenths_are_two_objects(images):
    # 10x10 squares one pixel apart: IoU 90 / 110.
    assert check(images, add(square(3, 2, 10))) == ()


def test_missing_broken_turned_and_repeated_images_are_found(images):
    Image.new("RGB", (40, 30), (1, 0, 0)).save(images / "a.png")  # the same as b.png
    (kind,) = {defect.kind for defect in check(images)}
    assert kind == "duplicate-image"
    (images / "a.png").write_bytes((images / "b.png").read_bytes()[:60])
    (images / "b.png").unlink()
    found = {(defect.kind, defect.image) for defect in check(images)}
    assert found == {("undecodable-image", "a.png"), ("missing-image", "b.png")}


def test_an_image_turned_by_exif_is_measured_as_shown(images):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(images / "a.png", exif=exif)
    kinds = Counter(defect.kind for defect in check(images))
    assert kinds == {"turned-image": 1, "size-mismatch": 1}


def test_images_without_entry_are_said_in_one_row(images):
    for name in ("c.png", "d.png"):
        Image.new("RGB", (4, 4)).save(images / name)
    (defect,) = check(images)
    assert (defect.kind, defect.detail) == ("unlisted-images", "2 image files have no entry in coco.json: c.png, d.png")


def test_errors_come_before_warnings(images):
    def several(raw):
        add(square(20, 20, 3))(raw)
        add(square(1, 1, 5), image_id=77, object_id=10)(raw)

    assert [defect.severity for defect in check(images, several)] == ["error", "warning"]


def test_the_same_picture_in_two_data_sets_is_an_error(images, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "z.png").write_bytes((images / "a.png").read_bytes())
    (leak,) = find_leaks([images, other])
    assert (leak.kind, leak.severity, leak.image) == ("leaked-image", "error", "z.png")
    assert find_leaks([images, images]) == ()
    assert find_leaks([images]) == ()


@pytest.fixture
def labels(images):
    folder = images.parent / "labels"
    folder.mkdir()
    write_classes(folder, ["background", "can"])
    for name in ("a.png", "b.png"):
        array = np.zeros((30, 40), dtype=np.uint8)
        array[:5] = 1
        array[9] = 255
        Image.fromarray(array).save(folder / name)
    return folder


def save_label(labels, image):
    image.save(labels / "b.png")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda i, m: None, []),
        (
            lambda i, m: save_label(m, Image.new("L", (40, 30), 7)),
            [("unknown-class", "error"), ("no-objects", "warning")],
        ),
        (lambda i, m: save_label(m, Image.new("L", (40, 30), 0)), [("no-objects", "warning")]),
        (lambda i, m: save_label(m, Image.new("L", (30, 40), 1)), [("size-mismatch", "error")]),
        (lambda i, m: save_label(m, Image.new("RGB", (40, 30))), [("bad-label-map", "error")]),
        (lambda i, m: (m / "b.png").unlink(), [("unlisted-images", "warning")]),
        (lambda i, m: (i / "b.png").unlink(), [("missing-image", "error")]),
        (lambda i, m: write_classes(m, ["background", "can", "tin"]), [("unused-class", "warning")]),
    ],
)
def test_defects_of_label_maps_are_found(images, labels, change, expected):
    change(images, labels)
    assert [(defect.kind, defect.severity) for defect in find_defects(images=images, labels=labels)] == expected


def test_an_image_of_both_kinds_of_labels_is_reported_once(images, labels):
    (images.parent / "coco.json").write_text(json.dumps(CLEAN))
    (images / "b.png").write_text("broken")
    found = find_defects(images=images, annotations=images.parent / "coco.json", labels=labels)
    assert [(defect.kind, defect.image) for defect in found] == [("undecodable-image", "b.png")]


def test_what_can_not_be_checked_at_all_is_refused(images):
    with pytest.raises(InputError, match="expected annotations or labels"):
        find_defects(images=images)
    with pytest.raises(DatasetError, match="expected a folder of images"):
        find_defects(images=images / "no", annotations=images)
    with pytest.raises(DatasetError, match=r"a\.png.*: expected JSON"):
        find_defects(images=images, annotations=images / "a.png")


def test_the_known_defects_of_real_training_photos_are_found(real_data):
    data = real_data / "trashbags"
    found = find_defects(annotations=data / "train.json", images=data / "train")
    assert Counter(defect.kind for defect in found) == {"tiny-shape": 7, "empty-shape": 2, "conflicting-duplicate": 1}
    small = {d.annotation_id for d in found if d.kind in ("tiny-shape", "empty-shape")}
    assert small == {13, 14, 25, 271, 333, 348, 417, 432, 443}  # the nine polygons under 16 px
    (bag,) = [defect for defect in found if defect.kind == "conflicting-duplicate"]
    assert (bag.annotation_id, bag.severity) == (452, "error")
    assert "annotation 451 is 'other_trashbag' on the same object" in bag.detail


def test_the_known_duplicate_in_real_validation_photos_is_found(real_data):
    data = real_data / "trashbags"
    found = find_defects(annotations=data / "valid.json", images=data / "valid")
    twice = [defect for defect in found if defect.kind == "duplicate-object"]
    name = "20231005_164629_jpg.rf.af8c2410b44fb3e26a6eb50d8c86c9fd.jpg"
    assert twice == [Defect("duplicate-object", "warning", name, 46, "same object as annotation 43 (mask IoU 0.99)")]
    assert find_leaks([data / "train", data / "valid"]) == ()


def test_label_maps_drawn_from_real_objects_are_clean(real_data, tmp_path):
    data = real_data / "trashbags"
    coco_to_labelmaps(read_coco(data / "valid.json"), tmp_path / "labels")
    assert find_defects(labels=tmp_path / "labels", images=data / "valid") == ()
