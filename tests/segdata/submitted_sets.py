"""Small prediction sets that tests hand in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import Rle, rle_encode

HEIGHT, WIDTH = 4, 6
IMAGES = (
    PredictedImage(id=7, file_name="b.png", width=WIDTH, height=HEIGHT),
    PredictedImage(id=3, file_name="a.jpg", width=WIDTH, height=HEIGHT),
)
CLASSES = ("background", "bag", "bottle")


def filled(rows: slice, columns: slice) -> Rle:
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask_HW[rows, columns] = True
    return rle_encode(mask_HW)


def objects(*found: tuple[int, float, slice, slice]) -> ImageInstances:
    """Class, confidence, rows and columns of each."""
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for _, _, rows, columns in found]
    rles = tuple(filled(rows, columns) for _, _, rows, columns in found)
    return ImageInstances.of(boxes, [row[1] for row in found], [row[0] for row in found], rles)


def instance_set(path: Path, *per_image: ImageInstances) -> PredictionSet:
    meta = PredictionMeta(
        task="instance",
        classes=("bag", "bottle"),
        category_ids=(5, 9),
        dataset_fingerprint="0123456789abcdef",
        trial="0003",
        code_version="0",
        codec="coco-rle",
    )
    with PredictionWriter(path, meta) as writer:
        for image, found in zip(IMAGES, per_image, strict=True):
            writer.add_instances(image, found)
    return PredictionSet.open(path)


def crowded(path: Path) -> PredictionSet:
    """In b.png two bags of which the surer one covers half of the other, and a bottle; in a.jpg nothing."""
    found = objects(
        (0, 0.5, slice(0, 2), slice(0, 4)), (0, 0.75, slice(0, 2), slice(2, 6)), (1, 0.25, slice(3, 4), slice(0, 1))
    )
    return instance_set(path, found, objects())


def with_confidence(found: PredictionSet, confidence: float) -> PredictionSet:
    """The set after another program changed the confidence of its first object."""
    results = json.loads((found.path / "instances.json").read_text())
    results[0]["score"] = confidence
    (found.path / "instances.json").write_text(json.dumps(results))
    (found.path / "instances_index.json").unlink()
    return PredictionSet.open(found.path)


def label_set(path: Path, *labels: npt.NDArray[Any]) -> PredictionSet:
    meta = semantic_meta("labels")
    with PredictionWriter(path, meta) as writer:
        for image, label_HW in zip(IMAGES, labels, strict=True):
            writer.add_labels(image, label_HW)
    return PredictionSet.open(path)


def probability_set(path: Path, *probabilities: npt.NDArray[Any]) -> PredictionSet:
    with PredictionWriter(path, semantic_meta("prob8")) as writer:
        for image, prob_CHW in zip(IMAGES, probabilities, strict=True):
            writer.add_probabilities(image, prob_CHW)
    return PredictionSet.open(path)


def semantic_meta(codec: Any) -> PredictionMeta:
    return PredictionMeta(
        task="semantic", classes=CLASSES, dataset_fingerprint="0123456789abcdef", code_version="0", codec=codec
    )


def random_labels(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
