"""Average precision of instances, as COCO defines it, unrounded and at a maxDets that fits the data.

IoU thresholds 0.50:0.05:0.95, precision at 101 recalls, areas small <= 32^2 <= medium <= 96^2 <= large in pixels,
mean over classes: the numbers of pycocotools to 1e-12. May import numpy, `segdata` and this package.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segdata.errors import DatasetError, InputError
from segdata.instances import ImageRecord, InstanceDataset
from segdata.predictions import ImageInstances, PredictionSet
from segdata.sound_predictions import require_sound_instances
from segscore.agreement import require_agreement
from segscore.matching import IOU_THRESHOLDS, Matches
from segscore.overlaps import DrawnTruth, Kind, Result, Scene
from segscore.precision import average_precisions

__all__ = [
    "InstanceScores",
    "Kind",
    "MEANS",
    "fitting_max_detections",
    "mean_of_class",
    "results_of_image",
    "results_of_set",
    "scene_of",
    "score_instance_results",
    "score_instances",
    "score_kinds",
    "summarize",
]

Floats = npt.NDArray[np.float64]
_LEAST_MAX_DETECTIONS = 100  # COCO's own
_CURE = "Predict the truth's images with a model of the truth's classes."


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """Average precision over a data set; each value in 0..1, NaN where the truth has no such object.

    Attributes:
        kind: Whether masks ("segm"), boxes ("bbox") or masks with their boundaries ("boundary") were matched.
        max_detections: Detections that count for each image and class, those of highest confidence.
        ap: Mean over the IoU thresholds 0.50:0.05:0.95 and over classes.
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        ap_small: Of objects below 32^2 pixels.
        ap_medium: Of objects of 32^2 to 96^2 pixels.
        ap_large: Of objects above 96^2 pixels.
        per_class: (class name, ap) in category-id order.
        images: How many images were scored.
        left_out: Objects of the truth whose mask has no pixel (slivers of polygons). No mask can match them, so they
            are not scored; pycocotools counts them as missed.
    """

    kind: Kind
    max_detections: int
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    per_class: tuple[tuple[str, float], ...]
    images: int
    left_out: int


def score_instances(
    truth: InstanceDataset, predictions: PredictionSet, *, kind: Kind = "segm", max_detections: int | None = None
) -> InstanceScores:
    """Scores a prediction set on the images of the truth; images are matched by file name, classes by name.

    Args:
        truth: Labelled objects; predicted images beyond these are left out.
        predictions: An instance prediction set.
        kind: Whether to match masks, boxes, or masks with their boundaries.
        max_detections: Detections that count for each image and class; None = `fitting_max_detections`.

    Raises:
        InputError: If the predictions are semantic.
        DatasetError: If the classes or an image's size differ, an image of the truth was not predicted, or a
            confidence is not in 0..1.
    """
    results = results_of_set(truth, predictions)
    return score_instance_results(truth, results, kind=kind, max_detections=max_detections)


def results_of_set(truth: InstanceDataset, predictions: PredictionSet) -> list[dict[str, Any]]:
    """Returns what a prediction set holds of the truth's images as COCO results (boxes xywh in pixels, masks as RLE).

    Raises:
        InputError: If the predictions are semantic.
        DatasetError: If the classes or an image's size differ, an image of the truth was not predicted, or a
            confidence is not in 0..1.
    """
    require_agreement(truth, predictions)
    results: list[dict[str, Any]] = []
    for image in truth.images:
        found = predictions.instances(image.file_name)
        require_sound_instances(found, image.file_name, predictions)
        results += results_of_image(image, found, truth, predictions.meta.classes)
    return results


def score_instance_results(
    truth: InstanceDataset, results: Sequence[Result], *, kind: Kind = "segm", max_detections: int | None = None
) -> InstanceScores:
    """Scores COCO results in memory; every image of the truth counts, those without results as empty.

    Args:
        truth: Labelled objects.
        results: Entries with image_id, category_id, score, and, by `kind`, segmentation (compressed RLE:
            {"size": [h, w], "counts"}) or bbox (xywh in pixels). They are not changed. For masks the area that
            decides on small, medium and large is the mask's, for boxes the box's.
        kind: Whether to match masks, boxes, or masks with their boundaries.
        max_detections: Detections that count for each image and class; None = `fitting_max_detections`.

    Raises:
        DatasetError: If a result names an image or class that the truth lacks, its mask is of another size, or its
            score is not a number.
        InputError: If `max_detections` is below 1.
    """
    scene = scene_of(truth, results, kind=kind, max_detections=max_detections)
    return summarize(truth, scene.matches(kind), kind, scene)


def score_kinds(
    truth: InstanceDataset, results: Sequence[Result], kinds: Sequence[Kind], *, max_detections: int | None = None
) -> tuple[InstanceScores, ...]:
    """Scores COCO results by several kinds at once; arguments and errors of `score_instance_results`."""
    scene = scene_of(truth, results, max_detections=max_detections)
    return tuple(summarize(truth, scene.matches(kind), kind, scene) for kind in kinds)


def scene_of(
    truth: InstanceDataset, results: Sequence[Result], *, kind: Kind = "segm", max_detections: int | None = None
) -> Scene:
    """Checks truth and results, and makes them ready for matching; arguments and errors of `score_instance_results`."""
    limit = fitting_max_detections(truth, results) if max_detections is None else max_detections
    if limit < 1:
        raise InputError.of(f"expected at least 1, but got {limit}", where="max_detections", cure="Raise it.")
    _require_sound(truth, results, kind)
    return Scene(DrawnTruth(truth), results, limit)


def fitting_max_detections(truth: InstanceDataset, results: Iterable[Result]) -> int:
    """Returns a maxDets that cuts nothing off: the most objects or results in any image, rounded up to hundreds."""
    objects = Counter(obj.image_id for obj in truth.objects)
    found = Counter(int(result["image_id"]) for result in results)
    most = max([*objects.values(), *found.values(), _LEAST_MAX_DETECTIONS])
    return 100 * math.ceil(most / 100)


def _mean(ap_BTK: Floats) -> Floats:
    """Mean over thresholds and classes where the truth has objects, (B,), NaN where it has none."""
    present = ~np.isnan(ap_BTK)
    count_B = present.sum(axis=(1, 2))
    total_B = np.where(present, ap_BTK, 0.0).sum(axis=(1, 2))
    mean_B: Floats = np.where(count_B > 0, total_B / np.maximum(count_B, 1), np.nan)
    return mean_B


_AT_50, _AT_75 = (int(np.argmin(np.abs(IOU_THRESHOLDS - iou))) for iou in (0.5, 0.75))
MEANS: dict[str, Callable[[Floats], Floats]] = {  # attribute of InstanceScores -> what it is of (B, T, K, A), (B,)
    "ap": lambda ap_BTKA: _mean(ap_BTKA[..., 0]),
    "ap50": lambda ap_BTKA: _mean(ap_BTKA[:, _AT_50 : _AT_50 + 1, :, 0]),
    "ap75": lambda ap_BTKA: _mean(ap_BTKA[:, _AT_75 : _AT_75 + 1, :, 0]),
    "ap_small": lambda ap_BTKA: _mean(ap_BTKA[..., 1]),
    "ap_medium": lambda ap_BTKA: _mean(ap_BTKA[..., 2]),
    "ap_large": lambda ap_BTKA: _mean(ap_BTKA[..., 3]),
}


def mean_of_class(ap_BTKA: Floats, index: int) -> Floats:
    """Returns one class's average precision over all areas, (B,)."""
    return _mean(ap_BTKA[:, :, index : index + 1, 0])


