"""How large a trial's network saw its training images: what windows over larger images need to know.

Imports mmengine's configs and segdata. Scale: pixels of the network's input for one of the image, across and down.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mmengine.config import Config

from segdata.coco import read_coco
from segdata.images import image_size

__all__ = ["is_resize", "training_frame", "training_scale", "without_resize"]

Steps = Sequence[dict[str, Any]]


def training_scale(config: Config, steps: Steps) -> tuple[float, float] | None:
    """Returns the scale at which the training images of median size were seen; None where they are not there any more.

    Args:
        config: Of the model: its training data set's own files are read.
        steps: Of the test pipeline: its resize names the frame into which images are scaled.
    """
    resize = next((step for step in steps if is_resize(step)), {})
    sizes, frame = training_sizes(config), training_frame(steps)
    if frame is None or not sizes:
        return None
    width, height = median(size[0] for size in sizes), median(size[1] for size in sizes)
    if not resize.get("keep_ratio"):
        return frame[0] / width, frame[1] / height
    factor = min(max(frame) / max(width, height), min(frame) / min(width, height))  # as MMCV fits an image in a frame
    return factor, factor


def training_frame(steps: Steps) -> tuple[int, int] | None:
    """Returns width and height of the frame into which the test pipeline scales images; None if it names none."""
    resize = next((step for step in steps if is_resize(step)), {})
    frame: Sequence[int] = resize.get("scale") or ()
    return (frame[0], frame[1]) if len(frame) == 2 else None


def training_sizes(config: Config) -> list[tuple[int, int]]:
    """Returns (width, height) of the training images."""
    dataset: Mapping[str, Any] = config.get("train_dataloader", {}).get("dataset", {})
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    file = Path(dataset.get("ann_file") or "")
    if not file.is_file():
        return []
    if file.suffix == ".json":
        return [(image.width, image.height) for image in read_coco(file).images]
    folder, suffix = Path(dataset["data_prefix"]["img_path"]), dataset.get("img_suffix", ".jpg")
    paths = [folder / f"{stem}{suffix}" for stem in file.read_text().split()]
    return [image_size(path) for path in paths if path.is_file()]


def is_resize(step: Mapping[str, Any]) -> bool:
    return "Resize" in str(step["type"])


def without_resize(steps: Steps, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Returns the steps with one resize to exactly (width, height) in the place of the first, or before all others."""
    place = next((index for index, step in enumerate(steps) if is_resize(step)), 0)
    found: Mapping[str, Any] = steps[place] if steps and is_resize(steps[place]) else {}
    own = {key: found[key] for key in ("interpolation", "backend") if key in found}
    exact: dict[str, Any] = {"type": "Resize", "scale": size, "keep_ratio": False, **own}
    return [*steps[:place], exact, *(step for step in steps[place:] if not is_resize(step))]
