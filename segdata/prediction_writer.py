"""Writes a prediction set image by image, in flat memory; the folder appears whole or not at all."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from segdata.atomic import link_or_copy, new_folder
from segdata.errors import DatasetError
from segdata.labelmaps import write_label_map
from segdata.prediction_meta import (
    INDEX_FILE,
    INSTANCES_FILE,
    META_FILE,
    ImageInstances,
    PredictedImage,
    PredictionMeta,
)
from segdata.prediction_reader import PredictionSet
from segdata.probabilities import pack

__all__ = ["PredictionWriter"]

_ROUNDING = 1e-3  # how far float16 arithmetic may carry a probability out of 0 to 1


class PredictionWriter:
    """Context manager that fills a new prediction set.

    Every predicted image is added once, those without objects too. Leaving the block by an exception leaves nothing.

    Args:
        path: The folder to be written; must not exist, or be empty.
        meta: Everything but the images.

    Raises:
        InputError: on entering, if `path` exists and is not empty.
    """

    def __init__(self, path: Path, meta: PredictionMeta) -> None:
        self._path = path
        self._meta = meta
        self._images: dict[str, PredictedImage] = {}
        self._stems: dict[str, str] = {}
        self._ids: set[int] = set()
        self._spans: dict[int, tuple[int, int]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(new_folder(self._path))
        if self._meta.codec == "coco-rle":
            self._results: IO[bytes] = self._stack.enter_context((self._folder / INSTANCES_FILE).open("wb"))
            self._results.write(b"[")
        else:
            (self._folder / ("probabilities" if self._meta.codec == "prob8" else "labels")).mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._finish()
            except BaseException as failure:
                self._stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)

    def add_instances(self, image: PredictedImage, instances: ImageInstances) -> None:
        """Adds one image's objects.

        Raises:
            ValueError: if the set is not of instances, or a class, confidence, box or mask is not what it should be.
            DatasetError: if the image was added before.
        """
        self._expect("coco-rle")
        _check_instances(image, instances, len(self._meta.classes))
        self._register(image)
        lines = [json.dumps(result, allow_nan=False) for result in self._results_of(image, instances)]
        if lines:
            self._write_results(image.id, ",\n".join(lines).encode())

    def add_probabilities(self, image: PredictedImage, prob_CHW: npt.NDArray[Any]) -> None:
        """Adds one image's class probabilities: float (C, H, W) at full size, 0 to 1.

        Raises:
            ValueError: if the set's codec is not prob8, or shape or range are wrong.
            DatasetError: if the image was added before, or another one has its stem.
        """
        self._expect("prob8")
        expected = (len(self._meta.classes), image.height, image.width)
        if prob_CHW.shape != expected:
            raise ValueError(f"{image.file_name}: expected probabilities of shape {expected}, but got {prob_CHW.shape}")
        low, high = float(prob_CHW.min()), float(prob_CHW.max())
        if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
            raise ValueError(f"{image.file_name}: expected probabilities from 0 to 1, but got {low} to {high}")
        self._register(image)
        path = self._folder / "probabilities" / f"{Path(image.file_name).stem}.npz"
        np.savez_compressed(path, prob=pack(prob_CHW, self._meta.stride))

    def add_packed(self, image: PredictedImage, packed: npt.NDArray[np.uint8]) -> None:
        """Adds one image's class probabilities as `segdata.probabilities.pack` returns them, at the set's stride.

        Raises:
            ValueError: if the set's codec is not prob8, or shape or dtype are wrong.
            DatasetError: if the image was added before, or another one has its stem.
        """
        self._expect("prob8")
        stride = self._meta.stride
        expected = (len(self._meta.classes), -(-image.height // stride), -(-image.width // stride))
        if packed.shape != expected or packed.dtype != np.uint8:
            raise ValueError(
                f"{image.file_name}: expected uint8 of shape {expected}, but got {packed.dtype} {packed.shape}"
            )
        self._register(image)
        np.savez_compressed(self._folder / "probabilities" / f"{Path(image.file_name).stem}.npz", prob=packed)

    def add_labels(self, image: PredictedImage, label_HW: npt.NDArray[Any]) -> None:
        """Adds one image's class indices: integers (H, W), each an index into the set's classes.

        Raises:
            ValueError: if the set's codec is not labels, or shape or values are wrong.
            DatasetError: if the image was added before, or another one has its stem.
        """
        self._expect("labels")
        if label_HW.shape != (image.height, image.width) or not np.issubdtype(label_HW.dtype, np.integer):
            raise ValueError(
                f"{image.file_name}: expected integers of shape {(image.height, image.width)}, "
                f"but got {label_HW.dtype} {label_HW.shape}"
            )
        low, high = int(label_HW.min()), int(label_HW.max())
        if low < 0 or high >= len(self._meta.classes):
            raise ValueError(
                f"{image.file_name}: expected classes from 0 to {len(self._meta.classes) - 1}, but got {low} to {high}"
            )
        self._register(image)
        write_label_map(label_HW.astype(np.uint8), self._folder / "labels" / f"{Path(image.file_name).stem}.png")

    def add_packed_file(self, image: PredictedImage, path: Path) -> None:
        """Adds one image's class probabilities as a file that holds them as this set does; it gets a second name here.

        Raises:
            ValueError: if the set's codec is not prob8.
            DatasetError: if the image was added before, or another one has its stem.
        """
        self._expect("prob8")
        self._register(image)
        link_or_copy(path, self._folder / "probabilities" / f"{Path(image.file_name).stem}.npz")

    def add_set(self, part: PredictionSet) -> None:
        """Takes over all images of a finished set that says the same about itself, to the byte.

        Files of probabilities and labels get a second name here; a copy where the file system has no links.

        Raises:
            ValueError: if the sets differ in more than their images.
            DatasetError: if an image was added before, or the part is not as it was written.
        """
        differing = sorted(
            name
            for name, value in part.meta.model_dump(exclude={"images"}).items()
            if value != self._meta.model_dump()[name]
        )
        if differing:
            raise ValueError(f"{part.path}: expected a part of this set, but got another {', '.join(differing)}")
        if self._meta.codec == "coco-rle":
            self._add_results(part)
            return
        name, ending = ("probabilities", "npz") if self._meta.codec == "prob8" else ("labels", "png")
        for image in part.meta.images:
            self._register(image)
            file = f"{name}/{Path(image.file_name).stem}.{ending}"
            link_or_copy(part.path / file, self._folder / file)

    def _add_results(self, part: PredictionSet) -> None:
        """Copies the bytes of each image's results."""
        with (part.path / INSTANCES_FILE).open("rb") as results:
            for image in part.meta.images:
                self._register(image)
                start, end = part.span(image.id)
                if end > start:
                    results.seek(start)
                    self._write_results(image.id, results.read(end - start))

    def _write_results(self, image_id: int, lines: bytes) -> None:
        self._results.write(b",\n" if self._spans else b"\n")
        start = self._results.tell()
        self._results.write(lines)
        self._spans[image_id] = (start, self._results.tell())

    def add_file(self, name: str, text: str) -> None:
        """Adds a text file beside the predictions; readers of the set pass it over."""
        (self._folder / name).write_text(text, encoding="utf-8")

    @property
    def codec(self) -> str:
        """How the set stores its predictions."""
        return self._meta.codec

    def _expect(self, codec: str) -> None:
        if self._meta.codec != codec:
            raise ValueError(f"expected a prediction set with codec {codec!r}, but got {self._meta.codec!r}")

    def _register(self, image: PredictedImage) -> None:
        if image.file_name in self._images or image.id in self._ids:
            raise DatasetError(f"expected each image once, but got {image.file_name} (id {image.id}) again.")
        other = self._stems.setdefault(Path(image.file_name).stem, image.file_name)
        if other != image.file_name and self._meta.task == "semantic":
            raise DatasetError(
                f"expected image names with different stems, but got {other} and {image.file_name}. Rename one."
            )
        self._images[image.file_name] = image
        self._ids.add(image.id)

    def _results_of(self, image: PredictedImage, instances: ImageInstances) -> list[dict[str, Any]]:
        boxes = instances.boxes_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]  # xywh; exact in float64, so reading gives the same float32 back
        columns = zip(
            boxes.tolist(), instances.confidences.tolist(), instances.classes.tolist(), instances.rles, strict=True
        )
        return [
            {
                "image_id": image.id,
                "category_id": self._meta.category_ids[index],
                "bbox": box,
                "score": confidence,
                "segmentation": rle.to_coco(),
            }
            for box, confidence, index, rle in columns
        ]

    def _finish(self) -> None:
        meta = self._meta.model_copy(update={"images": tuple(self._images.values())})
        if meta.codec == "coco-rle":
            self._results.write(b"\n]\n" if self._spans else b"]\n")
            index = {"bytes": self._results.tell(), "spans": self._spans}
            self._results.close()
            (self._folder / INDEX_FILE).write_text(json.dumps(index), encoding="utf-8")
        (self._folder / META_FILE).write_text(meta.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _check_instances(image: PredictedImage, instances: ImageInstances, num_classes: int) -> None:
    if not len(instances):
        return
    if instances.classes.min() < 0 or instances.classes.max() >= num_classes:
        raise ValueError(
            f"{image.file_name}: expected classes from 0 to {num_classes - 1}, but got {instances.classes}"
        )
    if not (instances.confidences >= 0).all() or not (instances.confidences <= 1).all():
        raise ValueError(f"{image.file_name}: expected confidences from 0 to 1, but got {instances.confidences}")
    boxes = instances.boxes_xyxy
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"{image.file_name}: expected finite boxes x1, y1 <= x2, y2, but got {boxes}")
    for rle in instances.rles:
        if (rle.height, rle.width) != (image.height, image.width):
            raise ValueError(
                f"{image.file_name}: expected masks of {image.width}x{image.height}, but got {rle.width}x{rle.height}"
            )
