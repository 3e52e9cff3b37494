"""Labelled objects in memory: frozen records of images, classes and objects, however they were stored.

Boxes are xywh in pixels, areas in pixels. May import `segdata.rle` and `segdata.errors` only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from segdata.errors import DatasetError
from segdata.rle import Mask, Rle, rle_decode, rle_from_polygons

__all__ = [
    "Category",
    "ImageRecord",
    "InstanceDataset",
    "ObjectRecord",
    "Polygons",
    "Segmentation",
    "mask_of",
    "rle_of",
]

Polygons = tuple[tuple[float, ...], ...]
Segmentation = Polygons | Rle


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image; `file_name` is relative to the images folder."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Category:
    """One class of objects."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One labelled object; several polygons are one object seen in parts."""

    id: int
    image_id: int
    category_id: int
    segmentation: Segmentation
    bbox_xywh: tuple[float, float, float, float]
    area_px: float
    is_crowd: bool


@dataclass(frozen=True)
class InstanceDataset:
    """Images with their labelled objects. Ids and file names are unique, and every reference resolves."""

    images: tuple[ImageRecord, ...]
    categories: tuple[Category, ...]
    objects: tuple[ObjectRecord, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of their category ids."""
        return tuple(category.name for category in self._categories_by_id)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Category ids, ascending; parallel to `class_names`."""
        return tuple(category.id for category in self._categories_by_id)

    def objects_of(self, image_id: int) -> tuple[ObjectRecord, ...]:
        """Returns the objects of one image, in file order; empty for an image without objects."""
        return self._objects_by_image.get(image_id, ())

    def subset(self, file_names: Iterable[str]) -> "InstanceDataset":
        """Keeps the named images and their objects, in this data set's order; all categories stay.

        Raises:
            DatasetError: if a name is not in the data set.
        """
        wanted = set(file_names)
        images = tuple(image for image in self.images if image.file_name in wanted)
        if len(images) != len(wanted):
            missing = sorted(wanted - {image.file_name for image in images})
            raise DatasetError(
                f"expected names of images in the data set, but got {len(missing)} unknown, such as {missing[0]!r}. "
                "Was the split made for another data set?"
            )
        kept = {image.id for image in images}
        objects = tuple(obj for obj in self.objects if obj.image_id in kept)
        return InstanceDataset(images, self.categories, objects)

    @cached_property
    def _categories_by_id(self) -> tuple[Category, ...]:
        return tuple(sorted(self.categories, key=lambda category: category.id))

    @cached_property
    def _objects_by_image(self) -> Mapping[int, tuple[ObjectRecord, ...]]:
        index: dict[int, list[ObjectRecord]] = {}
        for obj in self.objects:
            index.setdefault(obj.image_id, []).append(obj)
        return {image_id: tuple(objects) for image_id, objects in index.items()}


def rle_of(obj: ObjectRecord, height: int, width: int) -> Rle:
    """Returns the object's mask as run lengths for an image of height x width pixels; polygons are drawn as COCO does.

    Raises:
        DatasetError: if the object's own run lengths are of another size.
    """
    if not isinstance(obj.segmentation, Rle):
        return rle_from_polygons(obj.segmentation, height, width)
    rle = obj.segmentation
    if (rle.height, rle.width) != (height, width):
        raise DatasetError(
            f"object {obj.id}: expected a mask of {width}x{height} pixels, but got one of {rle.width}x{rle.height}"
        )
    return rle


def mask_of(obj: ObjectRecord, height: int, width: int) -> Mask:
    """Returns the object's mask, bool (H, W)."""
    return rle_decode(rle_of(obj, height, width))
