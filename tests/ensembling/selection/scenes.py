"""Small labelled data with candidates that err at random, and ways to write candidates by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ensembling import FusionSettings, fuse
from ensembling.selection import Candidate
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.labelmaps import LabelledImage, SemanticDataset, write_label_map
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import Rle, rle_area, rle_bbox, rle_encode
from segscore.metrics import score_predictions

Mask = npt.NDArray[np.bool_]
Truth = InstanceDataset | SemanticDataset
HEIGHT, WIDTH = 90, 120
CATEGORIES = (Category(7, "bag"), Category(2, "bottle"))
CLASSES = ("background", "bag", "bottle")


def disc(x: float, y: float, radius: float, height: int = HEIGHT, width: int = WIDTH) -> Rle:
    rows, columns = np.ogrid[:height, :width]
    return rle_encode((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def object_of(number: int, image_id: int, category_id: int, rle: Rle) -> ObjectRecord:
    return ObjectRecord(number, image_id, category_id, rle, rle_bbox(rle), float(rle_area(rle)), False)


def instance_meta(**changes: Any) -> PredictionMeta:
    fields: dict[str, Any] = {
        "task": "instance", "classes": ("bottle", "bag"), "category_ids": (2, 7), "dataset_fingerprint": "f",
        "code_version": "0", "codec": "coco-rle",
    }  # fmt: skip
    return PredictionMeta(**(fields | changes))


def write_objects(
    path: Path, images: Sequence[ImageRecord], found: Mapping[int, Sequence[tuple[Rle, float, int]]], **changes: Any
) -> Path:
    """Writes (mask, confidence, class index) by image id; boxes are those of the masks."""
    with PredictionWriter(path, instance_meta(**changes)) as writer:
        for image in images:
            rows = found.get(image.id, ())
            boxes = np.array([rle_bbox(rle) for rle, _, _ in rows], dtype=np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            record = PredictedImage(id=image.id, file_name=image.file_name, width=image.width, height=image.height)
            confidences, classes = [row[1] for row in rows], [row[2] for row in rows]
            writer.add_instances(record, ImageInstances.of(boxes, confidences, classes, tuple(row[0] for row in rows)))
    return path


def instance_scene(
    folder: Path, *, members: int = 3, images: int = 5, seed: int = 0
) -> tuple[list[Candidate], InstanceDataset]:
    """Discs of two classes; members move, miss, confuse and invent them. The last image is empty."""
    rng = np.random.default_rng(seed)
    records = tuple(ImageRecord(20 - i, f"{i}.png", WIDTH, HEIGHT) for i in range(images))
    objects: list[ObjectRecord] = []
    found: list[dict[int, list[tuple[Rle, float, int]]]] = [{} for _ in range(members)]
    for record in records[:-1]:
        for _ in range(8):
            x, y, radius = rng.uniform(10, WIDTH - 10), rng.uniform(10, HEIGHT - 10), rng.uniform(5, 14)
            category = int(rng.choice([2, 7]))
            objects.append(object_of(len(objects) + 1, record.id, category, disc(x, y, radius)))
            for rows in found:
                if rng.random() < 0.25:
                    continue
                moved = disc(x + rng.normal(0, 1.5), y + rng.normal(0, 1.5), radius * rng.uniform(0.8, 1.1))
                index = (2, 7).index(category) if rng.random() < 0.9 else int(rng.integers(2))
                rows.setdefault(record.id, []).append((moved, round(float(rng.uniform(0.3, 1)), 2), index))
        for rows in found:
            stray = disc(rng.uniform(10, WIDTH - 10), rng.uniform(10, HEIGHT - 10), 6)
            rows.setdefault(record.id, []).append((stray, round(float(rng.uniform(0.05, 0.6)), 2), 0))
    candidates = []
    for number, rows in enumerate(found):
        limit = None if number == 0 else 6 + number  # what a member keeps at most, where it says so
        path = write_objects(folder / f"i{seed}-{number}", records, rows, max_detections=limit)
        candidates.append(Candidate(f"m{number}", path))
    return candidates, InstanceDataset(records, CATEGORIES, tuple(objects))


def semantic_meta(**changes: Any) -> PredictionMeta:
    fields: dict[str, Any] = {
        "task": "semantic", "classes": CLASSES, "dataset_fingerprint": "f", "code_version": "0", "codec": "prob8",
    }  # fmt: skip
    return PredictionMeta(**(fields | changes))


def semantic_truth(folder: Path, labels: Sequence[npt.NDArray[np.uint8]]) -> SemanticDataset:
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number, label_HW in enumerate(labels):
        write_label_map(label_HW, folder / f"{number}.png")
        height, width = label_HW.shape
        images.append(LabelledImage(f"{number}.png", folder / "none.png", folder / f"{number}.png", width, height))
    return SemanticDataset(tuple(images), CLASSES, 255)


def write_probabilities(path: Path, probs: Sequence[npt.NDArray[np.floating]], **changes: Any) -> Path:
    with PredictionWriter(path, semantic_meta(**changes)) as writer:
        for number, prob_CHW in enumerate(probs):
            record = PredictedImage(
                id=number + 1, file_name=f"{number}.png", width=prob_CHW.shape[2], height=prob_CHW.shape[1]
            )
            if changes.get("codec") == "labels":
                writer.add_labels(record, prob_CHW.argmax(axis=0))
            else:
                writer.add_probabilities(record, prob_CHW)
    return path


def semantic_scene(
    folder: Path, *, strides: Sequence[int] = (1, 1, 1), codecs: Sequence[str] = (), images: int = 5, seed: int = 0
) -> tuple[list[Candidate], SemanticDataset]:
    """Blobs of three classes with ignored pixels; members are the truth beside smooth noise."""
    rng = np.random.default_rng(seed)
    size = (57, 71)  # no multiples of a stride

    def smooth() -> npt.NDArray[np.float32]:
        raw = rng.random((3, 6, 8)).astype(np.float32)
        return np.stack([cv2.resize(channel, size[::-1]) for channel in raw])

    labels = [smooth().argmax(axis=0).astype(np.uint8) for _ in range(images)]
    sure = [np.eye(3, dtype=np.float32)[label_HW].transpose(2, 0, 1) for label_HW in labels]
    candidates = []
    for number, stride in enumerate(strides):
        noisy = [(0.35 + 0.1 * number) * prob_CHW + smooth() ** 2 for prob_CHW in sure]
        probs = [prob_CHW / prob_CHW.sum(axis=0) for prob_CHW in noisy]
        codec = codecs[number] if codecs else "prob8"
        path = write_probabilities(folder / f"s{seed}-{number}", probs, stride=stride, codec=codec)
        candidates.append(Candidate(f"m{number}", path))
    for label_HW in labels:
        label_HW[:5, :9] = 255
    return candidates, semantic_truth(folder / f"labels{seed}", labels)


def score_on_disk(
    folder: Path,
    candidates: Sequence[Candidate],
    truth: Truth,
    *,
    method: str,
    weights: Sequence[float],
    settings: FusionSettings,
) -> dict[str, float]:
    """What `score_predictions` says of the set that `fuse` writes."""
    paths = [candidate.predictions for candidate in candidates]
    out = fuse(paths, folder, method=method, weights=weights, settings=settings)
    return score_predictions(truth, PredictionSet.open(out), boundaries=True)
