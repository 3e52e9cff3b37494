"""What a contest or another tool gets to see of a prediction set: which images, which objects, which ids of classes.

The formats are in `submission_formats` and `submission_template`. One image is read at a time. May import
numpy and this package.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from segdata.errors import InputError
from segdata.prediction_meta import ImageInstances, PredictedImage
from segdata.prediction_reader import PredictionSet
from segdata.rle import Rle, rle_area, rle_bbox, rle_crop, rle_encode, rle_runs
from segdata.sound_predictions import sound_instances, sound_labels
from segdata.submission_order import Order

__all__ = ["ObjectChoice", "Submission", "SubmittedImage", "SubmittedObject", "chosen"]

Labels = npt.NDArray[np.unsignedinteger[Any]]
LARGEST_ID = 65535  # of a class, in 16 bits
_SHOWN = 3  # names in a message


@dataclass(frozen=True, slots=True)
class ObjectChoice:
    """Which objects of an instance set count.

    Attributes:
        min_confidence: Objects below it are left out, 0 to 1.
        max_detections: At most so many of an image, the most confident; None = all.
        disjoint: Whether a pixel belongs to one object only, the most confident one that has it; of equal confidences
            the earlier one. An object without a pixel of its own is left out.
    """

    min_confidence: float = 0.0
    max_detections: int | None = None
    disjoint: bool = False

    def __post_init__(self) -> None:
        """Refuses values out of range.

        Raises:
            InputError: Naming the option.
        """
        if not 0 <= self.min_confidence <= 1:
            raise InputError.of(
                f"expected a confidence from 0 to 1, but got {self.min_confidence:g}",
                where="--min-confidence",
                cure="Take 0.5, say.",
            )
        if self.max_detections is not None and self.max_detections < 1:
            raise InputError.of(
                f"expected at least 1 object an image, but got {self.max_detections}",
                where="--max-detections",
                cure="Leave it out for all objects.",
            )


@dataclass(frozen=True, slots=True)
class SubmittedObject:
    """An object; of a semantic set all pixels of one class in an image.

    Attributes:
        class_name: Of its class.
        category_id: The id that the submission has for the class.
        confidence: 0 to 1; of a class the mean of its probability over its pixels, 1 where the set holds labels only.
        bbox: x, y, width, height in pixels.
        rle: Its mask.
    """

    class_name: str
    category_id: int
    confidence: float
    bbox: tuple[float, float, float, float]
    rle: Rle

    @property
    def counts(self) -> str:
        """COCO's compressed run lengths."""
        return self.rle.counts

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return rle_area(self.rle)

    @property
    def runs(self) -> str:
        """Kaggle's run lengths: "start length start length ...", from 1, top to bottom, then left to right."""
        return " ".join(map(str, (rle_runs(self.rle) + (1, 0)).ravel().tolist()))


@dataclass(frozen=True, slots=True)
class SubmittedImage:
    """An image, and what the submission calls it."""

    name: str
    predicted: PredictedImage


