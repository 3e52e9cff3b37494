"""Synthetic data sets: quick to make, seeded, with a truth that is exact by construction.

The same kind, number of images, size and seed give the same bytes. Object sizes grow with the image; at 128 px they
are about 12 to 40 px long, 4 to 9 an image, so that a small network learns them in a minute.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segdata.atomic import new_folder, refuse_existing
from segdata.coco import write_coco
from segdata.dataset_folder import ANNOTATIONS, IMAGES, LABELS
from segdata.errors import InputError
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import coco_to_labelmaps
from segdata.rle import rle_area, rle_bbox, rle_encode
from segdata.synthetic_litter import LITTER_CLASSES, litter_scene
from segdata.synthetic_particles import PARTICLE_CLASSES, particle_scene
from segdata.synthetic_shapes import Scene

__all__ = ["SYNTHETIC_KINDS", "synthesize"]

_SMALLEST_SIZE = 64
_LARGEST_SIZE = 4096


@dataclass(frozen=True, slots=True)
class _Kind:
    """`draw` gets the random state, the image's number and the side in pixels."""

    classes: tuple[str, ...]
    draw: Callable[[np.random.Generator, int, int], Scene]
    has_labels: bool


SYNTHETIC_KINDS = {
    "particles": _Kind(PARTICLE_CLASSES, particle_scene, has_labels=False),
    "litter": _Kind(LITTER_CLASSES, litter_scene, has_labels=True),
}


def synthesize(kind: str, out: Path, images: int = 40, size: int = 128, seed: int = 7) -> Path:
    """Writes a dataset folder with images/ and annotations.json, for litter also labels/, and returns `out`.

    Args:
        kind: "particles" (one class, overlapping and blurred) or "litter" (four classes, one rare, on texture).
        out: The folder to write; must not exist, or be empty.
        images: Number of images.
        size: Side of the square images in pixels.
        seed: Any integer from 0 on.

    Raises:
        InputError: if an argument is out of range or `out` exists.
    """
    _check(kind, images, size, seed)
    refuse_existing(out)
    chosen = SYNTHETIC_KINDS[kind]
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        records: list[ImageRecord] = []
        objects: list[ObjectRecord] = []
        for number in range(1, images + 1):
            # A stream of its own an image: image 5 is the same in a set of 10 and of 40.
            scene = chosen.draw(np.random.default_rng([seed, number]), number, size)
            record = ImageRecord(number, f"{kind}_{number:04d}.png", size, size)
            Image.fromarray(scene.rgb).save(folder / IMAGES / record.file_name)
            records.append(record)
            objects.extend(_records(scene, record, len(objects) + 1))
        categories = tuple(Category(index, name) for index, name in enumerate(chosen.classes, start=1))
        dataset = InstanceDataset(tuple(records), categories, tuple(objects))
        write_coco(dataset, folder / ANNOTATIONS)
        if chosen.has_labels:
            coco_to_labelmaps(dataset, folder / LABELS)
    return out


def _records(scene: Scene, image: ImageRecord, first_id: int) -> list[ObjectRecord]:
    found: list[ObjectRecord] = []
    for shape in scene.objects:
        rle = rle_encode(shape.mask)
        found.append(
            ObjectRecord(
                id=first_id + len(found),
                image_id=image.id,
                category_id=shape.class_index + 1,
                segmentation=rle,
                bbox_xywh=rle_bbox(rle),
                area_px=float(rle_area(rle)),
                is_crowd=False,
            )
        )
    return found


def _check(kind: str, images: int, size: int, seed: int) -> None:
    if kind not in SYNTHETIC_KINDS:
        raise InputError.of(
            f"expected {' or '.join(SYNTHETIC_KINDS)}, but got {kind!r}", where="kind", cure="Name one of them."
        )
    if images < 1:
        raise InputError.of(f"expected 1 or more, but got {images}", where="images", cure="Take 40, say.")
    if not _SMALLEST_SIZE <= size <= _LARGEST_SIZE:
        raise InputError.of(
            f"expected {_SMALLEST_SIZE} to {_LARGEST_SIZE} px, but got {size}", where="size", cure="Take 128, say."
        )
    if seed < 0:
        raise InputError.of(f"expected 0 or more, but got {seed}", where="seed", cure="Take 7, say.")
