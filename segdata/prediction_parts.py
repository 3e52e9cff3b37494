"""A prediction set in the making: one file an image, so that work that was broken off goes on where it was.

    settings.json        what must be the same for the work to go on: model, windows, limits
    model.json           what the model said about itself: `meta.json` without images
    images/KEY.json      one predicted image; of instances its objects, of probabilities KEY.npz lies beside it
    failed/KEY.json      an image that could not be predicted, and why

KEY stands for an image's name, size and bytes, so a changed image is predicted again. Every file appears whole or not
at all, and several processes may write side by side. An image's part also holds how long it took.
May import numpy, pydantic and this package.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from segdata.atomic import write_text
from segdata.errors import DatasetError, InputError
from segdata.prediction_meta import ImageInstances, PredictedImage, PredictionMeta
from segdata.prediction_reader import PredictionSet
from segdata.prediction_writer import PredictionWriter
from segdata.rle import Rle

__all__ = [
    "RECORD_FILE",
    "TIMING_FILE",
    "ImageFile",
    "PredictionParts",
    "milliseconds_of",
    "put_in_place",
    "refuse_other_settings",
    "settings_of",
]

RECORD_FILE = "predicted.json"  # in the finished set: the settings, each image's bytes, and what failed
TIMING_FILE = "timing.json"  # beside it, since no two runs take equally long: milliseconds by file name
_KEY_DIGITS = 24


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image to predict, and the size of its file."""

    image: PredictedImage
    num_bytes: int

    @property
    def key(self) -> str:
        """Names the image's part."""
        image = self.image
        text = repr((image.file_name, image.width, image.height, self.num_bytes))
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


@dataclass(frozen=True, slots=True)
class PredictionParts:
    """The folder of a prediction set in the making."""

    folder: Path

    @classmethod
    def beside(cls, out: Path) -> "PredictionParts":
        """Returns the folder for the prediction set `out`: `NAME.unfinished` beside it."""
        return cls(out.with_name(f"{out.name}.unfinished"))

    def start(self, settings: Mapping[str, Any]) -> None:
        """Makes the folder, or goes on with one of equal settings; one without a predicted image is begun anew.

        Raises:
            InputError: It holds images predicted with other settings, or can't be made.
        """
        file = self.folder / "settings.json"
        if file.is_file() and any((self.folder / "images").glob("*.json")):
            refuse_other_settings(json.loads(file.read_bytes()), settings, self.folder)
        for name in ("images", "failed"):
            try:
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError.of(
                    f"expected a place to write to, but got: {error.strerror}", where=self.folder, cure="Name another."
                ) from error
        write_text(file, json.dumps(settings, indent=2, sort_keys=True) + "\n")

    def has(self, file: ImageFile) -> bool:
        """Tells whether the image is predicted."""
        return self._image(file).is_file()

    def add_instances(self, file: ImageFile, instances: ImageInstances, milliseconds: float | None = None) -> None:
        """Adds one image's objects, and how long they took."""
        columns = {
            "boxes_xyxy": instances.boxes_xyxy.tolist(),
            "confidences": instances.confidences.tolist(),
            "classes": instances.classes.tolist(),
            "counts": [rle.counts for rle in instances.rles],
        }
        self._add(file, columns, milliseconds)

    def add_packed(self, file: ImageFile, packed: npt.NDArray[np.uint8], milliseconds: float | None = None) -> None:
        """Adds one image's class probabilities as `segdata.probabilities.pack` returns them, and how long they took."""
        partial = self._packed(file).with_name(f".{file.key}.{os.getpid()}.npz")
        np.savez_compressed(partial, prob=packed)
        partial.replace(self._packed(file))
        self._add(file, {}, milliseconds)

    def add_failure(self, file: ImageFile, reason: str) -> None:
        """Notes that an image could not be predicted."""
        write_text(self.folder / "failed" / f"{file.key}.json", json.dumps(reason))

    def forget_failures(self) -> None:
        """Lets every failed image be tried again."""
        for path in (self.folder / "failed").glob("*.json"):
            path.unlink()

    def failures(self, files: Sequence[ImageFile]) -> dict[str, str]:
        """Returns file name -> reason of the images that could not be predicted."""
        paths = {file.image.file_name: self.folder / "failed" / f"{file.key}.json" for file in files}
        return {name: json.loads(path.read_bytes()) for name, path in paths.items() if path.is_file()}

    def write_meta(self, meta: PredictionMeta) -> None:
        """Writes what the set says about itself, without its images."""
        write_text(self.folder / "model.json", meta.model_dump_json(indent=2) + "\n")

    @property
    def knows_model(self) -> bool:
        """Whether `write_meta` was here."""
        return (self.folder / "model.json").is_file()

    def read_meta(self) -> PredictionMeta:
        """Reads what `write_meta` wrote."""
        return PredictionMeta.model_validate_json((self.folder / "model.json").read_bytes())

    def adopt(self, finished: PredictionSet, files: Sequence[ImageFile]) -> None:
        """Takes over those images of a finished set that are among `files`, unchanged."""
        sizes = json.loads((finished.path / RECORD_FILE).read_bytes())["bytes"]
        times = _times_of(finished.path)
        known = {ImageFile(image, sizes[image.file_name]).key for image in finished.meta.images}
        for file in files:
            if file.key not in known or self.has(file):
                continue
            name = file.image.file_name
            if finished.meta.codec == "coco-rle":
                self.add_instances(file, finished.instances(name), times.get(name))
            else:
                _link(finished.path / "probabilities" / _npz(file), self._packed(file))
                self._add(file, {}, times.get(name))
        self.write_meta(finished.meta.model_copy(update={"images": ()}))

    def finish(self, files: Sequence[ImageFile], out: Path, fingerprint: str, failed: Mapping[str, str]) -> Path:
        """Writes the prediction set of all images that are predicted, in the order of `files`, and returns `out`.

        A set that was there before is replaced. The parts stay until `remove`.

        Raises:
            DatasetError: Two images share a stem.
            InputError: Nothing can be written there.
            OSError: The set can't be moved to its place.
        """
        done = [file for file in files if self.has(file)]
        fresh = self.folder / "finished"
        shutil.rmtree(fresh, ignore_errors=True)
        with PredictionWriter(
            fresh, self.read_meta().model_copy(update={"dataset_fingerprint": fingerprint})
        ) as writer:
            for file in done:
                self._move(file, writer)
            record = {
                "settings": json.loads((self.folder / "settings.json").read_bytes()),
                "bytes": {file.image.file_name: file.num_bytes for file in done},
                "failed": dict(failed),
            }
            writer.add_file(RECORD_FILE, json.dumps(record, indent=2, sort_keys=True) + "\n")
            times = {file.image.file_name: taken for file in done if (taken := self._milliseconds(file)) is not None}
            if times:
                writer.add_file(TIMING_FILE, json.dumps(times, indent=2, sort_keys=True) + "\n")
        put_in_place(fresh, out)
        return out

    def remove(self) -> None:
        """Removes the parts, once the set is there."""
        shutil.rmtree(self.folder)

    def remove_if_empty(self) -> None:
        """Removes the parts if no image is predicted."""
        if not any((self.folder / "images").glob("*.json")):
            self.remove()

    def _move(self, file: ImageFile, writer: PredictionWriter) -> None:
        if writer.codec == "prob8":
            writer.add_packed_file(file.image, self._packed(file))
            return
        columns = json.loads(self._image(file).read_bytes())
        columns.pop("milliseconds", None)
        size = (file.image.height, file.image.width)
        rles = tuple(Rle(*size, counts) for counts in columns.pop("counts"))
        writer.add_instances(file.image, ImageInstances.of(**columns, rles=rles))

    def _add(self, file: ImageFile, columns: Mapping[str, Any], milliseconds: float | None) -> None:
        taken = {} if milliseconds is None else {"milliseconds": round(milliseconds, 3)}
        write_text(self._image(file), json.dumps({**taken, **columns}))

    def _milliseconds(self, file: ImageFile) -> float | None:
        taken: float | None = json.loads(self._image(file).read_bytes()).get("milliseconds")
        return taken

    def _image(self, file: ImageFile) -> Path:
        return self.folder / "images" / f"{file.key}.json"

    def _packed(self, file: ImageFile) -> Path:
        return self.folder / "images" / f"{file.key}.npz"


