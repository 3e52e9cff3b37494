"""Fingerprints change with labels and images, not with their order."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from segdata.errors import DatasetError
from segdata.fingerprint import instance_fingerprint, semantic_fingerprint
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import read_labels, write_classes
from segdata.rle import rle_encode

IMAGES = (ImageRecord(1, "a.png", 8, 6), ImageRecord(2, "b.png", 8, 6))
OBJECT = ObjectRecord(1, 1, 1, ((0.0, 0.0, 4.0, 0.0, 4.0, 4.0),), (0, 0, 4, 4), 8.0, False)
OTHER = ObjectRecord(2, 1, 2, rle_encode(np.eye(6, 8)), (0, 0, 6, 6), 6.0, False)
DATASET = InstanceDataset(IMAGES, (Category(1, "cat"), Category(2, "dog")), (OBJECT, OTHER))


def test_it_is_sixteen_hex_digits():
    assert len(instance_fingerprint(DATASET, None)) == 16
    assert int(instance_fingerprint(DATASET, None), 16) >= 0


def test_the_order_of_images_and_objects_and_object_ids_do_not_count():
    other = InstanceDataset(IMAGES[::-1], DATASET.categories[::-1], (replace(OTHER, id=8), OBJECT))
    assert instance_fingerprint(other, None) == instance_fingerprint(DATASET, None)


@pytest.mark.parametrize(
    "changed",
    [
        replace(DATASET, objects=(OBJECT,)),
        replace(DATASET, objects=(OBJECT, OTHER, OTHER)),
        replace(DATASET, objects=(replace(OBJECT, category_id=2), OTHER)),
        replace(DATASET, objects=(replace(OBJECT, image_id=2), OTHER)),
        replace(DATASET, objects=(replace(OBJECT, is_crowd=True), OTHER)),
        replace(DATASET, objects=(replace(OBJECT, segmentation=((0.0, 0.0, 4.0, 0.0, 4.0, 4.01),)), OTHER)),
        replace(DATASET, categories=(Category(1, "cat"), Category(2, "cow"))),
        replace(DATASET, images=(replace(IMAGES[0], file_name="c.png"), IMAGES[1])),
        replace(DATASET, images=(replace(IMAGES[0], width=9), IMAGES[1])),
    ],
)
def test_any_change_of_the_labels_changes_it(changed):
    assert instance_fingerprint(changed, None) != instance_fingerprint(DATASET, None)


def test_given_the_images_their_byte_sizes_count_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"123")
    with pytest.raises(DatasetError, match=r"b\.png: expected a file of the data set"):
        instance_fingerprint(DATASET, tmp_path)
    (tmp_path / "b.png").write_bytes(b"123")
    before = instance_fingerprint(DATASET, tmp_path)
    (tmp_path / "b.png").write_bytes(b"1234")
    assert len({before, instance_fingerprint(DATASET, tmp_path), instance_fingerprint(DATASET, None)}) == 3


def test_a_changed_label_map_changes_the_semantic_fingerprint(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg")
    (tmp_path / "labels").mkdir()
    write_classes(tmp_path / "labels", ["background", "can"])
    found = set()
    for value in (0, 1, 0):
        Image.new("L", (8, 6), value).save(tmp_path / "labels" / "a.png")
        found.add(semantic_fingerprint(read_labels(tmp_path, tmp_path / "labels")))
    write_classes(tmp_path / "labels", ["background", "tin"])
    found.add(semantic_fingerprint(read_labels(tmp_path, tmp_path / "labels")))
    assert len(found) == 3
