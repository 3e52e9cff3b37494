"""The untuned baseline, fitted to the data set's statistics.

Stock limits suit COCO: with 100 detections an image and anchors from 32 px up, even perfect predictions of 150 small
nuclei score mask AP 0.82. Pure functions; imports segdata's statistics and search_spaces' TrialConfig.
"""

import math
from dataclasses import dataclass
from typing import Any

from search_spaces.trial_config import InputChoice
from segdata.statistics import ObjectStatistics, PixelStatistics

__all__ = ["InputSize", "fit_detector", "fit_input"]

Nested = dict[str, Any]

STOCK_LONG_PX, STOCK_SHORT_PX = 1333, 800  # the scale that the COCO zoo trains at
CROPPED_FRAME = 2.0  # times that, for images that are cropped to train on
SMALL_OBJECT_PX = 16  # objects below this are enlarged where the image allows it
FINEST_STRIDE = 4
MOST_CELLS = {"SOLO": 64, "SOLOv2": 128}  # a side of the finest grid


@dataclass(frozen=True, slots=True)
class InputSize:
    """The frame into which an image is scaled with its aspect kept, and the training crop, in pixels."""

    width: int
    height: int
    crop: int | None
    scale: float  # network pixels per image pixel of a median image
    keep_ratio: bool = True  # False: images are stretched to the frame
    multi_scale: float = 0.0  # training images are resized by a random factor from 1 - x to 1 + x

    @property
    def largest_px(self) -> int:
        """The side of a square that holds every training image."""
        return self.crop or math.ceil(max(self.width, self.height) * (1 + self.multi_scale))


def fit_input(choice: InputChoice, statistics: ObjectStatistics | PixelStatistics) -> InputSize:
    """Returns the input size: what was chosen, else the images' own size within the stock frame.

    Images whose smallest tenth of objects is under 16 px wide are enlarged up to twice, as far as the frame allows.
    With a training crop, images up to twice the frame are not shrunk.
    """
    width, height = statistics.image_width_median, statistics.image_height_median
    resizing = (choice.keep_ratio is not False, choice.multi_scale or 0.0)
    if choice.image_width is not None or choice.image_height is not None:
        factor = min(
            (choice.image_width or math.inf) / width,
            (choice.image_height or math.inf) / height,
        )
        frame = (choice.image_width or round(width * factor), choice.image_height or round(height * factor))
        return InputSize(*frame, choice.crop_size, factor, *resizing)
    frame_limit = min(STOCK_LONG_PX / max(width, height), STOCK_SHORT_PX / min(width, height))
    if choice.crop_size is not None:  # the frame bounds what a training step holds, and here it holds the crop
        frame_limit = max(frame_limit, min(1.0, CROPPED_FRAME * frame_limit))
    wanted = 1.0
    if isinstance(statistics, ObjectStatistics):
        wanted = min(2.0, max(1.0, SMALL_OBJECT_PX / max(statistics.object_size_px_p10, 1.0)))
    factor = min(wanted, frame_limit)
    return InputSize(round(width * factor), round(height * factor), choice.crop_size, factor, *resizing)


def fit_detector(
    model: Nested, statistics: ObjectStatistics, size: InputSize, detections_per_image: int | None = None
) -> None:
    """Raises a detector's limits, lowers its smallest anchor and refines its grids to what the data set holds.

    Args:
        model: The model's config, changed in place.
        statistics: Of the training images.
        size: How large the network sees them.
        detections_per_image: The limit that was chosen; None fits it to the fullest image.
    """
    detections = detections_per_image or detections_needed(statistics)
    raise_limits(model, detections)
    fit_anchors(model, statistics.object_size_px_p10 * size.scale)
    fit_grids(model, statistics.object_size_px_p10 * size.scale, max(size.width, size.height))


def raise_limits(model: Nested, detections: int) -> None:
    """Lets `detections` objects through every stage: candidates before NMS, regions, queries, trained masks.

    Twice as many regions and four times as many candidates are kept, as in the zoo's proportions.
    """
    wanted = {
        "max_per_img": detections,
        "max_per_image": detections,
        "num_queries": detections,
        "num_proposals": detections,
        "max_masks_to_train": detections,
        "top_k": 2 * detections,  # YOLACT: candidates of a class
        "nms_pre": 4 * detections,
    }
    regions = wanted | {"max_per_img": 2 * detections}
    test, train = model.get("test_cfg") or {}, model.get("train_cfg") or {}
    for limits in (test.get("rcnn"), test):
        raise_to(limits, wanted)
    for limits in (test.get("rpn"), train.get("rpn_proposal")):
        raise_to(limits, regions)
    for head in ("rpn_head", "mask_head", "panoptic_head"):
        raise_to(model.get(head), wanted)


def raise_to(limits: Nested | None, wanted: dict[str, int]) -> None:
    """Raises those of the named limits that `limits` has and that are lower."""
    for name, least in wanted.items():
        if limits and isinstance(limits.get(name), int):
            limits[name] = max(limits[name], least)


def fit_anchors(model: Nested, smallest_px: float) -> None:
    """Lowers the scale of all anchors until the finest level's are as small as the smallest tenth of the objects, in
    network pixels.

    The levels share one scale, so the largest anchors shrink alike.
    """
    anchors = model.get("rpn_head", {}).get("anchor_generator", {})
    if "scales" in anchors:
        anchors["scales"] = [lowered(float(anchors["scales"][0]), smallest_px / FINEST_STRIDE)]
    anchors = model.get("bbox_head", {}).get("anchor_generator", {})
    if "octave_base_scale" in anchors:
        anchors["octave_base_scale"] = lowered(anchors["octave_base_scale"], smallest_px / anchors["base_sizes"][0])


def lowered(stock: float, fitted: float) -> float:
    """Returns the smaller of two anchor scales, in strides, and at least one; no object at all means stock."""
    return stock if math.isnan(fitted) else round(min(stock, max(1.0, fitted)), 2)


def fit_grids(model: Nested, smallest_px: float, side_px: int) -> None:
    """Refines SOLO's finest grid until a cell is no larger than the smallest tenth of the objects.

    Two objects whose centres share a cell cannot both be found. A cell of SOLO costs a whole map, one of SOLOv2 a
    filter: hence their limits. SOLOv2 also drops masks of fewer pixels, at its stride of 4, than the finest level's
    stride says; that must not be more than a quarter of such an object.
    """
    most_cells = MOST_CELLS.get(model["type"])
    if most_cells is None or math.isnan(smallest_px):
        return
    head = model["mask_head"]
    cells = min(most_cells, math.ceil(side_px / max(smallest_px, 1.0)))
    finer = cells / head["num_grids"][0]
    if finer > 1:
        head["num_grids"] = [cells, *(round(count * min(finer, 1.5)) for count in head["num_grids"][1:])]
    if model["type"] == "SOLOv2":
        least_px = max(1, math.floor((smallest_px / FINEST_STRIDE) ** 2 / 4))
        head["strides"] = [min(stride, least_px) if stride == 8 else stride for stride in head["strides"]]


def detections_needed(statistics: ObjectStatistics) -> int:
    """Returns half again as many detections as the fullest image has objects, in steps of 50, at least 100."""
    return max(100, math.ceil(1.5 * statistics.objects_per_image_max / 50) * 50)
