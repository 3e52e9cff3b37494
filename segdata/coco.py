"""COCO instance JSON: reading with every reference checked, and writing.

`read_coco` refuses what training or scoring would trip over; `segdata.defects` lists such faults instead. Only ids,
names, sizes, shapes, boxes, areas and the crowd flag are kept; other keys (licences, attributes) are not.
The records themselves live in `segdata.instances` and are offered here too.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from segdata.atomic import write_text
from segdata.errors import DatasetError
from segdata.instances import (
    Category,
    ImageRecord,
    InstanceDataset,
    ObjectRecord,
    Polygons,
    Segmentation,
    mask_of,
    rle_of,
)
from segdata.rle import Rle, rle_area, rle_bbox, rle_decode, rle_encode, rle_from_counts, rle_from_polygons

__all__ = [
    "Category",
    "ImageRecord",
    "InstanceDataset",
    "ObjectRecord",
    "Rle",
    "Segmentation",
    "as_coco",
    "load_coco_json",
    "mask_of",
    "parse_box",
    "parse_category",
    "parse_image",
    "parse_object",
    "parse_segmentation",
    "read_coco",
    "rle_decode",
    "rle_encode",
    "rle_of",
    "write_coco",
]

_SECTIONS = ("images", "annotations", "categories")
_CHECK = "Correct the entry; in a data set `segsweep data check` lists every such fault."
FARTHEST_SIZES = 4  # a shape this many image sizes away is a unit error; drawing it would take gigabytes


def read_coco(path: Path) -> InstanceDataset:
    """Reads COCO instance annotations; missing boxes and areas are computed, uncompressed RLE is compressed.

    Raises:
        DatasetError: naming the file and the broken key: not JSON (line), not COCO, an id twice or unknown, a shape
            that is no shape.
    """
    raw = load_coco_json(path)
    images = tuple(parse_image(entry, f"{path}, images[{i}]") for i, entry in enumerate(raw["images"]))
    categories = tuple(parse_category(entry, f"{path}, categories[{i}]") for i, entry in enumerate(raw["categories"]))
    _refuse_repeats([image.id for image in images], f"{path}, images", "id")
    _refuse_repeats([image.file_name for image in images], f"{path}, images", "file_name")
    _refuse_repeats([category.id for category in categories], f"{path}, categories", "id")
    _refuse_repeats([category.name for category in categories], f"{path}, categories", "name")
    image_by_id = {image.id: image for image in images}
    category_ids = {category.id for category in categories}
    objects = tuple(
        parse_object(entry, f"{path}, annotations[{i}]", image_by_id, category_ids)
        for i, entry in enumerate(raw["annotations"])
    )
    _refuse_repeats([obj.id for obj in objects], f"{path}, annotations", "id")
    return InstanceDataset(images, categories, objects)


def write_coco(dataset: InstanceDataset, path: Path) -> None:
    """Writes COCO JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(as_coco(dataset), allow_nan=False) + "\n")


