"""From what MMDetection and MMSegmentation models return to segdata's records. Imports segdata.

Letters: N objects, H height, W width, C classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segdata.predictions import ImageInstances
from segdata.rle import Rle

__all__ = ["coco_results", "instances_of", "probabilities_of"]


def instances_of(predicted: Mapping[str, Any]) -> ImageInstances:
    """Converts `pred_instances` of one image: boxes, scores, labels and full-size masks.

    Where a model scores masks apart from boxes, the mask's score is the object's confidence. Mask Scoring R-CNN
    multiplies by a regressed IoU, which may exceed 1: a confidence is cut to 0..1.
    """
    confidences = predicted["mask_scores"] if "mask_scores" in predicted else predicted["scores"]
    return ImageInstances.of(
        boxes_xyxy=predicted["bboxes"].cpu().numpy(),
        confidences=confidences.clamp(0.0, 1.0).cpu().numpy(),
        classes=predicted["labels"].cpu().numpy(),
        rles=encode_masks(predicted["masks"].cpu().numpy()),
    )


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
