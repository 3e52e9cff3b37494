"""From what MMDetection and MMSegmentation models return to segdata's records. Imports segdata.

Letters: N objects, H height, W width, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segdata.predictions import ImageInstances
from segdata.rle import Rle

__all__ = ["Limits", "coco_results", "instances_of", "limits_of", "probabilities_of"]

MASK_THRESHOLD = 0.5
WITH_QUERIES = ("QueryInst", "Mask2Former")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a detector's config drops: objects below a confidence, all beyond a count, pixels below a threshold."""

    minimum_confidence: float | None
    detections: int | None
    mask_threshold: float
    floor: float  # the minimum confidence that the model leaves to `instances_of`: heads with queries apply none


def limits_of(model: Mapping[str, Any]) -> Limits:
    """Reads the limits from a detector's config, wherever its family keeps them."""
    test = model.get("test_cfg") or {}
    test = test.get("rcnn") or test
    minimum = test.get("filter_thr", test.get("score_thr"))
    return Limits(
        minimum_confidence=minimum,
        detections=test.get("max_per_img", test.get("max_per_image")),
        mask_threshold=test.get("mask_thr_binary", test.get("mask_thr", MASK_THRESHOLD)),
        floor=minimum or 0.0 if model["type"] in WITH_QUERIES else 0.0,
    )


def instances_of(predicted: Mapping[str, Any], minimum_confidence: float = 0.0) -> ImageInstances:
    """Converts `pred_instances` of one image: boxes, scores, labels and full-size masks.

    Where a model scores masks apart from boxes, the mask's score is the object's confidence. Mask Scoring R-CNN
    multiplies by a regressed IoU, which may exceed 1: a confidence is cut to 0..1. SOLO predicts no boxes and returns
    zeros: its objects get the tight boxes of their masks.

    Args:
        predicted: What the model returned for the image.
        minimum_confidence: Objects below it are dropped.
    """
    confidences = (predicted["mask_scores"] if "mask_scores" in predicted else predicted["scores"]).clamp(0.0, 1.0)
    kept = confidences >= minimum_confidence
    rles = encode_masks(predicted["masks"][kept].cpu().numpy())
    boxes_xyxy = predicted["bboxes"][kept].cpu().numpy()
    if rles and not boxes_xyxy.any():
        boxes_xyxy = boxes_around(rles)
    return ImageInstances.of(
        boxes_xyxy=boxes_xyxy,
        confidences=confidences[kept].cpu().numpy(),
        classes=predicted["labels"][kept].cpu().numpy(),
        rles=rles,
    )


def boxes_around(rles: tuple[Rle, ...]) -> npt.NDArray[np.float64]:
    """Returns the tight box of each mask, (N, 4) xyxy in pixels; an empty mask has an empty box at 0, 0."""
    encoded = [{"size": [rle.height, rle.width], "counts": rle.counts.encode("ascii")} for rle in rles]
    boxes: npt.NDArray[np.float64] = coco_mask.toBbox(encoded)  # xywh
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def encode_masks(masks_NHW: npt.NDArray[np.bool_]) -> tuple[Rle, ...]:
    """Run-length encodes N masks; one at a time, since a stack of crowded full-size masks is large."""
    height, width = masks_NHW.shape[1:]
    encoded = (coco_mask.encode(np.asfortranarray(mask_HW, dtype=np.uint8)) for mask_HW in masks_NHW)
    return tuple(Rle(height, width, entry["counts"].decode("ascii")) for entry in encoded)


def coco_results(image_id: int, instances: ImageInstances, category_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """Returns the objects of one image as COCO results (boxes xywh in pixels)."""
    boxes_xywh = instances.boxes_xyxy.astype(np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    return [
        {
            "image_id": image_id,
            "category_id": category_ids[int(class_index)],
            "bbox": box.tolist(),
            "score": float(confidence),
            "segmentation": {"size": [rle.height, rle.width], "counts": rle.counts},
        }
        for box, confidence, class_index, rle in zip(
            boxes_xywh, instances.confidences, instances.classes, instances.rles, strict=True
        )
    ]


def probabilities_of(predicted: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Converts `seg_logits` of one image (C, H, W) at full size to class probabilities, float32."""
    prob_CHW: npt.NDArray[np.float32] = predicted["data"].float().softmax(dim=0).cpu().numpy()
    return prob_CHW