class Submission:
    """A prediction set as it is to be handed in.

    Args:
        predictions: The set.
        choice: Which objects of it; for instance sets.
        ids: The id of each class, None for one that is left out; None = COCO's ids of an instance set, and the class
            indices of a semantic one.
        order: The images; None = as the set has them, by their file names.

    Raises:
        InputError: There are not as many ids as classes, or one is not in 0 to 65535.
    """

    def __init__(
        self,
        predictions: PredictionSet,
        *,
        choice: ObjectChoice | None = None,
        ids: Sequence[int | None] | None = None,
        order: Order | None = None,
    ) -> None:
        self.predictions = predictions
        self.choice = choice or ObjectChoice()
        self.order = order
        self.classes = predictions.meta.classes
        self.ids = self._own_ids() if ids is None else _checked_ids(ids, self.classes)

    def __len__(self) -> int:
        return len(self.predictions.meta.images)

    def __iter__(self) -> Iterator[SubmittedImage]:
        """Yields the images in their order."""
        images = self.predictions.meta.images if self.order is None else self.order.images
        names = [image.file_name for image in images] if self.order is None else self.order.names
        return map(SubmittedImage, names, images)

    def objects(self, image: SubmittedImage) -> tuple[SubmittedObject, ...]:
        """Returns one image's objects, in the set's order; of a semantic set its classes.

        Raises:
            DatasetError: What the set holds of the image is broken.
        """
        if self.predictions.meta.task == "semantic":
            return tuple(self._segments(image.predicted))
        found = chosen(sound_instances(self.predictions, image.predicted.file_name), self.choice)
        boxes = found.boxes_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        columns = zip(found.classes.tolist(), found.confidences.tolist(), boxes.tolist(), found.rles, strict=True)
        return tuple(
            SubmittedObject(self.classes[index], category_id, confidence, tuple(box), rle)
            for index, confidence, box, rle in columns
            if (category_id := self.ids[index]) is not None
        )

    def labels(self, image: SubmittedImage) -> Labels:
        """Returns the id of each pixel's class in a semantic set: (H, W), uint8 if all ids fit, else uint16.

        Raises:
            InputError: A class has no id.
            DatasetError: What the set holds of the image is broken.
        """
        ids: Labels = self._id_table[sound_labels(self.predictions, image.predicted.file_name)]
        return ids

    def _own_ids(self) -> tuple[int | None, ...]:
        meta = self.predictions.meta
        return meta.category_ids if meta.task == "instance" else tuple(range(len(meta.classes)))

    @cached_property
    def _id_table(self) -> Labels:
        known = [index for index in self.ids if index is not None]
        if len(known) != len(self.ids):
            raise InputError.of(
                f"expected an id for each of {len(self.ids)} classes, but got none for "
                f"{self.classes[self.ids.index(None)]!r}",
                where="--ids",
                cure="Every pixel has a class, so give every class an id.",
            )
        return np.array(known, dtype=np.uint8 if max(known) <= np.iinfo(np.uint8).max else np.uint16)

    def _segments(self, image: PredictedImage) -> Iterator[SubmittedObject]:
        """Yields the classes of an image that have a pixel and an id."""
        label_HW = sound_labels(self.predictions, image.file_name)
        soft = self.predictions.meta.codec == "prob8"
        prob_CHW = self.predictions.probabilities(image.file_name) if soft else None
        for index in np.unique(label_HW).tolist():
            category_id = self.ids[index]
            if category_id is None:
                continue
            mask_HW = label_HW == index
            confidence = 1.0 if prob_CHW is None else float(prob_CHW[index][mask_HW].mean(dtype=np.float64))
            rle = rle_encode(mask_HW)
            yield SubmittedObject(self.classes[index], category_id, min(confidence, 1.0), rle_bbox(rle), rle)


def chosen(found: ImageInstances, choice: ObjectChoice) -> ImageInstances:
    """Returns the objects that count, in the order of the set."""
    by_confidence = np.argsort(-found.confidences, kind="stable")
    enough = found.confidences[by_confidence] >= np.float32(choice.min_confidence)
    kept = by_confidence[enough][: choice.max_detections].tolist()
    masks, boxes = list(found.rles), found.boxes_xyxy.copy()
    if choice.disjoint:
        for index, rle in zip(kept, _disjoint([masks[index] for index in kept]), strict=True):
            if rle is not masks[index]:
                x, y, width, height = rle_bbox(rle)
                boxes[index] = (x, y, x + width, y + height)
            masks[index] = rle
        kept = [index for index in kept if rle_area(masks[index])]
    kept.sort()
    return ImageInstances.of(
        boxes[kept], found.confidences[kept], found.classes[kept], tuple(masks[index] for index in kept)
    )


def _disjoint(rles: Sequence[Rle]) -> list[Rle]:
    """Takes from each mask the pixels of those before it; a mask that loses none comes back as it is."""
    if not rles:
        return []
    taken_HW = np.zeros((rles[0].height, rles[0].width), dtype=np.bool_)
    own = []
    for rle in rles:
        mask, left, top = rle_crop(rle)
        inside = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
        if (mask & taken_HW[inside]).any():
            mask_HW = np.zeros_like(taken_HW)
            mask_HW[inside] = mask & ~taken_HW[inside]
            rle = rle_encode(mask_HW)
        taken_HW[inside] |= mask
        own.append(rle)
    return own


def _checked_ids(ids: Sequence[int | None], classes: Sequence[str]) -> tuple[int | None, ...]:
    if len(ids) != len(classes):
        raise InputError.of(
            f"expected {len(classes)} ids, one a class ({', '.join(classes[:_SHOWN])}"
            f"{' ...' if len(classes) > _SHOWN else ''}), but got {len(ids)}",
            where="--ids",
            cure="List them in the order of the classes.",
        )
    wrong = next((value for value in ids if value is not None and not 0 <= value <= LARGEST_ID), None)
    if wrong is not None:
        raise InputError.of(f"expected ids from 0 to {LARGEST_ID}, but got {wrong}", where="--ids", cure="Change it.")
    return tuple(ids)
