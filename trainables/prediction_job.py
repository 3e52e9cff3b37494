"""What a predicting process is asked to do: picklable records that import no training framework.

Several processes share a job's images by number; each writes its own into the same `PredictionParts`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segdata.errors import DatasetError
from segdata.file_sums import FolderSums
from segdata.images import image_size
from segdata.prediction_parts import ImageFile
from segdata.predictions import PredictedImage
from segdata.views import PLAIN, View
from trainables.description import Task

__all__ = ["PredictionJob", "WindowChoice", "images_fingerprint", "windows_of"]


@dataclass(frozen=True, slots=True)
class WindowChoice:
    """Windows for large images.

    Attributes:
        side_px: Of a window, in pixels of the network's input.
        overlap: Least share of it that neighbours have in common, 0 to 0.9.
        scale: Pixels of the network's input that an image pixel becomes, per side; None = as in training.
    """

    side_px: int
    overlap: float = 0.25
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """Images to predict with one model.

    Attributes:
        config: MMEngine config of the model.
        checkpoint: Its weights.
        images: Folder that the files' names are relative to.
        files: All images of the prediction set to come; they decide which images are predicted together, so that a
            resumed job gives the same numbers.
        missing: Names of those that are still to be predicted.
        parts: Folder of `PredictionParts`.
        classes: Of the prediction set; None = the checkpoint's.
        category_ids: COCO ids, parallel to `classes`; empty = the config's data set's, else 1, 2, 3 ...
        trial: For the set's `meta.json`; so are the next two.
        windows: Of every image; a view's own windows win over their side.
        view: How the network sees every image; results are stored in the image's own frame.
        stride: Image pixels a stored probability stands for, per side; 1 for instances.
        task: That the network must have; None = whichever.
        sets: Prediction sets of these images that are still to come on the same disk, this one among them.
        batch: Most images, or windows of one image, that pass through the network together.
        share: Number of this process ...
        shares: ... of so many.
        sums: What `images` holds, where each node is to read a copy of its own.
    """

    config: Path
    checkpoint: Path
    images: Path
    files: tuple[ImageFile, ...]
    missing: frozenset[str]
    parts: Path
    classes: tuple[str, ...] | None = None
    category_ids: tuple[int, ...] = ()
    trial: str | None = None
    config_hash: str | None = None
    fingerprint: str = ""
    windows: WindowChoice | None = None
    view: View = PLAIN
    stride: int = 1
    task: Task | None = None
    sets: int = 1
    batch: int = 1
    share: int = 0
    shares: int = 1
    threads: int = 1
    custom_imports: Sequence[str] = ()
    folder: Path | None = None  # where the user's own modules lie
    sums: FolderSums | None = None


def windows_of(view: View, windows: WindowChoice | None) -> WindowChoice | None:
    """Returns the windows in which a view is predicted: its own side, with overlap and scale of those of all views."""
    if view.window_px is None:
        return windows
    return WindowChoice(view.window_px) if windows is None else replace(windows, side_px=view.window_px)


def opened(
    folder: Path, listed: Sequence[PredictedImage | tuple[int, str]]
) -> tuple[tuple[ImageFile, ...], dict[str, str]]:
    """Looks up the files' sizes, and the images' own where they are not known yet."""
    files, unreadable = [], {}
    for entry in listed:
        name = entry.file_name if isinstance(entry, PredictedImage) else entry[1]
        try:
            num_bytes = byte_size(folder / name)
            if not isinstance(entry, PredictedImage):
                width, height = image_size(folder / name)
                entry = PredictedImage(id=entry[0], file_name=name, width=width, height=height)
        except DatasetError as error:
            unreadable[name] = str(error)
            continue
        files.append(ImageFile(entry, num_bytes))
    return tuple(files), unreadable


def byte_size(path: Path) -> int:
    """Returns the size of a file.

    Raises:
        DatasetError: It is not there.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise DatasetError.of(
            f"expected an image, but got: {error.strerror}", where=path, cure="Check the path."
        ) from error


def images_fingerprint(files: Sequence[ImageFile]) -> str:
    """Returns 16 hex digits over the images' names, sizes and bytes: the data set's fingerprint where no truth is."""
    return hashlib.sha256(" ".join(sorted(file.key for file in files)).encode()).hexdigest()[:16]
