"""Pictures of predictions beside the truth, for a quick look. Imports OpenCV and segdata.

Letters: H, W pixels; images are uint8 (H, W, 3) BGR as OpenCV writes them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segdata.images import read_image
from segdata.instances import InstanceDataset, mask_of
from segdata.labelmaps import SemanticDataset, read_label_map
from segdata.predictions import PredictionSet
from segdata.rle import rle_decode
from segsweep.data_roles import RoleData

__all__ = ["comparison_sheet"]

Picture = npt.NDArray[Any]
Mask = npt.NDArray[Any]

SHOWN_CONFIDENCE = 0.5  # objects below it are left out of the picture
TILE_PX = 320
CAPTION_PX = 24


def comparison_sheet(role: RoleData, predictions: Path, out: Path, images: int = 4) -> Path:
    """Writes a PNG with a row an image: the image, the truth, the prediction.

    Args:
        role: Images with their truth.
        predictions: A prediction set of these images.
        out: The PNG file.
        images: How many rows, the first ones of the role.
    """
    found = PredictionSet.open(predictions)
    rows = []
    for name in role.names[:images]:
        picture = cv2.cvtColor(read_image(role.images / name), cv2.COLOR_RGB2BGR)
        truth = overlay(picture, truth_masks(role, name))
        predicted = overlay(picture, predicted_masks(found, name))
        rows.append(np.hstack([tile(part) for part in (picture, truth, predicted)]))
    sheet = np.vstack([caption(rows[0].shape[1], ("image", "truth", "prediction")), *rows])
    if not cv2.imwrite(str(out), sheet):
        raise OSError(f"{out}: could not be written")
    return out


def truth_masks(role: RoleData, name: str) -> Iterator[tuple[int, Mask]]:
    """Yields (colour number, mask) of each true object, or of each true class but the first."""
    if isinstance(role.truth, InstanceDataset):
        image = next(image for image in role.truth.images if image.file_name == name)
        for number, obj in enumerate(role.truth.objects_of(image.id)):
            yield number, mask_of(obj, image.height, image.width)
        return
    yield from class_masks(read_label_map(label_path(role.truth, name)), len(role.truth.classes))


def label_path(truth: SemanticDataset, name: str) -> Path:
    return next(image.label_path for image in truth.images if image.name == name)


def predicted_masks(found: PredictionSet, name: str) -> Iterator[tuple[int, Mask]]:
    """Yields (colour number, mask) of each confident object, or of each class but the first."""
    if found.meta.task == "semantic":
        yield from class_masks(found.labels(name), len(found.meta.classes))
        return
    instances = found.instances(name)
    for number, (rle, confidence) in enumerate(zip(instances.rles, instances.confidences, strict=True)):
        if confidence >= SHOWN_CONFIDENCE:
            yield number, rle_decode(rle)


def class_masks(label_HW: Mask, classes: int) -> Iterator[tuple[int, Mask]]:
    """Yields each class but the background."""
    for index in range(1, classes):
        yield index, label_HW == index


def overlay(picture: Picture, masks: Iterator[tuple[int, Mask]]) -> Picture:
    """Returns the picture with each mask tinted and outlined in its colour."""
    drawn = picture.copy()
    for number, mask_HW in masks:
        colour = colour_of(number)
        drawn[mask_HW] = (0.5 * drawn[mask_HW] + 0.5 * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(mask_HW.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, 1)
    return drawn


def colour_of(number: int) -> tuple[int, int, int]:
    """Returns a bright BGR colour; neighbouring numbers differ clearly."""
    hue = np.array([[[number * 67 % 180, 220, 255]]], dtype=np.uint8)
    blue, green, red = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)


def tile(picture: Picture) -> Picture:
    """Returns the picture scaled to the tile's width, with a thin border."""
    height = round(picture.shape[0] * TILE_PX / picture.shape[1])
    scaled = cv2.resize(picture, (TILE_PX, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.copyMakeBorder(scaled, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def caption(width: int, words: Sequence[str]) -> Picture:
    """Returns a white strip with one word a column."""
    strip = np.full((CAPTION_PX, width, 3), 255, dtype=np.uint8)
    for column, word in enumerate(words):
        origin = (column * width // len(words) + 6, 17)
        cv2.putText(strip, word, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
