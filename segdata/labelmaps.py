"""Semantic data on disk: a class index for every pixel.

A label folder holds one 8-bit single-channel PNG an image, `<image stem>.png` (pixel = class index, 255 = ignored),
and `classes.json`: {"classes": ["background", ...], "ignore_index": 255}. Shapes: label_HW is uint8 (H, W).
May import Pillow, numpy and this package's records only.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdata.atomic import new_folder, write_text
from segdata.errors import DatasetError
from segdata.images import image_size, images_by_stem, open_image
from segdata.instances import ImageRecord, InstanceDataset, ObjectRecord, rle_of
from segdata.rle import rle_area, rle_decode

__all__ = [
    "CLASSES_FILE",
    "IGNORE_INDEX",
    "LabelMap",
    "LabelledImage",
    "SemanticDataset",
    "coco_to_labelmaps",
    "draw_label_map",
    "read_classes",
    "read_label_map",
    "read_labels",
    "write_classes",
    "write_label_map",
]

LabelMap = npt.NDArray[np.uint8]

CLASSES_FILE = "classes.json"
IGNORE_INDEX = 255


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image and its label map; `name` is the image's file name."""

    name: str
    image_path: Path
    label_path: Path
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class SemanticDataset:
    """Images with label maps, ordered by name; a pixel is an index into `classes` or `ignore_index`."""

    images: tuple[LabelledImage, ...]
    classes: tuple[str, ...]
    ignore_index: int

    def subset(self, names: Iterable[str]) -> "SemanticDataset":
        """Keeps the named images, in this data set's order.

        Raises:
            DatasetError: if a name is not in the data set.
        """
        wanted = set(names)
        images = tuple(image for image in self.images if image.name in wanted)
        if len(images) != len(wanted):
            missing = sorted(wanted - {image.name for image in images})
            raise DatasetError(
                f"expected names of images in the data set, but got {len(missing)} unknown, such as {missing[0]!r}. "
                "Was the split made for another data set?"
            )
        return SemanticDataset(images, self.classes, self.ignore_index)


def read_labels(images: Path, labels: Path) -> SemanticDataset:
    """Pairs each label map with the image of the same stem; images without a label map are left out.

    Only the files' headers are read: pixel values are checked where they are used (`pixel_statistics`) and by
    `segsweep data check`.

    Raises:
        DatasetError: if a folder, `classes.json` or an image is missing, or sizes differ.
    """
    classes, ignore_index = read_classes(labels)
    image_paths = images_by_stem(images)
    label_paths = sorted(labels.glob("*.png"))
    if not label_paths:
        raise DatasetError.of(
            "expected label maps (*.png), but got none", where=labels, cure="Name the folder that holds them."
        )
    pairs = tuple(_pair(label, image_paths.get(label.stem), images) for label in label_paths)
    return SemanticDataset(tuple(sorted(pairs, key=lambda pair: pair.name)), classes, ignore_index)


def read_label_map(path: Path) -> LabelMap:
    """Reads one label map, uint8 (H, W).

    Raises:
        DatasetError: if the file is missing, can't be decoded, or is not 8-bit with one channel.
    """
    with open_image(path) as image:
        if image.mode not in ("L", "P"):
            raise DatasetError.of(
                f"expected an 8-bit label map with one channel, but got mode {image.mode}",
                where=path,
                cure="Save the class index of each pixel as a grey PNG.",
            )
        return np.asarray(image, dtype=np.uint8)


def write_label_map(label_HW: LabelMap, path: Path) -> None:
    """Writes one label map as an 8-bit grey PNG."""
    Image.fromarray(label_HW).save(path, compress_level=6)


