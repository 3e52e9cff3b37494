"""Average precision of instances, as COCO defines it, unrounded and at a maxDets that fits the data.

IoU thresholds 0.50:0.05:0.95, precision at 101 recalls, areas small < 32^2 <= medium < 96^2 <= large in pixels,
mean over classes. The matching is faster-coco-eval's; the means are taken here, in float64.
May import numpy, faster_coco_eval and `segdata`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as coco_mask

from segdata.coco import ImageRecord, InstanceDataset, ObjectRecord, rle_of
from segdata.errors import DatasetError, InputError
from segdata.predictions import ImageInstances, PredictionSet
from segdata.rle import Rle, rle_area

__all__ = [
    "InstanceScores",
    "Kind",
    "fitting_max_detections",
    "results_of_set",
    "score_instance_results",
    "score_instances",
]

Kind = Literal["segm", "bbox"]
Result = Mapping[str, Any]
Floats = npt.NDArray[np.float64]
_LEAST_MAX_DETECTIONS = 100  # COCO's own
_CURE = "Predict the truth's images with a model of the truth's classes."


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """Average precision over a data set; each value in 0..1, NaN where the truth has no such object.

    Attributes:
        kind: Whether masks ("segm") or boxes ("bbox") were matched.
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
        kind: Whether to match masks or boxes.
        max_detections: Detections that count for each image and class; None = `fitting_max_detections`.

    Raises:
        DatasetError: If the classes differ, an image of the truth was not predicted, or a mask's size is not its
            image's.
    """
    results = results_of_set(truth, predictions)
    return score_instance_results(truth, results, kind=kind, max_detections=max_detections)


def results_of_set(truth: InstanceDataset, predictions: PredictionSet) -> list[dict[str, Any]]:
    """Returns what a prediction set holds of the truth's images as COCO results (boxes xywh in pixels, masks as RLE).

    Raises:
        DatasetError: If the classes differ, or an image of the truth was not predicted.
    """
    _require_same_classes(truth, predictions)
    results: list[dict[str, Any]] = []
    for image in truth.images:
        results += _results_of(image, predictions.instances(image.file_name), truth, predictions.meta.classes)
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
        kind: Whether to match masks or boxes.
        max_detections: Detections that count for each image and class; None = `fitting_max_detections`.

    Raises:
        DatasetError: If a result names an image or class that the truth lacks, its mask is of another size, or its
            score is not a number.
        InputError: If `max_detections` is below 1.
    """
    limit = fitting_max_detections(truth, results) if max_detections is None else max_detections
    if limit < 1:
        raise InputError.of(f"expected at least 1, but got {limit}", where="max_detections", cure="Raise it.")
    _require_sound(truth, results, kind)
    objects = _with_pixels(truth)
    evaluation = COCOeval_faster(_coco_truth(truth, objects), _coco_results(truth, results, kind), kind)
    evaluation.params.maxDets = [limit]
    evaluation.evaluate()
    evaluation.accumulate()
    thresholds = np.asarray(evaluation.params.iouThrs)
    precision = np.asarray(evaluation.eval["precision"])
    return _summarize(truth, precision, thresholds, kind, limit, len(truth.objects) - len(objects))


def fitting_max_detections(truth: InstanceDataset, results: Iterable[Result]) -> int:
    """Returns a maxDets that cuts nothing off: the most objects or results in any image, rounded up to hundreds."""
    objects = Counter(obj.image_id for obj in truth.objects)
    found = Counter(int(result["image_id"]) for result in results)
    most = max([*objects.values(), *found.values(), _LEAST_MAX_DETECTIONS])
    return 100 * math.ceil(most / 100)


