"""Label maps: drawing objects, the overlap rule, reading folders."""

import json

import numpy as np
import pytest
from PIL import Image

from segdata.coco import read_coco, rle_decode, rle_of
from segdata.errors import DatasetError, InputError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import coco_to_labelmaps, read_label_map, read_labels, write_classes
from segdata.statistics import pixel_statistics


def box(object_id, category_id, x, y, w, h, crowd=False):
    polygon = (float(x), float(y), float(x + w), float(y), float(x + w), float(y + h), float(x), float(y + h))
    return ObjectRecord(object_id, 1, category_id, (polygon,), (x, y, w, h), float(w * h), crowd)


def drawn(tmp_path, *objects):
    dataset = InstanceDataset(
        (ImageRecord(1, "a.jpg", 20, 10),), (Category(4, "bag"), Category(2, "can")), tuple(objects)
    )
    coco_to_labelmaps(dataset, tmp_path / "labels")
    return read_label_map(tmp_path / "labels" / "a.png")


def test_class_index_is_the_place_in_category_id_order_and_background_is_zero(tmp_path):
    label_HW = drawn(tmp_path, box(1, 4, 0, 0, 3, 3), box(2, 2, 10, 5, 4, 2))
    assert json.loads((tmp_path / "labels" / "classes.json").read_text()) == {
        "classes": ["background", "can", "bag"],
        "ignore_index": 255,
    }
    expected = np.zeros((10, 20), dtype=np.uint8)
    expected[:3, :3] = 2
    expected[5:7, 10:14] = 1
    np.testing.assert_array_equal(label_HW, expected)


@pytest.mark.parametrize("small_first", [True, False])
def test_the_smaller_object_lies_on_top_whatever_the_order(tmp_path, small_first):
    small, large = box(1, 4, 2, 2, 3, 3), box(2, 2, 0, 0, 10, 10)
    label_HW = drawn(tmp_path, *((small, large) if small_first else (large, small)))
    assert (label_HW[2:5, 2:5] == 2).all()
    assert (label_HW == 1).sum() == 100 - 9


@pytest.mark.parametrize(("first_id", "second_id", "on_top"), [(1, 2, 2), (2, 1, 1)])
def test_of_equal_areas_the_later_id_lies_on_top(tmp_path, first_id, second_id, on_top):
    label_HW = drawn(tmp_path, box(first_id, 2, 0, 0, 4, 4), box(second_id, 4, 2, 0, 4, 4))
    assert (label_HW[0:4, 2:4] == on_top).all()


def test_a_crowd_region_is_ignored_but_objects_in_it_are_not(tmp_path):
    label_HW = drawn(tmp_path, box(1, 2, 2, 2, 3, 3), box(2, 4, 0, 0, 2, 9, crowd=True), box(3, 4, 4, 0, 2, 2, True))
    assert (label_HW == 255).sum() == 2 * 9 + 2 * 2
    assert (label_HW[2:5, 2:5] == 1).all()


def test_more_classes_than_eight_bits_hold_are_refused(tmp_path):
    dataset = InstanceDataset((), tuple(Category(i, f"c{i}") for i in range(255)), ())
    with pytest.raises(DatasetError, match="at most 254 classes.*got 255"):
        coco_to_labelmaps(dataset, tmp_path / "labels")


def test_two_images_with_one_stem_are_refused(tmp_path):
    images = (ImageRecord(1, "x/a.jpg", 2, 2), ImageRecord(2, "y/a.png", 2, 2))
    with pytest.raises(DatasetError, match="different stems.*x/a.jpg and y/a.png"):
        coco_to_labelmaps(InstanceDataset(images, (Category(1, "c"),), ()), tmp_path / "labels")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "mine.png").touch()
    with pytest.raises(InputError, match="labels: expected a new or empty folder"):
        drawn(tmp_path)


@pytest.fixture
def folders(tmp_path):
    """Two images, of which one has a label map, and the label folder's classes."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir(), labels.mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (8, 6)).save(images / name)
    write_classes(labels, ["background", "can"])
    Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(labels / "a.png")
    return images, labels


def test_label_maps_are_paired_with_images_and_other_images_left_out(folders):
    dataset = read_labels(*folders)
    assert [(image.name, image.width, image.height) for image in dataset.images] == [("a.jpg", 8, 6)]
    assert (dataset.classes, dataset.ignore_index) == (("background", "can"), 255)
    assert pixel_statistics(dataset).class_frequencies == (42 / 48, 6 / 48)
    assert dataset.subset(["a.jpg"]) == dataset
    with pytest.raises(DatasetError, match="1 unknown, such as 'b.jpg'"):
        dataset.subset(["b.jpg"])


def test_a_label_map_without_image_is_refused(folders):
    images, labels = folders
    (images / "a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"a\.png: expected an image named a\.\*"):
        read_labels(images, labels)


def test_a_label_map_of_another_size_is_refused(folders):
    images, labels = folders
    Image.new("L", (6, 8)).save(labels / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png: expected 8x6 pixels as in a\.jpg, but got 6x8"):
        read_labels(images, labels)


def test_a_colour_picture_is_no_label_map(folders):
    images, labels = folders
    Image.new("RGB", (8, 6)).save(labels / "a.png")
    with pytest.raises(DatasetError, match="one channel, but got mode RGB"):
        read_label_map(labels / "a.png")


def test_a_palette_label_map_is_read_by_index(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 255]], dtype=np.uint8), mode=None).convert("P")
    image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "p.png"), [[0, 1], [2, 255]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "classes.json: expected the names of the classes"),
        ("{", "classes.json: expected JSON"),
        ('{"classes": []}', "expected a list of names under 'classes'"),
        ('{"classes": ["a", "a"]}', "each class once"),
        ('{"classes": ["a", "b"], "ignore_index": 1}', "'ignore_index' from 2 to 255, but got 1"),
    ],
)
def test_a_wrong_classes_file_is_refused(folders, text, message):
    images, labels = folders
    (labels / "classes.json").unlink()
    if text is not None:
        (labels / "classes.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_labels(images, labels)


def test_a_pixel_of_no_class_is_found_when_counted(folders):
    images, labels = folders
    Image.new("L", (8, 6), 9).save(labels / "a.png")
    with pytest.raises(DatasetError, match=r"a\.png: expected pixels from 0 to 1 or 255, but got 9"):
        pixel_statistics(read_labels(images, labels))


def test_real_objects_drawn_as_label_maps_cover_the_same_pixels(real_data, tmp_path):
    dataset = read_coco(real_data / "trashbags" / "valid.json")
    coco_to_labelmaps(dataset, tmp_path / "labels")
    labelled = read_labels(real_data / "trashbags" / "valid", tmp_path / "labels")
    assert len(labelled.images) == 25
    for image, pair in zip(sorted(dataset.images, key=lambda i: i.file_name), labelled.images, strict=True):
        union = np.zeros((image.height, image.width), dtype=bool)
        for obj in dataset.objects_of(image.id):
            union |= rle_decode(rle_of(obj, image.height, image.width))
        np.testing.assert_array_equal(read_label_map(pair.label_path) > 0, union)