def refuse_other_settings(found: Mapping[str, Any], wanted: Mapping[str, Any], where: Path) -> None:
    """Raises InputError, naming the first setting that differs."""
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise InputError.of(
                f"expected predictions made with {name} = {wanted.get(name)}, but got {found.get(name)}",
                where=where,
                cure="Name another folder by --out, or remove this one.",
            )


def settings_of(out: Path) -> dict[str, Any]:
    """Returns the settings that a finished set was predicted with.

    Raises:
        InputError: There is something else at `out`.
    """
    try:
        PredictionSet.open(out)
        settings: dict[str, Any] = json.loads((out / RECORD_FILE).read_bytes())["settings"]
    except (OSError, ValueError, KeyError, ValidationError, DatasetError) as error:
        raise InputError.of(
            "expected a new folder, or one that `segsweep predict` wrote, but got another",
            where=out,
            cure="Name another folder by --out.",
        ) from error
    return settings


def milliseconds_of(out: Path) -> float | None:
    """Returns the median of what an image of a prediction set cost: network and way back, not reading the image.

    None if nobody measured it, as with sets that other tools wrote.
    """
    times = _times_of(out)
    return median(times.values()) if times else None


def _times_of(out: Path) -> dict[str, float]:
    file = out / TIMING_FILE
    times: dict[str, float] = json.loads(file.read_bytes()) if file.is_file() else {}
    return times


def put_in_place(fresh: Path, out: Path) -> None:
    """Moves a finished folder to `out`; one that was there goes first, and comes back if the move fails."""
    old = fresh.with_name("replaced")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(fresh, out)
    except OSError:
        if old.exists():
            os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _npz(file: ImageFile) -> str:
    return f"{Path(file.image.file_name).stem}.npz"


def _link(source: Path, target: Path) -> None:
    """Makes a second name for a file; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
