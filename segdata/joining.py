"""Two labelled data sets as one, under names and ids that occur once. Pure: no file is read or written.

Names: a mapping old -> new file name for each of the two. May import this package's records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segdata.errors import DatasetError
from segdata.instances import InstanceDataset

__all__ = ["distinct_names", "join_instances"]

Names = Mapping[str, str]


def distinct_names(names: Mapping[str, Sequence[str]], *, by_stem: bool) -> tuple[dict[str, str], ...]:
    """Returns old -> new name of each part: as they are, or, if one occurs twice, all with their part's name before.

    Args:
        names: Part -> its file names, each once.
        by_stem: Whether `a.png` and `a.jpg` count as the same, as label maps are named by stems.
    """
    keys = [Path(name).stem if by_stem else name for part in names.values() for name in part]
    if len(set(keys)) == len(keys):
        return tuple({name: name for name in part} for part in names.values())
    return tuple({name: f"{role}-{name}" for name in part} for role, part in names.items())


def join_instances(parts: Sequence[InstanceDataset], names: Sequence[Names]) -> InstanceDataset:
    """Joins data sets of the same classes, in this order; category ids are those of the first.

    If the id of an image occurs twice, all images are numbered anew from 1; so are objects.

    Raises:
        DatasetError: The classes differ.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.class_names != first.class_names:
            raise DatasetError(f"expected the classes {first.class_names}, but got {part.class_names}")
    image_ids = _distinct_ids([[image.id for image in part.images] for part in parts])
    object_ids = _distinct_ids([[obj.id for obj in part.objects] for part in parts])
    images, objects = [], []
    for part, name, image_id, object_id in zip(parts, names, image_ids, object_ids, strict=True):
        class_id = dict(zip(part.category_ids, first.category_ids, strict=True))
        images += [replace(one, id=image_id[one.id], file_name=name[one.file_name]) for one in part.images]
        objects += [
            replace(one, id=object_id[one.id], image_id=image_id[one.image_id], category_id=class_id[one.category_id])
            for one in part.objects
        ]
    return InstanceDataset(tuple(images), first.categories, tuple(objects))


def _distinct_ids(parts: Sequence[Sequence[int]]) -> list[dict[int, int]]:
    """Returns old -> new id of each part: as they are if no id occurs twice, else 1, 2, 3 ... through all parts."""
    everything = [one for part in parts for one in part]
    if len(set(everything)) == len(everything):
        return [{one: one for one in part} for part in parts]
    new = iter(range(1, len(everything) + 1))
    return [{one: next(new) for one in part} for part in parts]
