"""Statistics against arithmetic done by hand."""

import math
from dataclasses import replace

import pytest

from segdata.coco import read_coco
from segdata.errors import DatasetError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import SemanticDataset
from segdata.statistics import object_statistics, pixel_statistics


def square(object_id, image_id, side, crowd=False):
    return ObjectRecord(object_id, image_id, 1, ((0, 0, 1, 0, 1, 1),), (0, 0, side, side), float(side**2), crowd)


IMAGES = (ImageRecord(1, "a", 100, 50), ImageRecord(2, "b", 200, 60), ImageRecord(3, "c", 400, 90))


def test_counts_and_sizes_are_those_of_the_objects_without_crowds():
    objects = tuple(square(side, 1, side) for side in range(1, 12)) + (square(99, 2, 500, crowd=True),)
    found = object_statistics(InstanceDataset(IMAGES, (Category(1, "c"),), objects))
    assert (found.images, found.objects) == (3, 11)
    assert (found.objects_per_image_median, found.objects_per_image_max) == (0, 11)  # counts 11, 0, 0
    assert (found.object_size_px_p10, found.object_size_px_p50, found.object_size_px_p90) == (2, 6, 10)  # of 1..11
    assert (found.image_width_median, found.image_height_median) == (200, 60)
    assert (found.image_width_max, found.image_height_max) == (400, 90)


def test_objects_are_counted_by_class_in_the_order_of_category_ids_without_crowds():
    objects = tuple(replace(square(number, 1, 9, crowd=number == 5), category_id=number % 3) for number in range(8))
    found = object_statistics(
        InstanceDataset(IMAGES, (Category(2, "b"), Category(7, "none"), Category(0, "a")), objects)
    )
    assert found.class_counts == (3, 1, 0)  # objects 0, 3, 6; 2, for 5 is a crowd; none. 1, 4, 7 are of no category


def test_images_that_hold_an_object_or_a_crowd_are_those_that_training_keeps():
    ids = [image.id for image in IMAGES]
    objects = (square(1, ids[0], 9), square(2, ids[0], 9), square(3, ids[1], 9, crowd=True))
    assert object_statistics(InstanceDataset(IMAGES, (Category(1, "c"),), objects)).annotated_images == 2
    assert len(IMAGES) > 2


def test_without_objects_sizes_are_nan_not_zero():
    found = object_statistics(InstanceDataset(IMAGES, (Category(1, "c"),), ()))
    assert (found.objects, found.objects_per_image_max) == (0, 0)
    assert math.isnan(found.object_size_px_p50)


@pytest.mark.parametrize(
    "count",
    [
        lambda: object_statistics(InstanceDataset((), (), ())),
        lambda: pixel_statistics(SemanticDataset((), ("a",), 255)),
    ],
)
def test_a_data_set_without_images_is_refused(count):
    with pytest.raises(DatasetError, match="expected a data set with images, but got none"):
        count()


def test_real_particle_photos_have_the_counts_that_are_published(real_data):
    found = object_statistics(read_coco(real_data / "trashbags" / "valid.json"))
    assert (found.images, found.objects, found.image_width_max) == (25, 126, 640)
