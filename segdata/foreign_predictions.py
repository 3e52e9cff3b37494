"""Predictions of other tools as prediction sets: a COCO results file, or a folder of label maps.

    results.json      [{"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": RLE or polygons, "bbox": ..}, ..]
    FOLDER/STEM.png   8 bits, grey or with a palette; pixel = index into the classes

A set is named by what it was made of, so that it is made once. May import this package's records.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from segdata.coco import FARTHEST_SIZES, parse_box, parse_segmentation
from segdata.errors import DatasetError
from segdata.instances import ImageRecord
from segdata.labelmaps import LabelMap, read_label_map
from segdata.prediction_meta import META_FILE, ImageInstances, PredictedImage, PredictionMeta
from segdata.prediction_writer import PredictionWriter
from segdata.rle import Rle, rle_bbox, rle_from_polygons

__all__ = ["import_predictions"]

_DIGITS = 12
_EDIT = "Correct the file, or write it again with the tool that made it."
Entry = Mapping[str, Any]


def import_predictions(
    path: Path,
    images: Sequence[PredictedImage],
    *,
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    fingerprint: str,
    folder: Path,
) -> Path:
    """Brings another tool's predictions into a prediction set below `folder`, and returns its path.

    A results file lists objects, not images: an image without one is taken to be empty. A folder must hold a label map
    for every image; others in it are passed over. A prediction set is returned as it is.

    Args:
        path: The file (instance) or folder (semantic).
        images: All that are to be in the set; results refer to their ids, label maps to the stems of their names.
        classes: Of the truth.
        category_ids: COCO ids, parallel to `classes`; empty for semantic data.
        fingerprint: Of the data set that the images are.
        folder: Where sets go: `NAME-HASH`.

    Raises:
        DatasetError: There is nothing of this kind at `path`, or something in it is wrong; the message names the entry
            or file. Nothing is left behind.
    """
    if (path / META_FILE).is_file():
        return path
    is_instance = bool(category_ids)
    _refuse_other_kind(path, is_instance)
    digest = hashlib.sha256(repr((fingerprint, classes, category_ids)).encode())
    paths = [path] if is_instance else _label_maps(path, images)
    for file in paths:
        digest.update(f"{file.name} {file.stat().st_size} ".encode() + file.read_bytes())
    out = folder / f"{path.stem}-{digest.hexdigest()[:_DIGITS]}"
    if (out / META_FILE).is_file():
        return out
    meta = PredictionMeta(
        task="instance" if is_instance else "semantic",
        classes=classes,
        category_ids=category_ids,
        dataset_fingerprint=fingerprint,
        code_version=version("segsweep"),
        codec="coco-rle" if is_instance else "labels",
    )
    if is_instance:
        found = _objects(path, images, category_ids)
        with PredictionWriter(out, meta) as writer:
            for image in images:
                writer.add_instances(image, _instances(found.get(image.id, []), category_ids))
    else:
        with PredictionWriter(out, meta) as writer:
            for image, file in zip(images, paths, strict=True):
                writer.add_labels(image, _labels(file, image, classes))
    return out


def _refuse_other_kind(path: Path, is_instance: bool) -> None:
    if path.is_file() if is_instance else path.is_dir():
        return
    wanted = "a JSON file of COCO results" if is_instance else "a folder of label maps (STEM.png)"
    found = "nothing" if not path.exists() else "a folder" if path.is_dir() else "a file"
    raise DatasetError.of(f"expected {wanted}, but got {found}", where=path, cure="Check the path and the task.")


def _objects(path: Path, images: Sequence[PredictedImage], category_ids: tuple[int, ...]) -> dict[int, list[Entry]]:
    """Reads the results, checked, by image; each with `rle`, `bbox` and `score`."""
    records = {image.id: ImageRecord(image.id, image.file_name, image.width, image.height) for image in images}
    found: dict[int, list[Entry]] = {}
    for place, entry in enumerate(_results(path)):
        where = f"{path}, [{place}]"
        if not isinstance(entry, dict):
            raise _wrong(where, "a result with image_id, category_id, score and segmentation", repr(entry)[:40])
        image = records[_known(entry, "image_id", records, where)]
        category_id = _known(entry, "category_id", category_ids, where)
        if entry.get("segmentation") is None:
            raise _wrong(f"{where}.segmentation", "a mask, as RLE or polygons", "a result without one")
        shape = parse_segmentation(entry["segmentation"], image, f"{where}.segmentation")
        rle = shape if isinstance(shape, Rle) else rle_from_polygons(shape, image.height, image.width)
        box = rle_bbox(rle) if entry.get("bbox") is None else parse_box(entry["bbox"], f"{where}.bbox")
        if box[2] < 0 or box[3] < 0:
            raise _wrong(f"{where}.bbox", "[x, y, width, height] with a width and height from 0 on", str(list(box)))
        if max(map(abs, box)) > FARTHEST_SIZES * max(image.width, image.height):
            wanted = f"[x, y, width, height] in pixels of the {image.width}x{image.height} image"
            raise _wrong(f"{where}.bbox", wanted, str(list(box)))
        score = _confidence(entry, where)
        found.setdefault(image.id, []).append({"category_id": category_id, "rle": rle, "bbox": box, "score": score})
    return found


def _results(path: Path) -> list[Any]:
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # too deep, or a number of thousands of digits, are no JSON errors
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DatasetError.of(f"expected JSON, but got: {error}", where=f"{path}{line}", cure=_EDIT) from error
    if not isinstance(raw, list) or not raw:
        found = f"the keys {', '.join(map(str, list(raw)[:4]))}" if isinstance(raw, dict) else repr(raw)[:40]
        raise _wrong(path, "a list of COCO results, one an object", found)
    return raw


def _known(entry: Entry, key: str, known: Collection[int], where: str) -> int:
    value = entry.get(key)
    if type(value) is not int or value not in known:
        some = ", ".join(map(str, sorted(known)[:5])) + (", ..." if len(known) > 5 else "")
        raise _wrong(f"{where}.{key}", f"one of the truth's, {some}", repr(value)[:40])
    return value


def _confidence(entry: Entry, where: str) -> float:
    value = entry.get("score")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _wrong(f"{where}.score", "a confidence from 0 to 1", repr(value)[:40])
    return float(value)


def _instances(found: Sequence[Entry], category_ids: tuple[int, ...]) -> ImageInstances:
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (entry["bbox"] for entry in found)]
    classes = [category_ids.index(entry["category_id"]) for entry in found]
    return ImageInstances.of(boxes, [entry["score"] for entry in found], classes, tuple(e["rle"] for e in found))


def _label_maps(folder: Path, images: Sequence[PredictedImage]) -> list[Path]:
    """Returns the label map of each image."""
    paths = [folder / f"{Path(image.file_name).stem}.png" for image in images]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DatasetError.of(
            f"expected a label map for each of {len(paths)} images, but {len(missing)} are not there, "
            f"such as {missing[0]}",
            where=folder,
            cure="Predict these images too, and name each label map by its image's stem.",
        )
    return paths


def _labels(path: Path, image: PredictedImage, classes: tuple[str, ...]) -> LabelMap:
    label_HW = read_label_map(path)
    if label_HW.shape != (image.height, image.width):
        height, width = label_HW.shape
        raise _wrong(path, f"{image.width}x{image.height} pixels as in {image.file_name}", f"{width}x{height}")
    if (largest := int(label_HW.max())) >= len(classes):
        wanted = f"pixels from 0 to {len(classes) - 1}, the places of {', '.join(classes)}"
        raise _wrong(path, wanted, str(largest))
    return label_HW


def _wrong(where: object, expected: str, found: str) -> DatasetError:
    return DatasetError.of(f"expected {expected}, but got {found}", where=where, cure=_EDIT)
