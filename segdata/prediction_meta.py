"""What a prediction set says about itself, and the objects of one image in memory."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from segdata.rle import Rle

__all__ = ["INDEX_FILE", "INSTANCES_FILE", "META_FILE", "ImageInstances", "PredictedImage", "PredictionMeta"]

META_FILE = "meta.json"
INSTANCES_FILE = "instances.json"
INDEX_FILE = "instances_index.json"


class PredictedImage(BaseModel):
    """An image that was predicted; sizes in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    file_name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class PredictionMeta(BaseModel):
    """`meta.json`.

    Attributes:
        category_ids: COCO ids, parallel to `classes`; empty for semantic sets.
        dataset_fingerprint: Of the data set that was predicted (`segdata.fingerprint`).
        trial: The trial that predicted, None for ensembles and the truth.
        config_hash: Of the trial's configuration.
        code_version: Version of Segsweep that wrote it.
        confidence_threshold: Objects below it were dropped.
        max_detections: At most this many objects an image were kept.
        mask_threshold: Where a soft mask was cut to a binary one.
        stride: Pixels an image pixel of `prob8` stands for, per side; 1 for the other codecs.
        images: Every image that was predicted, those without objects too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: Literal["instance", "semantic"]
    classes: tuple[str, ...] = Field(min_length=1)
    category_ids: tuple[int, ...] = ()
    dataset_fingerprint: str
    trial: str | None = None
    config_hash: str | None = None
    code_version: str
    confidence_threshold: float | None = None
    max_detections: int | None = None
    mask_threshold: float | None = None
    codec: Literal["coco-rle", "prob8", "labels"]
    stride: int = Field(default=1, ge=1)
    images: tuple[PredictedImage, ...] = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.task == "instance") != (self.codec == "coco-rle"):
            raise ValueError(f"codec {self.codec!r} does not fit task {self.task!r}")
        if self.task == "instance" and len(self.category_ids) != len(self.classes):
            raise ValueError(f"expected a category id a class, but got {len(self.category_ids)}")
        if self.codec != "prob8" and self.stride != 1:
            raise ValueError(f"codec {self.codec!r} has stride 1, but got {self.stride}")
        for values in ([image.id for image in self.images], [image.file_name for image in self.images]):
            if len(set(values)) != len(values):
                raise ValueError("expected each image once, but got an id or file name twice")
        return self


@dataclass(frozen=True, eq=False)
class ImageInstances:
    """The objects predicted in one image, N of them, in the order of the file.

    Attributes:
        boxes_xyxy: (N, 4) float32, pixels.
        confidences: (N,) float32, 0 to 1.
        classes: (N,) int64, index into the set's `classes`.
        rles: N masks of the image's size.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    confidences: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    rles: tuple[Rle, ...]

    def __post_init__(self) -> None:
        n = len(self.rles)
        shapes = (self.boxes_xyxy.shape, self.confidences.shape, self.classes.shape)
        if shapes != ((n, 4), (n,), (n,)):
            raise ValueError(f"expected boxes (N, 4), confidences (N,), classes (N,) for {n} masks, but got {shapes}")

    @classmethod
    def of(cls, boxes_xyxy: Any, confidences: Any, classes: Any, rles: tuple[Rle, ...]) -> Self:
        """Builds it from anything array-like, with the dtypes and shapes above."""
        return cls(
            boxes_xyxy=np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4),
            confidences=np.asarray(confidences, dtype=np.float32).reshape(-1),
            classes=np.asarray(classes, dtype=np.int64).reshape(-1),
            rles=tuple(rles),
        )

    def __len__(self) -> int:
        return len(self.rles)