def _summarize(
    truth: InstanceDataset, precision_TRKA1: Floats, thresholds_T: Floats, kind: Kind, limit: int, left_out: int
) -> InstanceScores:
    """Takes the means. T: IoU thresholds, R: recalls, K: classes in id order, A: all, small, medium, large."""
    precision = precision_TRKA1[..., 0]
    at_50, at_75 = (int(np.argmin(np.abs(thresholds_T - iou))) for iou in (0.5, 0.75))
    return InstanceScores(
        kind=kind,
        max_detections=limit,
        ap=_mean(precision[:, :, :, 0]),
        ap50=_mean(precision[at_50, :, :, 0]),
        ap75=_mean(precision[at_75, :, :, 0]),
        ap_small=_mean(precision[:, :, :, 1]),
        ap_medium=_mean(precision[:, :, :, 2]),
        ap_large=_mean(precision[:, :, :, 3]),
        per_class=tuple((name, _mean(precision[:, :, k, 0])) for k, name in enumerate(truth.class_names)),
        images=len(truth.images),
        left_out=left_out,
    )


def _mean(precision: Floats) -> float:
    """Mean where the truth has objects; COCO marks the rest by -1."""
    present = precision[precision > -1]
    return float(present.mean()) if present.size else math.nan


def _results_of(
    image: ImageRecord, found: ImageInstances, truth: InstanceDataset, classes: Sequence[str]
) -> list[dict[str, Any]]:
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


def _with_pixels(truth: InstanceDataset) -> list[tuple[ObjectRecord, Rle]]:
    sizes = {image.id: (image.height, image.width) for image in truth.images}
    drawn = [(obj, rle_of(obj, *sizes[obj.image_id])) for obj in truth.objects]
    return [(obj, rle) for obj, rle in drawn if rle_area(rle) > 0]


def _coco_truth(truth: InstanceDataset, objects: Sequence[tuple[ObjectRecord, Rle]]) -> Any:
    annotations = [
        {
            "id": number,  # from 1: COCO's evaluation takes 0 for "not matched"
            "image_id": obj.image_id,
            "category_id": obj.category_id,
            "bbox": list(obj.bbox_xywh),
            "area": obj.area_px,
            "iscrowd": int(obj.is_crowd),
            "segmentation": rle.to_coco(),
        }
        for number, (obj, rle) in enumerate(objects, start=1)
    ]
    return _coco(truth, annotations)


def _coco_results(truth: InstanceDataset, results: Sequence[Result], kind: Kind) -> Any:
    if kind == "segm":
        areas = coco_mask.area([result["segmentation"] for result in results]) if results else []
    else:
        areas = [result["bbox"][2] * result["bbox"][3] for result in results]
    shape = "segmentation" if kind == "segm" else "bbox"
    annotations = [
        {
            "id": number,
            "image_id": result["image_id"],
            "category_id": result["category_id"],
            "score": float(result["score"]),
            shape: result[shape],
            "area": float(area),
            "iscrowd": 0,
        }
        for number, (result, area) in enumerate(zip(results, areas, strict=True), start=1)
    ]
    return _coco(truth, annotations)


def _coco(truth: InstanceDataset, annotations: list[dict[str, Any]]) -> Any:
    images = [{"id": image.id, "height": image.height, "width": image.width} for image in truth.images]
    categories = [{"id": category.id, "name": category.name} for category in truth.categories]
    return COCO({"images": images, "categories": categories, "annotations": annotations})


def _require_same_classes(truth: InstanceDataset, predictions: PredictionSet) -> None:
    if predictions.meta.task != "instance":
        raise DatasetError.of("expected an instance prediction set, but got a semantic one", where="task", cure=_CURE)
    wanted, found = truth.class_names, predictions.meta.classes
    if set(wanted) != set(found):
        raise DatasetError.of(
            f"expected the truth's classes ({', '.join(wanted)}), but got ({', '.join(found)})",
            where="classes of the prediction set",
            cure=_CURE,
        )


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
        if kind == "segm" and list(result["segmentation"]["size"]) != size:
            raise _wrong(where, f"a mask of [height, width] {size}", str(list(result["segmentation"]["size"])))


def _wrong(where: str, expected: str, found: str) -> DatasetError:
    return DatasetError.of(f"expected {expected}, but got {found}", where=where, cure=_CURE)
