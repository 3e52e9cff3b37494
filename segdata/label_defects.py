"""Defects of a label folder: maps without image, undecodable, of another size, with pixels of no class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segdata.defect import Defect
from segdata.errors import DatasetError
from segdata.image_defects import duplicate_images, file_defects, unlisted_images
from segdata.images import images_by_stem
from segdata.labelmaps import read_classes, read_label_map

__all__ = ["label_defects"]


def label_defects(labels: Path, images: Path) -> list[Defect]:
    """Lists the defects of a label folder and of the images that it labels; reads every pixel.

    Raises:
        DatasetError: if `classes.json` is missing or broken, or two images share a stem.
    """
    classes, ignore_index = read_classes(labels)
    image_paths = images_by_stem(images)
    label_paths = {path.stem: path for path in sorted(labels.glob("*.png"))}
    found: list[Defect] = []
    counts = np.zeros(256, dtype=np.int64)
    for stem, path in label_paths.items():
        if stem not in image_paths:
            found.append(Defect("missing-image", "error", None, None, f"{path}: no image named {stem}.* in {images}"))
        found += _map_defects(path, image_paths.get(stem), len(classes), ignore_index, counts)
    if not label_paths:
        found.append(Defect("missing-label-map", "error", None, None, f"{labels}: no label maps (*.png)"))
    found += [
        Defect("unused-class", "warning", None, None, f"class {name!r} has no pixels")
        for index, name in enumerate(classes)
        if counts[index] == 0
    ]
    labelled = _names(image_paths, label_paths)
    found += duplicate_images({path.name: path for stem, path in image_paths.items() if stem in label_paths})
    return found + unlisted_images(images, labelled, "label map")


def _map_defects(
    path: Path,
    image: Path | None,
    num_classes: int,
    ignore_index: int,
    counts: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> list[Defect]:
    """Checks one label map and its image, and adds its pixels to `counts`."""
    name = image.name if image else None
    try:
        label_HW = read_label_map(path)
    except DatasetError as error:
        return [Defect("bad-label-map", "error", name, None, str(error))]
    size = (label_HW.shape[1], label_HW.shape[0])
    found = file_defects(image, image.name, size) if image else []
    values = np.bincount(label_HW.ravel(), minlength=256)
    counts += values
    unknown = [value for value in np.flatnonzero(values).tolist() if num_classes <= value != ignore_index]
    if unknown:
        shown = ", ".join(map(str, unknown[:5]))
        detail = f"{path.name}: pixels of value {shown}, but the classes are 0 to {num_classes - 1}"
        found.append(Defect("unknown-class", "error", name, None, detail))
    if not values[1:num_classes].any():
        found.append(Defect("no-objects", "warning", name, None, f"{path.name}: nothing but background"))
    return found


def _names(image_paths: Mapping[str, Path], stems: Mapping[str, Path]) -> list[str]:
    return [path.name for stem, path in image_paths.items() if stem in stems]
