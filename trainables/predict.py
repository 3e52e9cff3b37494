"""Prediction with a trained network into the parts of a prediction set, inside a child of the fork server.

Runs the very pipeline of the model's config, so that stock inferencers on the same files give the same results. Images
of one padded size go through the network together; images larger than a window, window by window.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmengine.registry import DefaultScope

from segdata.errors import DatasetError, InputError, TrialError
from segdata.prediction_disk import refuse_too_much
from segdata.prediction_parts import ImageFile, PredictionParts
from segdata.predictions import ImageInstances, PredictionMeta
from segdata.probabilities import coarsened, pack
from trainables.outputs import instances_of, limits_of, probabilities_of
from trainables.prediction_job import PredictionJob, windows_of
from trainables.prediction_model import Predictor, classes_of, load_predictor
from trainables.trial import prepare_process
from trainables.window_prediction import WindowPredictor

__all__ = ["predict_as_asked", "predict_share"]

Found = ImageInstances | npt.NDArray[np.uint8]  # one image's objects, or its packed class probabilities
Band = npt.NDArray[np.float32]  # rows of an image's class probabilities


def predict_as_asked(job: PredictionJob, connection: Connection) -> None:
    """The child's job for the command: as `predict_share`; sends ("refused", {"reason"}) where the input is wrong."""
    try:
        predict_share(job, connection)
    except InputError as error:
        connection.send(("refused", {"reason": str(error)}))


def predict_share(job: PredictionJob, connection: Connection) -> None:
    """The child's job: predicts its share of a job's missing images into the parts.

    Sends ("image", {"done", "of"}) as it goes, over its own images, first before any of them. One that can't be read is
    noted as failed.

    Raises:
        InputError: The network is not what the job asks for, or the disk has too little room.
    """
    prepare_process(job.threads, job.custom_imports, job.folder)
    predictor, meta = load_predictor(job)
    parts = PredictionParts(job.parts)
    described = meta_of(job, predictor, meta)
    to_come = [file.image for file in job.files if file.image.file_name in job.missing]
    refuse_too_much(described, to_come, job.sets, job.parts)
    parts.write_meta(described)
    with torch.no_grad(), DefaultScope.overwrite_default_scope(predictor.config.default_scope):
        share = Share(job, predictor, parts, described)
        mine = share.groups()[job.share :: job.shares]
        done, count = 0, sum(file.image.file_name in job.missing for group in mine for file in group)
        connection.send(("image", {"done": 0, "of": count}))
        for group in mine:
            share.predict(group)
            for _ in (file for file in group if file.image.file_name in job.missing):
                done += 1
                connection.send(("image", {"done": done, "of": count}))


