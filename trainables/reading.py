"""Reading images and label maps while a trial trains: what can't be read is named. Imports mmcv and mmseg.

The steps take the places of the stock ones in a trial's live pipelines; the exported config keeps those.
"""

import copy
from collections.abc import Callable
from typing import Any

import cv2
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import LoadAnnotations

from segdata.errors import TrialSiteError

__all__ = ["put_reading", "register_reading"]

Results = dict[str, Any]

# A decoder that makes nothing of the bytes gives None, on which upstream then fails in its ways.
UNREADABLE = (OSError, AssertionError, AttributeError, ValueError, cv2.error)


class ReadImage(LoadImageFromFile):
    """Loads an image as the stock step does.

    Raises:
        TrialSiteError: It is not there, or no image.
    """

    def transform(self, results: Results) -> Results:
        return named(super().transform, results, results["img_path"], "image")


class ReadLabelMap(LoadAnnotations):
    """Loads a label map as the stock step does.

    Raises:
        TrialSiteError: It is not there, or no image.
    """

    def transform(self, results: Results) -> Results:
        return named(super().transform, results, results["seg_map_path"], "label map")


def named(load: Callable[[Results], Results], results: Results, path: str, what: str) -> Results:
    """Returns what `load` makes of `results`, or says which file it failed on."""
    try:
        loaded = load(results)
    except UNREADABLE as error:
        found = error.strerror if isinstance(error, OSError) and error.strerror else "no image of a known kind"
        raise TrialSiteError.of(
            f"expected a readable {what}, but got: {found}",
            where=path,
            cure="Restore the file, then run `segsweep data check`",
        ) from error
    return loaded


def register_reading() -> None:
    """Makes the steps known to MMEngine by name; harmless when repeated."""
    for step in (ReadImage, ReadLabelMap):
        TRANSFORMS.register_module(module=step, force=True)


def put_reading(loader: dict[str, Any], task: str) -> dict[str, Any]:
    """Returns a loader's config whose pipelines name what they can't read."""
    names = {"LoadImageFromFile": "ReadImage"} | ({"LoadAnnotations": "ReadLabelMap"} if task == "semantic" else {})
    changed = copy.deepcopy(loader)
    dataset: dict[str, Any] | None = changed["dataset"]
    while dataset is not None:
        for step in dataset["pipeline"]:
            step["type"] = names.get(step["type"], step["type"])
        dataset = dataset.get("dataset")
    return changed
