"""Defects of a COCO file: broken entries, unknown and repeated ids, shapes that are empty, tiny, outside or twice."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from segdata.coco import load_coco_json, parse_category, parse_image, parse_object
from segdata.defect import Defect
from segdata.errors import DatasetError
from segdata.image_defects import duplicate_images, file_defects, unlisted_images
from segdata.instances import Category, ImageRecord, ObjectRecord, rle_of
from segdata.rle import Rle, rle_area, rle_bbox, rle_iou

__all__ = ["SAME_OBJECT_IOU", "TINY_PX", "coco_defects"]

TINY_PX = 16
SAME_OBJECT_IOU = 0.9
_MAYBE_SAME_BOX_IOU = 0.5
_OUTSIDE_PX = 1.0


def coco_defects(annotations: Path, images: Path) -> list[Defect]:
    """Lists the defects of a COCO file and of the images that it names.

    Raises:
        DatasetError: if the file is no JSON or lacks COCO's lists.
    """
    raw = load_coco_json(annotations)
    found: list[Defect] = []
    records = _images(raw["images"], found)
    categories = _categories(raw["categories"], found)
    objects = _objects(raw["annotations"], records, categories, found)
    for record in records.values():
        size = (record.width, record.height)
        found += file_defects(images / record.file_name, record.file_name, size)
        found += _shape_defects(record, objects.get(record.id, []), categories)
    # An image whose every entry is broken is not an image without objects.
    named = {entry.get("image_id") for entry in raw["annotations"] if isinstance(entry, dict)}
    found += [
        Defect("no-objects", "warning", record.file_name, None, "image without objects")
        for record in records.values()
        if record.id not in named
    ]
    used = {obj.category_id for obj in chain.from_iterable(objects.values())}
    found += [
        Defect("unused-class", "warning", None, None, f"class {category.name!r} has no objects")
        for category in categories.values()
        if category.id not in used
    ]
    names = [record.file_name for record in records.values()]
    found += duplicate_images({name: images / name for name in names})
    found += unlisted_images(images, names, f"entry in {annotations.name}")
    return found


def _images(entries: Sequence[Any], found: list[Defect]) -> dict[int, ImageRecord]:
    records: dict[int, ImageRecord] = {}
    names: set[str] = set()
    for index, entry in enumerate(entries):
        try:
            record = parse_image(entry, f"images[{index}]")
        except DatasetError as error:
            found.append(Defect("bad-entry", "error", None, None, str(error)))
            continue
        if record.id in records:
            detail = f"images[{index}]: image id {record.id} again, first {records[record.id].file_name}"
            found.append(Defect("duplicate-id", "error", record.file_name, None, detail))
            continue
        if record.file_name in names:
            found.append(Defect("duplicate-name", "error", record.file_name, None, f"images[{index}]: listed again"))
        names.add(record.file_name)
        records[record.id] = record
    return records


def _categories(entries: Sequence[Any], found: list[Defect]) -> dict[int, Category]:
    categories: dict[int, Category] = {}
    names: set[str] = set()
    for index, entry in enumerate(entries):
        try:
            category = parse_category(entry, f"categories[{index}]")
        except DatasetError as error:
            found.append(Defect("bad-entry", "error", None, None, str(error)))
            continue
        if category.id in categories:
            detail = f"categories[{index}]: category id {category.id} again"
            found.append(Defect("duplicate-id", "error", None, None, detail))
            continue
        if category.name in names:
            detail = f"categories[{index}]: class {category.name!r} again"
            found.append(Defect("duplicate-name", "error", None, None, detail))
        names.add(category.name)
        categories[category.id] = category
    return categories


def _objects(
    entries: Sequence[Any],
    images: Mapping[int, ImageRecord],
    category_ids: Collection[int],
    found: list[Defect],
) -> dict[int, list[ObjectRecord]]:
    """Parses what can be parsed, by image id."""
    objects: dict[int, list[ObjectRecord]] = {}
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        where = f"annotations[{index}]"
        try:
            obj = parse_object(entry, where, images, category_ids)
        except DatasetError as error:
            found.append(_broken(entry, error, images, category_ids))
            continue
        if obj.id in seen:
            name = images[obj.image_id].file_name
            found.append(Defect("duplicate-id", "error", name, obj.id, f"{where}: annotation id {obj.id} again"))
        seen.add(obj.id)
        objects.setdefault(obj.image_id, []).append(obj)
    return objects


def _broken(
    entry: Any, error: DatasetError, images: Mapping[int, ImageRecord], category_ids: Collection[int]
) -> Defect:
    """Names the fault of an annotation that could not be parsed."""
    fields = entry if isinstance(entry, dict) else {}
    object_id = fields.get("id") if type(fields.get("id")) is int else None
    image_id, category_id = fields.get("image_id"), fields.get("category_id")
    image = images.get(image_id) if type(image_id) is int else None
    name = image.file_name if image else None
    if type(image_id) is int and image is None:
        return Defect("unknown-id", "error", None, object_id, f"image_id {image_id} is not in images")
    if type(category_id) is int and category_id not in category_ids:
        return Defect("unknown-id", "error", name, object_id, f"category_id {category_id} is not in categories")
    if "segmentation" in fields and not fields["segmentation"]:
        return Defect("empty-shape", "error", name, object_id, "no polygon and no RLE")
    return Defect("bad-entry", "error", name, object_id, str(error))


def _shape_defects(
    image: ImageRecord, objects: Sequence[ObjectRecord], categories: Mapping[int, Category]
) -> list[Defect]:
    found: list[Defect] = []
    shapes: list[tuple[ObjectRecord, Rle]] = []
    for obj in objects:
        rle = rle_of(obj, image.height, image.width)
        area = rle_area(rle)
        outside = _outside_px(obj, image)
        if outside > _OUTSIDE_PX:
            detail = f"reaches {outside:.1f} px out of the {image.width}x{image.height} image"
            found.append(Defect("out-of-image", "warning", image.file_name, obj.id, detail))
        if area == 0:
            detail = f"covers no pixel (area in the file: {obj.area_px:g} px)"
            found.append(Defect("empty-shape", "error", image.file_name, obj.id, detail))
            continue
        if area < TINY_PX and not obj.is_crowd:
            detail = f"covers {area} px, under {TINY_PX}"
            found.append(Defect("tiny-shape", "warning", image.file_name, obj.id, detail))
        shapes.append((obj, rle))
    return found + _same_objects(image, shapes, categories)


def _outside_px(obj: ObjectRecord, image: ImageRecord) -> float:
    """Tells how far polygons reach over the image's edge; run lengths can't."""
    if isinstance(obj.segmentation, Rle):
        return 0.0
    xs = list(chain.from_iterable(polygon[0::2] for polygon in obj.segmentation))
    ys = list(chain.from_iterable(polygon[1::2] for polygon in obj.segmentation))
    return max(0.0, -min(xs), -min(ys), max(xs) - image.width, max(ys) - image.height)


def _same_objects(
    image: ImageRecord, shapes: Sequence[tuple[ObjectRecord, Rle]], categories: Mapping[int, Category]
) -> list[Defect]:
    """Finds objects labelled twice: mask IoU above SAME_OBJECT_IOU. Boxes and areas rule out nearly all pairs first."""
    if len(shapes) < 2:
        return []
    boxes = np.array([rle_bbox(rle) for _, rle in shapes])
    areas = np.array([rle_area(rle) for _, rle in shapes], dtype=np.float64)
    # A mask IoU can't exceed the ratio of the areas.
    same_area = np.minimum.outer(areas, areas) > SAME_OBJECT_IOU * np.maximum.outer(areas, areas)
    firsts, seconds = np.nonzero(np.triu(same_area & (_box_iou(boxes) > _MAYBE_SAME_BOX_IOU), k=1))
    found: list[Defect] = []
    for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True):
        iou = float(rle_iou([shapes[first][1]], [shapes[second][1]])[0, 0])
        if iou > SAME_OBJECT_IOU:
            found.append(_same_object(image, shapes[first][0], shapes[second][0], iou, categories))
    return found


def _same_object(
    image: ImageRecord, first: ObjectRecord, second: ObjectRecord, iou: float, categories: Mapping[int, Category]
) -> Defect:
    if first.category_id == second.category_id:
        detail = f"same object as annotation {first.id} (mask IoU {iou:.2f})"
        return Defect("duplicate-object", "warning", image.file_name, second.id, detail)
    detail = (
        f"{categories[second.category_id].name!r}, but annotation {first.id} is "
        f"{categories[first.category_id].name!r} on the same object (mask IoU {iou:.2f})"
    )
    return Defect("conflicting-duplicate", "error", image.file_name, second.id, detail)


def _box_iou(boxes_xywh: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Pairwise box IoU, shape (N, N)."""
    low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    inter = np.clip(sides, 0, None).prod(axis=2)
    area = boxes_xywh[:, 2:].prod(axis=1)
    iou: np.ndarray[Any, np.dtype[np.float64]] = inter / (area[:, None] + area[None] - inter)
    return iou
