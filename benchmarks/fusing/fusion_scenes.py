"""What `benchmarks/fusion.py` works on: crowded images as several models find them, in memory and on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdata.coco import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.predictions import PredictedImage, PredictionMeta, PredictionWriter
from segdata.rle import Rle, rle_area, rle_bbox, rle_encode

__all__ = ["HEIGHT", "WIDTH", "Member", "discs_of_members", "nuclei_of_members", "scored_scenes", "write_members"]

WIDTH, HEIGHT = 700, 520
Array = npt.NDArray[Any]
Member = tuple[Array, Array, list[Rle]]  # boxes xyxy, confidences, masks


def ellipse(x: float, y: float, radius: float, height: int = HEIGHT, width: int = WIDTH) -> Rle:
    """A disc in an image."""
    rows, columns = np.ogrid[:height, :width]
    return rle_encode((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def nuclei_of_members(members: int, objects: int, seed: int = 0) -> list[Member]:
    """What several models would find on one crowded image: the same discs, moved and resized a little."""
    return discs_of_members(members, objects, seed, (HEIGHT, WIDTH), (8, 18))


def discs_of_members(
    members: int, objects: int, seed: int, size: tuple[int, int], radii: tuple[float, float]
) -> list[Member]:
    """The same with discs of any size, in pixels, on an image of height x width."""
    height, width = size
    rng = np.random.default_rng(seed)
    centre, radius = rng.uniform([20, 20], [width - 20, height - 20], (objects, 2)), rng.uniform(*radii, objects)
    found = []
    for _ in range(members):
        moved, scaled = centre + rng.normal(0, 1.5, centre.shape), radius * rng.uniform(0.9, 1.1, objects)
        rles = [ellipse(x, y, r, height, width) for (x, y), r in zip(moved, scaled, strict=True)]
        boxes = np.concatenate([moved - scaled[:, None], moved + scaled[:, None]], axis=1).clip(0, width)
        found.append((boxes, rng.uniform(0.05, 1, objects), rles))
    return found


def scored_scenes(images: int, objects_each: int) -> tuple[InstanceDataset, list[dict[str, Any]]]:
    """Truth, and results that are near it."""
    objects: list[ObjectRecord] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, images + 1):
        (_, _, true_rles), (_, confidences, found_rles) = nuclei_of_members(2, objects_each, seed=image_id)
        for rle, found, confidence in zip(true_rles, found_rles, confidences.tolist(), strict=True):
            area = float(rle_area(rle))
            objects.append(ObjectRecord(len(objects) + 1, image_id, 1, rle, rle_bbox(rle), area, False))
            shape = found.to_coco()
            results.append({"image_id": image_id, "category_id": 1, "segmentation": shape, "score": confidence})
    records = tuple(ImageRecord(i, f"{i}.png", WIDTH, HEIGHT) for i in range(1, images + 1))
    return InstanceDataset(records, (Category(1, "nucleus"),), tuple(objects)), results


def write_members(folder: Path, images: int) -> list[Path]:
    """5 semantic prediction sets, 12 classes, 512x512 at stride 4; 10 images under many names."""
    records = tuple(PredictedImage(id=i, file_name=f"{i}.png", width=512, height=512) for i in range(images))
    meta = PredictionMeta(
        task="semantic",
        classes=tuple("abcdefghijkl"),
        dataset_fingerprint="0",
        code_version="0",
        codec="prob8",
        stride=4,
    )
    paths = []
    for member in range(5):
        rng = np.random.default_rng(member)
        first: dict[int, Path] = {}
        with PredictionWriter(folder / f"{images}-{member}", meta) as writer:
            for image in records:
                if image.id < 10:
                    raw = np.repeat(np.repeat(rng.random((12, 16, 16)), 8, axis=1), 8, axis=2) ** 2
                    first[image.id] = folder / f"{images}-{member}-{image.id}.npz"
                    np.savez_compressed(first[image.id], prob=np.rint(raw / raw.sum(axis=0) * 255).astype(np.uint8))
                writer.add_packed_file(image, first[image.id % 10])
        paths.append(folder / f"{images}-{member}")
    return paths
