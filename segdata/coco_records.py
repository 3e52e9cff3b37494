"""The annotations of a COCO file, image by image, from a file that all processes of a node map into their memory.

A trial's data set and evaluator read here what they need when they need it; `segdata.record_cache` tells how the file
comes to be.

A record holds an image in two lines of JSON: what a training sample is made of, ready for use, and what else the COCO
file says of each object. Python reads numbers back from JSON exactly as they were.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from segdata.coco import load_coco_json, parse_category, parse_image, parse_object
from segdata.errors import DatasetError
from segdata.instances import Category, ImageRecord, InstanceDataset
from segdata.record_cache import open_cached
from segdata.record_file import write_records

__all__ = ["CocoRecords"]

FORM = "coco1"  # another number for another layout of the file
KEYS = ("id", "category_id", "bbox", "area", "iscrowd")  # of an object's second line, after its shape

Entry = dict[str, Any]
Flags = npt.NDArray[np.bool_]


class CocoRecords:
    """The annotations of one COCO file. Images are numbered from 0, in the order of the file.

    Attributes:
        source: The COCO file.
        categories: In the order of the file.
    """

    def __init__(self, source: Path) -> None:
        """Opens the annotations; they are parsed only where no process of this node did so before.

        Raises:
            DatasetError: The file is missing or no COCO file, or an id occurs twice.
        """
        self.source = source
        self._open(distrust=False)

    def __len__(self) -> int:
        return len(self._file)

    def __reduce__(self) -> tuple[type["CocoRecords"], tuple[Path]]:
        return CocoRecords, (self.source,)  # another process maps the file for itself

    def __deepcopy__(self, memo: object) -> "CocoRecords":
        return self  # nothing in it changes

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes, in the order of the file."""
        return tuple(Category(category_id, name) for category_id, name in self._file.description["categories"])

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Category ids, ascending."""
        return tuple(sorted(category.id for category in self.categories))

    def sample(self, index: int) -> tuple[ImageRecord, list[Entry]]:
        """Returns an image and its objects as MMDetection's CocoDataset hands them out.

        Each has ignore_flag (1 of a crowd), bbox (xyxy, pixels), bbox_label (place among `categories`) and, if it has
        a shape, mask (polygons or RLE). Left out are objects that it does not train on: of the key "ignore", outside
        of the image, without area or below one pixel wide or high.
        """
        line, _, _ = self._read(index).partition(b"\n")
        image, instances = json.loads(line)
        return ImageRecord(*image), instances

    def side_px(self) -> npt.NDArray[np.int64]:
        """Returns the shorter side of every image."""
        return np.asarray(self._file.arrays["sides"])

    def holds(self, category_ids: Collection[int]) -> Flags:
        """Tells of every image whether it has an object of one of the categories, of whatever size or kind."""
        flags: Flags = np.zeros(len(self), dtype=np.bool_)
        categories, images = self._file.arrays["holdings"]
        flags[images[np.isin(categories, list(category_ids))]] = True
        return flags

    def dataset(self) -> InstanceDataset:
        """Builds what `segdata.coco.read_coco` returns for a sound file, from the records.

        Raises:
            DatasetError: An object is not sound.
        """
        images: dict[int, ImageRecord] = {}
        objects = []
        known = {category.id for category in self.categories}
        for index in range(len(self)):
            (values, instances), rows = (json.loads(line) for line in self._read(index).split(b"\n"))
            image = images[values[0]] = ImageRecord(*values)
            where = f"{self.source}, annotations of {image.file_name}"
            entries = _annotations(image, instances, rows)
            objects += [parse_object(entry, where, images, known) for entry in entries]
        order = np.argsort(self._file.arrays["places"])
        return InstanceDataset(tuple(images.values()), self.categories, tuple(objects[place] for place in order))

    def _read(self, index: int) -> bytes:
        try:
            return self._file.read(index)
        except DatasetError:  # damaged since it was opened
            self._open(distrust=True)
            return self._file.read(index)

    def _open(self, *, distrust: bool) -> None:
        self._file = open_cached(self.source, FORM, lambda stream: _write(self.source, stream), distrust=distrust)


def _write(source: Path, stream: BinaryIO) -> None:
    """Parses a COCO file and writes its records."""
    raw = load_coco_json(source)
    images = [parse_image(entry, f"{source}, images[{i}]") for i, entry in enumerate(raw["images"])]
    categories = [parse_category(entry, f"{source}, categories[{i}]") for i, entry in enumerate(raw["categories"])]
    for section in raw:
        _refuse_repeated_ids(raw[section], f"{source}, {section}")
    index_of = {image.id: index for index, image in enumerate(images)}
    of_image: list[list[int]] = [[] for _ in images]
    for place, annotation in enumerate(raw["annotations"]):
        if annotation.get("image_id") in index_of:
            of_image[index_of[annotation["image_id"]]].append(place)
    annotations = raw["annotations"]
    pairs = {(annotations[place]["category_id"], index) for index, own in enumerate(of_image) for place in own}
    arrays = {
        "sides": np.array([min(image.width, image.height) for image in images], dtype=np.int64),
        "holdings": np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T,
        "places": np.fromiter(chain.from_iterable(of_image), dtype=np.int64),
    }
    label_of = {category.id: label for label, category in enumerate(categories)}
    rows = zip(images, of_image, strict=True)
    records = (_packed(image, [annotations[place] for place in own], label_of) for image, own in rows)
    write_records(stream, records, arrays, {"categories": [[category.id, category.name] for category in categories]})


def _refuse_repeated_ids(entries: Sequence[Entry], where: str) -> None:
    counts = Counter(entry.get("id") for entry in entries)
    repeated = [entry_id for entry_id, count in counts.items() if count > 1 or entry_id is None]
    if repeated:
        raise DatasetError.of(
            f"expected entries with an id that occurs once, but got {repeated[0]} again",
            where=where,
            cure="Run `segsweep data check` to list every such fault.",
        )


def _packed(image: ImageRecord, annotations: Sequence[Entry], index_of: Mapping[int, int]) -> bytes:
    instances: list[Entry] = []
    rows = []
    for annotation in annotations:
        if annotation.get("bbox") is None or annotation.get("area") is None:
            annotation = _completed(annotation, image)
        shape = annotation.get("segmentation")
        if _is_sample(annotation, image) and annotation["category_id"] in index_of:
            instances.append(_instance(annotation, index_of[annotation["category_id"]]))
            shape = len(instances) - 1 if shape else shape
        rows.append([shape, *(annotation.get(key) for key in KEYS)])
    texts = ([image.id, image.file_name, image.width, image.height], instances), rows
    return b"\n".join(json.dumps(text, separators=(",", ":")).encode() for text in texts)


def _completed(annotation: Entry, image: ImageRecord) -> Entry:
    where, category_id = f"annotations (id {annotation.get('id')})", annotation.get("category_id")
    known = parse_object(annotation, where, {image.id: image}, {category_id} if isinstance(category_id, int) else ())
    return annotation | {"bbox": list(known.bbox_xywh), "area": known.area_px}


def _is_sample(annotation: Entry, image: ImageRecord) -> bool:
    """Tells whether MMDetection trains on an object: it is at least a pixel wide and high, and not all outside."""
    if annotation.get("ignore", False):
        return False
    x, y, width, height = annotation["bbox"]
    inside = max(0, min(x + width, image.width) - max(x, 0)) * max(0, min(y + height, image.height) - max(y, 0))
    return bool(inside and annotation["area"] > 0 and width >= 1 and height >= 1)


def _instance(annotation: Entry, label: int) -> Entry:
    x, y, width, height = annotation["bbox"]
    crowd = 1 if annotation.get("iscrowd", False) else 0
    instance = {"ignore_flag": crowd, "bbox": [x, y, x + width, y + height], "bbox_label": label}
    return instance | ({"mask": annotation["segmentation"]} if annotation.get("segmentation") else {})


def _annotations(image: ImageRecord, instances: Sequence[Entry], rows: Sequence[list[Any]]) -> Iterator[Entry]:
    """Yields the entries of the COCO file."""
    for shape, *values in rows:
        entry = dict(zip(KEYS, values, strict=True)) | {"image_id": image.id}
        entry["segmentation"] = instances[shape]["mask"] if isinstance(shape, int) else shape
        yield {key: value for key, value in entry.items() if value is not None}
