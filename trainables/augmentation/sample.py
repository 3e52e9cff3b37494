"""A training image with its labels between two steps, read from and written back to MMEngine's results.

Letters: N objects, L layers, H, W pixels, C channels (BGR, as MMCV loads them).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.augmentation.layers import Labels, ObjectLayers

__all__ = ["IGNORED", "MIN_PIXELS", "Sample", "read_sample", "write_sample"]

Image = npt.NDArray[np.uint8]
Results = dict[str, Any]

IGNORED = 255  # label of pixels that teach nothing, as MMSegmentation has it
MIN_PIXELS = 4  # an object of which less is left is dropped with its labels


@dataclass(frozen=True)
class Sample:
    """An image with its labels.

    Attributes:
        image: uint8, BGR.
        labels: An instance sample's object layers (uint16, see `ObjectLayers`), or a semantic one's label map
            (uint8, L = 1).
        classes: Class of each object; None for a semantic sample.
        ignored: Whether an object teaches nothing (a crowd region).
    """

    image: Image
    labels: Labels
    classes: npt.NDArray[np.int64] | None = None
    ignored: npt.NDArray[np.bool_] | None = None

    @property
    def outside(self) -> int:
        """The label of pixels that lie outside the image."""
        return IGNORED if self.classes is None else 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[:2]
        return height, width

    def layers(self) -> ObjectLayers:
        """Returns the objects of an instance sample."""
        assert self.classes is not None
        return ObjectLayers(self.labels, len(self.classes))


def read_sample(results: Results) -> Sample:
    """Reads the sample; the masks of instance data must be layers (`LayerMasks` makes them so)."""
    if "gt_masks" not in results:
        return Sample(results["img"], results["gt_seg_map"][None])
    assert isinstance(results["gt_masks"], ObjectLayers)
    return Sample(
        results["img"],
        results["gt_masks"].labels,
        np.asarray(results["gt_bboxes_labels"], dtype=np.int64),
        np.asarray(results["gt_ignore_flags"], dtype=bool),
    )


def write_sample(results: Results, sample: Sample) -> Results:
    """Returns the results with the sample in them; objects of fewer than `MIN_PIXELS` are dropped, boxes are tight.

    Where the labels are the very same, no pixel has moved, and only the image is written. If no object is left where
    there was one, the results come back as they were: a step must not empty an image.
    """
    changed = dict(results, img=sample.image, img_shape=sample.size)
    if sample.classes is None or sample.ignored is None:
        changed["gt_seg_map"] = sample.labels[0]
        return changed
    if sample.labels is results["gt_masks"].labels:
        return changed
    found = sample.layers()
    kept = found.areas() >= MIN_PIXELS
    if not (kept & ~sample.ignored).any() and not np.all(results["gt_ignore_flags"]):
        return results
    found = found.keep(kept)
    return changed | {
        "gt_masks": found,
        "gt_bboxes": type(results["gt_bboxes"])(found.boxes_xyxy()),
        "gt_bboxes_labels": sample.classes[kept],
        "gt_ignore_flags": sample.ignored[kept],
    }
