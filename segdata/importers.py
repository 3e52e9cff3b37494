"""Importers: labels as people have them -> a dataset folder (`images/*.png` and `annotations.json`).

Every file is checked before it counts; a wrong one stops the import, and nothing is left behind. What is not wrong
but worth knowing (an empty mask, an object lost in downscaling) is said in `ImportReport.remarks`.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segdata.atomic import new_folder, refuse_existing
from segdata.coco import write_coco
from segdata.dataset_folder import ANNOTATIONS, IMAGES
from segdata.errors import DatasetError, InputError
from segdata.images import IMAGE_SUFFIXES, ImageArray, image_size, images_by_stem, list_images, open_image, read_image
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.mask_files import read_number_map, read_object_mask
from segdata.rle import Mask, rle_area, rle_bbox, rle_encode

__all__ = ["ImportReport", "import_label_maps", "import_mask_folders"]

_CATEGORY_ID = 1


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import wrote, and what it left out or noticed."""

    images: int
    objects: int
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """One image to import, and how to get its objects (mask of full size, where it comes from)."""

    name: str
    image: Path
    masks: Callable[[], Iterator[tuple[Mask, str]]]


def import_mask_folders(
    folder: Path,
    out: Path,
    *,
    class_name: str = "object",
    scale: float = 1.0,
    on_image: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Imports `folder/<id>/masks/*.png`, one file an object, with the one image in `<id>/images/` or in `<id>/`.

    Args:
        folder: Holds one folder an image.
        out: The dataset folder to write.
        class_name: Name of the one class.
        scale: Above 0, at most 1: images are shrunk by area, masks where half a pixel or more is covered.
        on_image: Called after each image with (done, total).

    Raises:
        DatasetError: if there are no masks, a mask has other than two values or another size than its image, or a
            folder has not exactly one image.
        InputError: if `out` exists, or `scale` or `class_name` is wrong.
    """
    sources = tuple(_mask_source(entry) for entry in _image_folders(folder))
    return _write(sources, out, class_name, scale, on_image)


def import_label_maps(
    images: Path,
    labels: Path,
    out: Path,
    *,
    class_name: str = "object",
    scale: float = 1.0,
    on_image: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Imports label maps (0 = background, each other number one object), matched to images by file stem.

    Raises:
        DatasetError: if an image or label map has no partner or another size, or a label map has colours or fractions.
        InputError: as `import_mask_folders`.
    """
    image_paths, label_paths = images_by_stem(images), images_by_stem(labels)
    if not label_paths:
        raise DatasetError.of("expected label maps, but got none", where=labels, cure="Check the folder.")
    alone = sorted(set(image_paths) ^ set(label_paths))
    if alone:
        place, kind = (labels, "a label map") if alone[0] in image_paths else (images, "an image")
        raise DatasetError.of(
            f"expected {kind} named {alone[0]}.*, but got none ({len(alone)} without a partner)",
            where=place,
            cure="Add it, or remove its partner.",
        )
    sources = tuple(_label_source(stem, image_paths[stem], label_paths[stem]) for stem in sorted(image_paths))
    return _write(sources, out, class_name, scale, on_image)


def _image_folders(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise DatasetError.of("expected a folder, but got nothing there", where=folder, cure="Check the path.")
    entries = tuple(sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if not any(entry.joinpath("masks").is_dir() for entry in entries):
        deeper = next(folder.glob("*/*/masks"), None)
        raise DatasetError.of(
            "expected one folder an image, each with masks/*.png, but found no masks",
            where=folder,
            cure=f"Did you mean {deeper.parent.parent}?" if deeper else "Check the path.",
        )
    return entries


def _mask_source(entry: Path) -> _Source:
    masks = entry / "masks"
    if not masks.is_dir():
        raise DatasetError.of("expected a folder masks/ in it, but got none", where=entry, cure="Add or remove it.")
    mask_paths = sorted(masks.glob("*.png"))
    if not mask_paths:
        raise DatasetError.of("expected masks (*.png), but found none", where=masks, cure="Add them or remove it.")
    inner = entry / "images"
    candidates: Sequence[Path] = list_images(inner) if inner.is_dir() else ()
    if not candidates:
        everywhere = sorted(path for path in entry.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        candidates = [path for path in everywhere if masks not in path.parents]
    if len(candidates) != 1:
        found = ", ".join(path.name for path in candidates[:3]) or "none"
        raise DatasetError.of(f"expected one image, but got {found}", where=entry, cure="Leave exactly one in it.")
    return _Source(entry.name, candidates[0], lambda: ((read_object_mask(path), str(path)) for path in mask_paths))


def _label_source(stem: str, image: Path, label: Path) -> _Source:
    def masks() -> Iterator[tuple[Mask, str]]:
        number_HW = read_number_map(label)
        _check_size(number_HW.shape, image, str(label))  # here too: a map without objects yields no mask
        for number in np.unique(number_HW).tolist():
            if number:
                yield number_HW == number, f"{label}, object {number}"

    return _Source(stem, image, masks)


def _write(
    sources: Sequence[_Source],
    out: Path,
    class_name: str,
    scale: float,
    on_image: Callable[[int, int], None] | None,
) -> ImportReport:
    refuse_existing(out)
    if not 0 < scale <= 1:
        raise InputError.of(f"expected above 0, at most 1, but got {scale:g}", where="scale", cure="Take 0.5, say.")
    if not class_name.strip():
        raise InputError.of("expected a name, but got nothing", where="class", cure="Name what the objects are.")
    images: list[ImageRecord] = []
    objects: list[ObjectRecord] = []
    remarks: list[str] = []
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        for number, source in enumerate(sources, start=1):
            record = _write_image(source, number, folder / IMAGES, scale)
            found = _objects(source, record, len(objects) + 1, scale, remarks)
            images.append(record)
            objects.extend(found)
            if not found:
                remarks.append(f"{source.image}: no objects")
            if on_image is not None:
                on_image(number, len(sources))
        dataset = InstanceDataset(tuple(images), (Category(_CATEGORY_ID, class_name),), tuple(objects))
        write_coco(dataset, folder / ANNOTATIONS)
    return ImportReport(len(images), len(objects), tuple(remarks))


def _write_image(source: _Source, number: int, folder: Path, scale: float) -> ImageRecord:
    target = folder / f"{source.name}.png"
    if scale == 1 and _is_plain_png(source.image):
        with open_image(source.image) as image:
            image.load()  # a truncated file must not get through as a copy
        shutil.copyfile(source.image, target)
        width, height = image_size(target)
    else:
        rgb_HWC = _shrunk(read_image(source.image), scale)
        height, width = rgb_HWC.shape[:2]
        Image.fromarray(rgb_HWC).save(target)
    return ImageRecord(number, target.name, width, height)


def _is_plain_png(path: Path) -> bool:
    with open_image(path) as image:
        return image.format == "PNG" and image.mode in ("RGB", "L") and "transparency" not in image.info


def _objects(
    source: _Source, record: ImageRecord, first_id: int, scale: float, remarks: list[str]
) -> list[ObjectRecord]:
    found: list[ObjectRecord] = []
    for mask_HW, where in source.masks():
        _check_size(mask_HW.shape, source.image, where)
        if not mask_HW.any():
            remarks.append(f"{where}: empty, left out")
            continue
        rle = rle_encode(_shrunk_mask(mask_HW, (record.width, record.height)))
        area = rle_area(rle)
        if area == 0:
            remarks.append(f"{where}: lost at scale {scale:g}, left out")
            continue
        found.append(
            ObjectRecord(first_id + len(found), record.id, _CATEGORY_ID, rle, rle_bbox(rle), float(area), False)
        )
    return found


def _check_size(shape: tuple[int, ...], image: Path, where: str) -> None:
    width, height = image_size(image)
    if shape != (height, width):
        raise DatasetError.of(
            f"expected {width}x{height} pixels as in {image.name}, but got {shape[1]}x{shape[0]}",
            where=where,
            cure="Export image and labels at the same size.",
        )


def _shrunk(rgb_HWC: ImageArray, scale: float) -> ImageArray:
    height, width = rgb_HWC.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return rgb_HWC
    return np.asarray(cv2.resize(rgb_HWC, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shrunk_mask(mask_HW: Mask, size: tuple[int, int]) -> Mask:
    if mask_HW.shape[::-1] == size:
        return mask_HW
    covered_HW = cv2.resize(mask_HW.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(covered_HW >= 0.5)
