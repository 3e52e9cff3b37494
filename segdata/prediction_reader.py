"""Reads a prediction set image by image; only the list of images and the byte index stay in memory."""

import json
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from segdata.errors import DatasetError
from segdata.labelmaps import LabelMap, read_label_map
from segdata.prediction_meta import (
    INDEX_FILE,
    INSTANCES_FILE,
    META_FILE,
    ImageInstances,
    PredictedImage,
    PredictionMeta,
)
from segdata.probabilities import unpack
from segdata.rle import Rle, rle_from_counts

__all__ = ["PredictionSet"]

_AGAIN = "Write the prediction set again."


class PredictionSet:
    """A prediction set on disk; see `segdata.predictions` for the files. Open it with `PredictionSet.open`."""

    def __init__(self, path: Path, meta: PredictionMeta) -> None:
        self.path = path
        self.meta = meta
        self._image_by_name = {image.file_name: image for image in meta.images}
        self._class_by_category = {category_id: index for index, category_id in enumerate(meta.category_ids)}

    @classmethod
    def open(cls, path: Path) -> "PredictionSet":
        """Reads and checks `meta.json`.

        Raises:
            DatasetError: if it is missing, of another schema version, or not what it should be.
        """
        meta_path = path / META_FILE
        try:
            raw = json.loads(meta_path.read_bytes())
        except OSError as error:
            raise DatasetError.of(
                f"expected a prediction set with {META_FILE}, but got: {error.strerror}",
                where=path,
                cure="Name a folder that `segsweep predict` or `segsweep ensemble` wrote.",
            ) from error
        except ValueError as error:
            raise DatasetError.of(f"expected JSON, but got: {error}", where=meta_path, cure=_AGAIN) from error
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != 1:
            raise DatasetError.of(f"expected schema_version 1, but got {version!r}", where=meta_path, cure=_AGAIN)
        try:
            meta = PredictionMeta.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the whole"
            raise DatasetError.of(f"key {key}: {first['msg']}", where=meta_path, cure=_AGAIN) from error
        return cls(path, meta)

    def image(self, file_name: str) -> PredictedImage:
        """Returns the image's record.

        Raises:
            DatasetError: if the image was not predicted.
        """
        image = self._image_by_name.get(file_name)
        if image is None:
            raise DatasetError.of(
                f"expected a prediction for {file_name!r}, but got none among {len(self.meta.images)} images",
                where=self.path,
                cure="Predict this image too: a missing prediction is not counted as empty.",
            )
        return image

    def instances(self, file_name: str) -> ImageInstances:
        """Returns the objects of one image; none where the image was predicted to be empty.

        Raises:
            DatasetError: if the image was not predicted, the set is semantic, or a result is broken.
        """
        image = self.image(file_name)
        self._expect("coco-rle")
        results = self._results_of(image.id)
        try:
            boxes = np.array([result["bbox"] for result in results], dtype=np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            return ImageInstances.of(
                boxes,
                [result["score"] for result in results],
                [self._class_by_category[result["category_id"]] for result in results],
                tuple(_rle(result["segmentation"], image) for result in results),
            )
        except (KeyError, TypeError, ValueError, OverflowError, DatasetError) as error:
            reason = f"key {error}" if isinstance(error, KeyError) else str(error)
            raise DatasetError.of(
                f"expected COCO results with RLE for {file_name}, but got a broken one ({reason})",
                where=self.path / INSTANCES_FILE,
                cure=_AGAIN,
            ) from error

    def probabilities(self, file_name: str) -> npt.NDArray[np.float32]:
        """Returns class probabilities at full size, float32 (C, H, W), 0 to 1 in steps of 1/255.

        Raises:
            DatasetError: if the image was not predicted, the set holds no probabilities, or the file is broken.
        """
        image = self.image(file_name)
        return unpack(self.packed(file_name), image.height, image.width, self.meta.stride)

    def packed(self, file_name: str) -> npt.NDArray[np.uint8]:
        """Returns class probabilities as they are stored: uint8 (C, ceil(H/stride), ceil(W/stride)), steps of 1/255.

        Raises:
            DatasetError: as `probabilities`.
        """
        image = self.image(file_name)
        self._expect("prob8")
        stride = self.meta.stride
        path = self.path / "probabilities" / f"{Path(file_name).stem}.npz"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                packed: npt.NDArray[np.uint8] = archive["prob"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise DatasetError.of(f"expected probabilities, but got: {error}", where=path, cure=_AGAIN) from error
        expected = (len(self.meta.classes), -(-image.height // stride), -(-image.width // stride))
        if packed.shape != expected or packed.dtype != np.uint8:
            raise DatasetError.of(
                f"expected uint8 {expected}, but got {packed.dtype} {packed.shape}", where=path, cure=_AGAIN
            )
        return packed

    def is_empty(self) -> bool:
        """Tells whether a set of instances holds not one object, in any image."""
        return self.meta.codec == "coco-rle" and not (self._all_results if self._spans is None else self._spans)

    def labels(self, file_name: str) -> LabelMap:
        """Returns class indices, uint8 (H, W); of probabilities the largest, of equal ones the lower class.

        Raises:
            DatasetError: if the image was not predicted, the set is of instances, or the file is broken.
        """
        image = self.image(file_name)
        if self.meta.codec == "prob8":
            prob_CHW = self.packed(file_name) if self.meta.stride == 1 else self.probabilities(file_name)
            largest: LabelMap = prob_CHW.argmax(axis=0).astype(np.uint8)
            return largest
        self._expect("labels")
        path = self.path / "labels" / f"{Path(file_name).stem}.png"
        label_HW = read_label_map(path)
        if label_HW.shape != (image.height, image.width):
            raise DatasetError.of(
                f"expected {image.width}x{image.height} pixels, but got {label_HW.shape[1]}x{label_HW.shape[0]}",
                where=path,
                cure=_AGAIN,
            )
        return label_HW

    def span(self, image_id: int) -> tuple[int, int]:
        """Returns where an image's results lie in `instances.json`, in bytes; (0, 0) if it has none.

        Raises:
            DatasetError: if another program wrote or changed that file.
        """
        if self._spans is None:
            raise DatasetError.of(
                f"expected results as {INDEX_FILE} has them, but got others",
                where=self.path / INSTANCES_FILE,
                cure=_AGAIN,
            )
        return self._spans.get(str(image_id), (0, 0))

    def _expect(self, codec: str) -> None:
        if self.meta.codec != codec:
            raise DatasetError.of(
                f"expected predictions with codec {codec!r}, but got {self.meta.codec!r}",
                where=self.path,
                cure="Predict again with that codec, or use what the set holds.",
            )

    def _results_of(self, image_id: int) -> list[dict[str, Any]]:
        if self._spans is None:
            return self._all_results.get(image_id, [])
        start, end = self._spans.get(str(image_id), (0, 0))
        path = self.path / INSTANCES_FILE
        try:
            with path.open("rb") as file:
                file.seek(start)
                results: list[dict[str, Any]] = json.loads(b"[" + file.read(end - start) + b"]")
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError.of(
                f"expected COCO results of image {image_id} in bytes {start} to {end}, but got: {error}",
                where=path,
                cure=_AGAIN,
            ) from error
        return results

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int]] | None:
        """The byte index; None when another program wrote or changed instances.json."""
        index_path, results_path = self.path / INDEX_FILE, self.path / INSTANCES_FILE
        if not index_path.exists() or not results_path.exists():
            return None
        try:
            index = json.loads(index_path.read_bytes())
            if index["bytes"] != results_path.stat().st_size:
                return None
            spans: dict[str, tuple[int, int]] = {
                image_id: (int(start), int(end)) for image_id, (start, end) in index["spans"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise DatasetError.of(
                f"expected bytes and spans of {INSTANCES_FILE}, but got: {reason}", where=index_path, cure=_AGAIN
            ) from error
        return spans

    @cached_property
    def _all_results(self) -> dict[int, list[dict[str, Any]]]:
        path = self.path / INSTANCES_FILE
        try:
            raw = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError.of(f"expected COCO results, but got: {error}", where=path, cure=_AGAIN) from error
        if not isinstance(raw, list) or not all(isinstance(result, dict) and "image_id" in result for result in raw):
            raise DatasetError.of("expected a list of COCO results, but got something else", where=path, cure=_AGAIN)
        known = {image.id for image in self.meta.images}
        by_image: dict[int, list[dict[str, Any]]] = {}
        for result in raw:
            if isinstance(result["image_id"], list | dict) or result["image_id"] not in known:
                raise DatasetError.of(
                    f"expected results for the images of {META_FILE}, but got image_id {result['image_id']!r}",
                    where=path,
                    cure=_AGAIN,
                )
            by_image.setdefault(result["image_id"], []).append(result)
        return by_image


def _rle(raw: dict[str, Any], image: PredictedImage) -> Rle:
    if raw["size"] != [image.height, image.width]:
        raise DatasetError(f"expected a mask of size {[image.height, image.width]}, but got {raw['size']}")
    return rle_from_counts(raw["counts"], image.height, image.width)