@contextmanager
def told_apart(job: PredictionJob, group: Sequence[ImageFile]) -> Iterator[None]:
    """Says which images or which view a network failed on, where these may be why; around the network alone.

    Raises:
        TrialError: Memory ran out, or a network failed whose input has another size than without the view.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise out_of_memory(job, group) from error
    except (RuntimeError, ValueError, AssertionError) as error:
        view = job.view
        if view.scale == 1 and view.window_px is None and not view.lies:
            raise
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise TrialError.of(
            f"expected a network that takes images in the view {view}, but it failed: {reason}",
            where=job.images / group[0].image.file_name,
            cure="If its input has a fixed size, leave this view out",
        ) from error


def out_of_memory(job: PredictionJob, group: Sequence[ImageFile]) -> TrialError:
    """Returns the error; other processes may hold the rest of the memory."""
    size = f"{group[0].image.width}x{group[0].image.height}"
    return TrialError.of(
        f"expected memory for {len(group)} image(s) of {size} px together, but it ran out",
        where=job.images / group[0].image.file_name,
        cure="Lower --batch or --processes, or predict in windows with --window",
    )


class Share:
    """A process's part of a job at work."""

    def __init__(self, job: PredictionJob, predictor: Predictor, parts: PredictionParts, meta: PredictionMeta) -> None:
        self.job, self.predictor, self.parts, self.meta = job, predictor, parts, meta
        windows = windows_of(job.view, job.windows)
        self.windows = None if windows is None else WindowPredictor(predictor, windows, job.batch)
        self.floor = limits_of(predictor.config.model).floor if predictor.task == "instance" else 0.0

    def groups(self) -> list[tuple[ImageFile, ...]]:
        """Returns which images go through the network together, those groups of which an image is missing.

        All images of the job decide, also predicted ones: a sum's last digit depends on the batch.
        """
        by_size: dict[tuple[int, ...], list[list[ImageFile]]] = {}
        groups: list[list[ImageFile]] = []
        for file in self.job.files:
            if self.in_windows(file):
                groups.append([file])
                continue
            alike = by_size.setdefault(self.predictor.padded(*self.size(file)), [])
            if not alike or len(alike[-1]) == self.job.batch:
                alike.append([])
                groups.append(alike[-1])
            alike[-1].append(file)
        return [tuple(group) for group in groups if any(f.image.file_name in self.job.missing for f in group)]

    def size(self, file: ImageFile) -> tuple[int, int]:
        """Returns (width, height) of an image in the view's frame."""
        return self.job.view.size(file.image.width, file.image.height)

    def in_windows(self, file: ImageFile) -> bool:
        """Tells whether an image is larger than a window, or would be seen at another scale than windows are."""
        return self.windows is not None and self.windows.needed(*self.size(file))

    def predict(self, group: Sequence[ImageFile]) -> None:
        """Predicts a group of images, and adds those that are missing to the parts, with the time that each took."""
        loaded = list(self.loaded(group))
        if not loaded:
            return
        begin = perf_counter()
        if self.in_windows(group[0]):
            found = [(file, self.seen_in_windows(file, pixels)) for file, pixels in loaded]
        else:
            found = self.seen_whole(loaded)
        milliseconds = 1000 * (perf_counter() - begin) / len(loaded)
        for file, result in found:
            if isinstance(result, ImageInstances):
                self.parts.add_instances(file, result, milliseconds)
            else:
                self.add_packed(file, result, milliseconds)

    def seen_whole(self, loaded: Sequence[tuple[ImageFile, npt.NDArray[Any]]]) -> list[tuple[ImageFile, Found]]:
        """Sends images through the network together; returns what it found in those that are missing."""
        with told_apart(self.job, [file for file, _ in loaded]):
            inputs = [
                self.predictor.prepare(
                    pixels,
                    self.predictor.steps_for(*self.size(file)),
                    str(self.job.images / file.image.file_name),
                    file.image.id,
                )
                for file, pixels in loaded
            ]
            samples = self.predictor.predict(inputs)
        seen = zip(loaded, samples, strict=True)
        return [(file, self.found(file, sample)) for (file, _), sample in seen if not self.parts.has(file)]

    def found(self, file: ImageFile, sample: dict[str, Any]) -> Found:
        """Brings what the network returned for an image back into the image's frame."""
        view = self.job.view
        if self.predictor.task == "semantic":
            return pack(view.back_planes(probabilities_of(sample["seg_logits"])), self.job.stride)
        objects = instances_of(with_masks(self.job, sample), self.floor)
        return view.back_instances(objects, file.image.width, file.image.height)

    def seen_in_windows(self, file: ImageFile, pixels: npt.NDArray[Any]) -> Found:
        """Predicts one image window by window, and brings the result back into the image's frame."""
        assert self.windows is not None
        view, floor = self.job.view, self.floor
        if self.predictor.task == "semantic":
            bands = self.windows.bands(pixels, lambda seen: probabilities_of(seen["seg_logits"]))
            whole = np.concatenate([pack(band, 1) for band in self.told_apart_each(file, bands)], axis=1)
            return coarsened(view.back_planes(whole), self.job.stride)
        with told_apart(self.job, [file]):
            objects = self.windows.instances(pixels, lambda seen: instances_of(with_masks(self.job, seen), floor))
        return view.back_instances(objects, file.image.width, file.image.height)

    def told_apart_each(self, file: ImageFile, bands: Iterator[Band]) -> Iterator[Band]:
        """Yields what the network gives, apart from what is done with it."""
        while True:
            with told_apart(self.job, [file]):
                band = next(bands, None)
            if band is None:
                return
            yield band

    def loaded(self, group: Sequence[ImageFile]) -> Iterator[tuple[ImageFile, npt.NDArray[Any]]]:
        """Reads the images of a group; one that can't be read is noted."""
        for file in group:
            try:
                yield file, self.predictor.load(self.job.images, file)
            except DatasetError as error:
                self.parts.add_failure(file, str(error))

    def add_packed(self, file: ImageFile, packed: npt.NDArray[np.uint8], milliseconds: float) -> None:
        """Adds an image's packed class probabilities.

        Raises:
            TrialError: The model has more or fewer classes than names are known.
        """
        if len(packed) != len(self.meta.classes):
            raise TrialError.of(
                f"expected a probability for each of {', '.join(self.meta.classes)}, but the model gives {len(packed)}",
                where=self.job.config,
                cure="Name a config whose classes are the model's.",
            )
        self.parts.add_packed(file, packed, milliseconds)


def with_masks(job: PredictionJob, sample: dict[str, Any]) -> dict[str, Any]:
    """Returns the objects of a sample.

    Raises:
        TrialError: The model finds boxes only.
    """
    found: dict[str, Any] = sample.get("pred_instances") or {}
    if "masks" not in found:
        raise TrialError.of(
            "expected a model that predicts an object's mask, but got one without",
            where=job.config,
            cure="Predict with a model of instance segmentation.",
        )
    return found


def meta_of(job: PredictionJob, predictor: Predictor, meta: Any) -> PredictionMeta:
    """Describes the prediction set: classes, limits and where it comes from."""
    classes, category_ids = classes_of(job, predictor.config, meta)
    limits: dict[str, Any] = {"codec": "prob8", "stride": job.stride}
    whole = windows_of(job.view, job.windows) is None
    if predictor.task == "instance":
        applied = limits_of(predictor.config.model)
        limits = {
            "codec": "coco-rle",
            "confidence_threshold": applied.minimum_confidence,
            "max_detections": applied.detections if whole else None,  # they limit a window, not an image
            "mask_threshold": applied.mask_threshold,
        }
    return PredictionMeta(
        task=predictor.task,
        classes=classes,
        category_ids=category_ids if predictor.task == "instance" else (),
        dataset_fingerprint=job.fingerprint,
        trial=job.trial,
        config_hash=job.config_hash,
        code_version=version("segsweep"),
        **limits,
    )