def as_coco(dataset: InstanceDataset) -> dict[str, list[dict[str, Any]]]:
    """Returns the data set in COCO's form; nothing in it is shared with another call's.

    Categories go by their ids: MMDetection numbers classes in the file's order, we in the order of ids.
    """
    return {
        "images": [
            {"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height} for i in dataset.images
        ],
        "annotations": [_object_entry(obj) for obj in dataset.objects],
        "categories": [
            {"id": category.id, "name": category.name} for category in sorted(dataset.categories, key=lambda c: c.id)
        ],
    }


def load_coco_json(path: Path) -> dict[str, list[Any]]:
    """Reads the file as JSON with COCO's three lists; the entries are not looked at.

    Raises:
        DatasetError: if the file is missing, not JSON, or lacks a list.
    """
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError.of(
            f"expected a COCO annotation file, but got: {error.strerror}", where=path, cure="Check the path."
        ) from error
    except (ValueError, RecursionError) as error:  # too deep, or a number of thousands of digits, are no JSON errors
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DatasetError.of(
            f"expected JSON, but got: {error}", where=f"{path}{line}", cure="Export the annotations again."
        ) from error
    if not isinstance(raw, dict) or any(not isinstance(raw.get(key), list) for key in _SECTIONS):
        found = ", ".join(map(str, list(raw)[:6])) or "nothing" if isinstance(raw, dict) else f"a {type(raw).__name__}"
        raise DatasetError.of(
            f"expected COCO annotations (lists {', '.join(_SECTIONS)}), but got {found}",
            where=path,
            cure="Export as COCO instance segmentation.",
        )
    return {key: raw[key] for key in _SECTIONS}


def parse_image(entry: Any, where: str) -> ImageRecord:
    """Checks one element of `images`.

    Raises:
        DatasetError: naming `where` and the key.
    """
    image = ImageRecord(
        id=_integer(entry, "id", where),
        file_name=_text(entry, "file_name", where),
        width=_integer(entry, "width", where),
        height=_integer(entry, "height", where),
    )
    if image.width < 1 or image.height < 1:
        raise _wrong(where, "a width and height of at least 1", f"{image.width}x{image.height}")
    return image


def parse_category(entry: Any, where: str) -> Category:
    """Checks one element of `categories`.

    Raises:
        DatasetError: naming `where` and the key.
    """
    return Category(id=_integer(entry, "id", where), name=_text(entry, "name", where))


def parse_object(
    entry: Any, where: str, images: Mapping[int, ImageRecord], category_ids: Collection[int]
) -> ObjectRecord:
    """Checks one element of `annotations` against the known images and categories.

    Raises:
        DatasetError: naming `where`, the annotation id and the key.
    """
    object_id = _integer(entry, "id", where)
    where = f"{where} (id {object_id})"
    image = images.get(_integer(entry, "image_id", where))
    if image is None:
        raise _wrong(f"{where}.image_id", "the id of an image in this file", str(entry["image_id"]))
    category_id = _integer(entry, "category_id", where)
    if category_id not in category_ids:
        raise _wrong(f"{where}.category_id", "the id of a category in this file", str(category_id))
    segmentation = parse_segmentation(entry.get("segmentation"), image, f"{where}.segmentation")
    bbox, area = entry.get("bbox"), entry.get("area")
    if bbox is None or area is None:
        rle = segmentation if isinstance(segmentation, Rle) else _drawn(segmentation, image)
        bbox = rle_bbox(rle) if bbox is None else bbox
        area = rle_area(rle) if area is None else area
    return ObjectRecord(
        id=object_id,
        image_id=image.id,
        category_id=category_id,
        segmentation=segmentation,
        bbox_xywh=parse_box(bbox, f"{where}.bbox"),
        area_px=_number(area, f"{where}.area"),
        is_crowd=_flag(entry.get("iscrowd", 0), f"{where}.iscrowd"),
    )


def parse_segmentation(raw: Any, image: ImageRecord, where: str) -> Segmentation:
    """Checks polygons or run lengths, which come back compressed.

    Raises:
        DatasetError: naming `where` and the key.
    """
    if isinstance(raw, dict):
        return _run_lengths(raw, image, where)
    if not isinstance(raw, list) or not raw:
        raise _wrong(where, "polygons or RLE", "nothing" if raw in (None, []) else repr(raw)[:40])
    return tuple(_polygon(polygon, image, f"{where}[{i}]") for i, polygon in enumerate(raw))


def _polygon(raw: Any, image: ImageRecord, where: str) -> tuple[float, ...]:
    # Below six numbers pycocotools would read a box out of it.
    if not isinstance(raw, list) or len(raw) < 6 or len(raw) % 2:
        found = f"{len(raw)} numbers" if isinstance(raw, list) else repr(raw)[:40]
        raise _wrong(where, "a polygon [x, y, x, y, x, y, ...] of three or more points", found)
    try:
        polygon = tuple(map(float, raw))
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(where, "numbers", str(error)) from error
    farthest = FARTHEST_SIZES * max(image.width, image.height)
    if not -farthest <= min(polygon) <= max(polygon) <= farthest or not math.isfinite(sum(polygon)):
        worst = max(polygon, key=lambda value: math.inf if math.isnan(value) else abs(value))
        raise _wrong(where, f"coordinates in pixels of the {image.width}x{image.height} image", str(worst))
    return polygon


def _run_lengths(raw: dict[str, Any], image: ImageRecord, where: str) -> Rle:
    if raw.get("size") != [image.height, image.width]:
        raise _wrong(f"{where}.size", f"[height, width] = [{image.height}, {image.width}]", str(raw.get("size")))
    counts: Any = raw.get("counts")
    is_list = isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts)
    if not is_list and not isinstance(counts, str):
        raise _wrong(f"{where}.counts", "a string or a list of run lengths", repr(counts)[:40])
    try:
        return rle_from_counts(counts, image.height, image.width)
    except DatasetError as error:
        raise DatasetError.of(str(error), where=f"{where}.counts", cure=_CHECK) from error


def _drawn(polygons: Polygons, image: ImageRecord) -> Rle:
    return rle_from_polygons(polygons, image.height, image.width)


def parse_box(raw: Any, where: str) -> tuple[float, float, float, float]:
    """Checks a box, xywh in pixels.

    Raises:
        DatasetError: naming `where`.
    """
    if not isinstance(raw, (list, tuple)) or len(raw) != 4:
        raise _wrong(where, "[x, y, width, height]", repr(raw)[:40])
    x, y, w, h = (_number(value, where) for value in raw)
    return (x, y, w, h)


def _number(raw: Any, where: str) -> float:
    try:
        number = float(raw) if isinstance(raw, (int, float)) and not isinstance(raw, bool) else math.nan
    except OverflowError:  # of a whole number with hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(where, "a finite number", repr(raw)[:40])
    return number


def _flag(raw: Any, where: str) -> bool:
    if raw not in (0, 1):
        raise _wrong(where, "0 or 1", repr(raw)[:40])
    return bool(raw)


def _integer(entry: Any, key: str, where: str) -> int:
    value = _value(entry, key, where)
    if type(value) is not int:
        raise _wrong(f"{where}.{key}", "an integer", repr(value)[:40])
    return value


def _text(entry: Any, key: str, where: str) -> str:
    value = _value(entry, key, where)
    if not isinstance(value, str) or not value:
        raise _wrong(f"{where}.{key}", "a text", repr(value)[:40])
    return value


def _value(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict):
        raise _wrong(where, "an object with keys", repr(entry)[:40])
    if key not in entry:
        raise _wrong(f"{where}.{key}", "this key", "an entry without it")
    return entry[key]


def _wrong(where: str, expected: str, found: str) -> DatasetError:
    return DatasetError.of(f"expected {expected}, but got {found}", where=where, cure=_CHECK)


def _refuse_repeats(values: list[Any], where: str, key: str) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise _wrong(f"{where}[{index}].{key}", "a value that occurs once", f"{value!r} again")
        seen.add(value)


def _object_entry(obj: ObjectRecord) -> dict[str, Any]:
    shape = obj.segmentation
    return {
        "id": obj.id,
        "image_id": obj.image_id,
        "category_id": obj.category_id,
        "segmentation": shape.to_coco() if isinstance(shape, Rle) else [list(polygon) for polygon in shape],
        "bbox": list(obj.bbox_xywh),
        "area": obj.area_px,
        "iscrowd": int(obj.is_crowd),
    }
