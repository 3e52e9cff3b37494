"""pycocotools as the oracle of average precision, with boundary IoU added by its definition."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from segdata.coco import InstanceDataset, rle_of

Precisions = Callable[[InstanceDataset, list[dict[str, Any]], str, int], Any]


def boundary_by_definition(mask_HW: np.ndarray) -> np.ndarray:
    """What the paper's code does: the mask less the mask eroded d times by a 3 x 3 square, the edge being outside."""
    height, width = mask_HW.shape
    depth = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
    padded = cv2.copyMakeBorder(mask_HW.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=depth)[1:-1, 1:-1]
    return mask_HW.astype(np.uint8) - eroded


class BoundaryEvaluation(COCOeval):
    """pycocotools' evaluation, with the smaller of mask IoU and boundary IoU for objects that are no crowds."""

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802
        ious = super().computeIoU(imgId, catId)
        if not len(ious):
            return ious
        found = sorted(self._dts[imgId, catId], key=lambda one: -one["score"])[: self.params.maxDets[-1]]
        truth = self._gts[imgId, catId]
        for row, one in enumerate(found):
            for column, other in enumerate(truth):
                if not other["iscrowd"]:
                    ious[row, column] = min(ious[row, column], self.boundary_iou(one, other))
        return ious

    def boundary_iou(self, one: Any, other: Any) -> float:
        first, second = (boundary_by_definition(coco_mask.decode(o["segmentation"])) for o in (one, other))
        return float((first & second).sum() / (first | second).sum())


@pytest.fixture(scope="session")
def by_pycocotools() -> Precisions:
    """Returns a function that returns pycocotools' precisions (T, R, K, A) at one maxDets."""

    def precisions(truth: InstanceDataset, results: list[dict[str, Any]], kind: str, limit: int) -> Any:
        sizes = {image.id: (image.height, image.width) for image in truth.images}
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i.id, "height": i.height, "width": i.width} for i in truth.images],
            "categories": [{"id": c.id, "name": c.name} for c in truth.categories],
            "annotations": [
                {
                    "id": number,
                    "image_id": obj.image_id,
                    "category_id": obj.category_id,
                    "bbox": list(obj.bbox_xywh),
                    "area": obj.area_px,
                    "iscrowd": int(obj.is_crowd),
                    "segmentation": rle_of(obj, *sizes[obj.image_id]).to_coco(),
                }
                for number, obj in enumerate(truth.objects, start=1)
            ],
        }
        shape = "bbox" if kind == "bbox" else "segmentation"
        wanted = [{key: r[key] for key in ("image_id", "category_id", "score", shape)} for r in results]
        evaluator = BoundaryEvaluation if kind == "boundary" else COCOeval
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
            evaluation = evaluator(coco, coco.loadRes(wanted), "bbox" if kind == "bbox" else "segm")
            evaluation.params.maxDets = [limit]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"][..., 0]

    return precisions