def read_classes(labels: Path) -> tuple[tuple[str, ...], int]:
    """Reads the label folder's `classes.json`; returns (classes, ignore_index).

    Raises:
        DatasetError: if it is missing or not what it should be.
    """
    path = labels / CLASSES_FILE
    cure = 'Write {"classes": ["background", ...], "ignore_index": 255} there.'
    try:
        raw: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError.of(
            f"expected the names of the classes, but got: {error.strerror}", where=path, cure=cure
        ) from error
    except ValueError as error:
        raise DatasetError.of(f"expected JSON, but got: {error}", where=path, cure=cure) from error
    classes = raw.get("classes") if isinstance(raw, dict) else None
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise DatasetError.of("expected a list of names under 'classes', but got none", where=path, cure=cure)
    if len(set(classes)) != len(classes):
        raise DatasetError.of("expected each class once, but got a name twice", where=path, cure="Rename one.")
    ignore_index = raw.get("ignore_index", IGNORE_INDEX)
    if type(ignore_index) is not int or not len(classes) <= ignore_index <= 255:
        raise DatasetError.of(
            f"expected an 'ignore_index' from {len(classes)} to 255, but got {ignore_index!r}", where=path, cure=cure
        )
    return tuple(classes), ignore_index


def write_classes(labels: Path, classes: Sequence[str], ignore_index: int = IGNORE_INDEX) -> None:
    """Writes the label folder's `classes.json`."""
    payload = {"classes": list(classes), "ignore_index": ignore_index}
    write_text(labels / CLASSES_FILE, json.dumps(payload, indent=2) + "\n")


def coco_to_labelmaps(dataset: InstanceDataset, out: Path) -> Path:
    """Draws every image's objects as a label map into a new label folder `out`, and returns it.

    Class index = position of the category in id order + 1; 0 = background. Where objects overlap, the smaller one
    (by mask area) lies on top; of equal areas the later id. Crowd regions become 255 and lie under all objects.

    Raises:
        DatasetError: if there are more than 254 classes, or two images share a stem.
        InputError: if `out` exists and is not empty.
    """
    names = dataset.class_names
    if len(names) >= IGNORE_INDEX:
        raise DatasetError(f"expected at most {IGNORE_INDEX - 1} classes in 8-bit label maps, but got {len(names)}")
    _refuse_shared_stems(dataset.images)
    index_of = {category_id: index for index, category_id in enumerate(dataset.category_ids, start=1)}
    with new_folder(out) as folder:
        write_classes(folder, ["background", *names])
        for image in dataset.images:
            label_HW = draw_label_map(image, dataset.objects_of(image.id), index_of)
            write_label_map(label_HW, folder / f"{Path(image.file_name).stem}.png")
    return out


def draw_label_map(image: ImageRecord, objects: Sequence[ObjectRecord], index_of: dict[int, int]) -> LabelMap:
    """Draws one image's objects by the overlap rule of `coco_to_labelmaps`; `index_of` maps category id to index."""
    label_HW = np.zeros((image.height, image.width), dtype=np.uint8)
    shapes = [(obj, rle_of(obj, image.height, image.width)) for obj in objects]
    shapes.sort(key=lambda shape: (not shape[0].is_crowd, -rle_area(shape[1]), shape[0].id))
    for obj, rle in shapes:
        label_HW[rle_decode(rle)] = IGNORE_INDEX if obj.is_crowd else index_of[obj.category_id]
    return label_HW


def _pair(label: Path, image: Path | None, images: Path) -> LabelledImage:
    if image is None:
        raise DatasetError.of(
            f"expected an image named {label.stem}.* in {images}, but got none",
            where=label,
            cure="Add the image or remove the label map.",
        )
    size, label_size = image_size(image), image_size(label)
    if size != label_size:
        raise DatasetError.of(
            f"expected {size[0]}x{size[1]} pixels as in {image.name}, but got {label_size[0]}x{label_size[1]}",
            where=label,
            cure="Export image and label map at the same size.",
        )
    return LabelledImage(image.name, image, label, *size)


def _refuse_shared_stems(images: Sequence[ImageRecord]) -> None:
    seen: dict[str, str] = {}
    for image in images:
        other = seen.setdefault(Path(image.file_name).stem, image.file_name)
        if other != image.file_name:
            raise DatasetError(
                f"expected image names with different stems, since label maps are named by them, "
                f"but got {other} and {image.file_name}. Rename one."
            )
