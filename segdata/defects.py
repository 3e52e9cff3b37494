"""Defects: everything wrong or suspicious in a data set, listed rather than raised.

    error     training or scoring would fail or lie: missing-image, undecodable-image, size-mismatch, bad-entry,
              unknown-id, duplicate-id, duplicate-name, empty-shape, conflicting-duplicate, bad-label-map,
              unknown-class, missing-label-map, leaked-image
    warning   may be meant so: tiny-shape, out-of-image, duplicate-object, duplicate-image, no-objects, turned-image,
              unused-class, unlisted-images

Reads COCO that `read_coco` refuses. May import this package's rooms only; `coco_defects`, `label_defects` do the work.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from segdata.coco_defects import coco_defects
from segdata.defect import Defect
from segdata.errors import InputError
from segdata.images import content_hash, list_images
from segdata.label_defects import label_defects

__all__ = ["Defect", "find_defects", "find_leaks"]


def find_defects(*, images: Path, annotations: Path | None = None, labels: Path | None = None) -> tuple[Defect, ...]:
    """Lists the defects of one data set, errors first, then by kind, image and annotation.

    Args:
        images: The images folder.
        annotations: COCO instance JSON.
        labels: A label folder.

    Raises:
        InputError: if neither annotations nor labels are given, or a folder is missing.
        DatasetError: if the annotations are no COCO JSON at all, or `classes.json` is missing.
    """
    if annotations is None and labels is None:
        raise InputError("expected annotations or labels to check, but got neither. Name one of them.")
    list_images(images)
    found: list[Defect] = []
    if annotations is not None:
        found += coco_defects(annotations, images)
    if labels is not None:
        found += label_defects(labels, images)
    return _ordered(found)


def find_leaks(folders: Sequence[Path]) -> tuple[Defect, ...]:
    """Lists images with equal content in more than one of the images folders; each is an error."""
    if len(folders) < 2:
        return ()
    places: dict[str, list[Path]] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        for path in list_images(folder):
            places.setdefault(content_hash(path), []).append(path)
    leaks = [
        Defect("leaked-image", "error", path.name, None, f"same picture as {paths[0]}")
        for paths in places.values()
        for path in paths[1:]
        if path.parent != paths[0].parent
    ]
    return _ordered(leaks)


def _ordered(defects: Sequence[Defect]) -> tuple[Defect, ...]:
    unique = Counter(defects)  # images are looked at once for annotations and once for labels
    return tuple(
        sorted(
            unique,
            key=lambda d: (d.severity, d.kind, d.image or "", -1 if d.annotation_id is None else d.annotation_id),
        )
    )
