"""Two data sets as one: names and ids that occur once, references that still hold."""

import pytest

from segdata.errors import DatasetError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.joining import distinct_names, join_instances

SQUARE = ((1.0, 1.0, 3.0, 1.0, 3.0, 3.0),)


def dataset(first_image: int, first_object: int, category_ids: tuple[int, int] = (1, 2)) -> InstanceDataset:
    """Two images a.png and b.png with an object of `bag` and one of `can`."""
    images = tuple(ImageRecord(first_image + place, f"{name}.png", 8, 6) for place, name in enumerate("ab"))
    objects = tuple(
        ObjectRecord(first_object + place, image.id, category_ids[place], SQUARE, (1.0, 1.0, 2.0, 2.0), 4.0, False)
        for place, image in enumerate(images)
    )
    categories = (Category(category_ids[1], "can"), Category(category_ids[0], "bag"))
    return InstanceDataset(images, categories, objects)


def test_names_and_ids_that_occur_once_stay() -> None:
    names = distinct_names({"train": ["a.png", "b.png"], "val": ["c.png", "d.png"]}, by_stem=False)
    assert names == ({"a.png": "a.png", "b.png": "b.png"}, {"c.png": "c.png", "d.png": "d.png"})
    one, other = dataset(1, 10), dataset(3, 12)
    joined = join_instances([one, other], [{"a.png": "a.png", "b.png": "b.png"}, {"a.png": "c.png", "b.png": "d.png"}])
    assert [(image.id, image.file_name) for image in joined.images] == [
        (1, "a.png"),
        (2, "b.png"),
        (3, "c.png"),
        (4, "d.png"),
    ]
    assert joined.objects == (*one.objects, *other.objects)


def test_shared_names_get_their_role_and_shared_ids_are_numbered_through() -> None:
    names = distinct_names({"train": ["a.png", "b.png"], "val": ["b.png", "a.png"]}, by_stem=False)
    assert names[0] == {"a.png": "train-a.png", "b.png": "train-b.png"}
    joined = join_instances([dataset(1, 10), dataset(2, 10, category_ids=(5, 9))], names)
    assert [(image.id, image.file_name) for image in joined.images] == [
        (1, "train-a.png"),
        (2, "train-b.png"),
        (3, "val-a.png"),
        (4, "val-b.png"),
    ]
    assert [(obj.id, obj.image_id, obj.category_id) for obj in joined.objects] == [
        (1, 1, 1),
        (2, 2, 2),
        (3, 3, 1),
        (4, 4, 2),
    ]
    assert joined.class_names == ("bag", "can")


def test_stems_count_where_label_maps_are_named_by_them() -> None:
    parts = {"train": ["a.png"], "val": ["a.jpg"]}
    assert distinct_names(parts, by_stem=False) == ({"a.png": "a.png"}, {"a.jpg": "a.jpg"})
    assert distinct_names(parts, by_stem=True) == ({"a.png": "train-a.png"}, {"a.jpg": "val-a.jpg"})


def test_other_classes_are_refused() -> None:
    one = dataset(1, 10)
    other = InstanceDataset(one.images, (Category(1, "bag"), Category(2, "tin")), one.objects)
    names = distinct_names({"train": ["a.png", "b.png"], "val": ["a.png", "b.png"]}, by_stem=False)
    with pytest.raises(DatasetError, match=r"expected the classes \('bag', 'can'\), but got \('bag', 'tin'\)"):
        join_instances([one, other], names)