def summarize(truth: InstanceDataset, matches: Matches, kind: Kind, scene: Scene) -> InstanceScores:
    """Takes the means over thresholds and classes."""
    ap_BTKA = average_precisions(matches)
    classes = enumerate(truth.class_names)
    return InstanceScores(
        kind=kind,
        max_detections=scene.max_detections,
        **{name: float(mean(ap_BTKA)[0]) for name, mean in MEANS.items()},
        per_class=tuple((name, float(mean_of_class(ap_BTKA, index)[0])) for index, name in classes),
        images=len(truth.images),
        left_out=scene.left_out,
    )


def results_of_image(
    image: ImageRecord, found: ImageInstances, truth: InstanceDataset, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns one image's objects as COCO results; `classes` are those that the objects' class indices stand for."""
    id_of = dict(zip(truth.class_names, truth.category_ids, strict=True))
    boxes = np.asarray(found.boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    rows = zip(boxes_xywh, found.confidences.tolist(), found.classes.tolist(), found.rles, strict=True)
    return [
        {
            "image_id": image.id,
            "category_id": id_of[classes[index]],
            "bbox": box_xywh,
            "score": confidence,
            "segmentation": rle.to_coco(),
        }
        for box_xywh, confidence, index, rle in rows
    ]


def _require_sound(truth: InstanceDataset, results: Sequence[Result], kind: Kind) -> None:
    sizes = {image.id: [image.height, image.width] for image in truth.images}
    category_ids = set(truth.category_ids)
    for number, result in enumerate(results):
        where = f"result {number}"
        if result["image_id"] not in sizes:
            raise _wrong(where, "the id of an image of the truth", f"image_id {result['image_id']}")
        if result["category_id"] not in category_ids:
            raise _wrong(where, "the id of a category of the truth", f"category_id {result['category_id']}")
        if not math.isfinite(result["score"]):
            raise _wrong(where, "a finite score", str(result["score"]))
        size = sizes[result["image_id"]]
        if kind != "bbox" and list(result["segmentation"]["size"]) != size:
            raise _wrong(where, f"a mask of [height, width] {size}", str(list(result["segmentation"]["size"])))


def _wrong(where: str, expected: str, found: str) -> DatasetError:
    return DatasetError.of(f"expected {expected}, but got {found}", where=where, cure=_CURE)
