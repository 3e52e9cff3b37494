"""Mask fusion as one writes it with numpy: the peer of `benchmarks/fusion.py`, since no package fuses masks."""

from typing import Any

import numpy as np
import numpy.typing as npt
from fusion_scenes import Member
from pycocotools import mask as coco_mask

from segdata.rle import Rle, rle_bbox

__all__ = ["masks_by_numpy"]

Array = npt.NDArray[Any]


def masks_by_numpy(found: list[Member], crop: bool) -> list[tuple[float, Rle]]:
    """Mask fusion on decoded masks, in a dense stack or each cropped to its box: confidences and masks."""
    rles = [rle for _, _, own in found for rle in own]
    confidences = np.concatenate([confidences for _, confidences, _ in found])
    members = np.repeat(np.arange(len(found)), [len(own) for _, _, own in found])
    height, width = rles[0].height, rles[0].width
    boxes = np.array([[0, 0, width, height]] * len(rles))
    if crop:
        boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in map(rle_bbox, rles)], int)
        masks = [decoded(rle)[inside(box)].copy() for rle, box in zip(rles, boxes, strict=True)]
    else:
        stack_NHW = np.empty((len(rles), height, width), dtype=bool)
        for mask_HW, rle in zip(stack_NHW, rles, strict=True):
            mask_HW[:] = decoded(rle)
        masks = list(stack_NHW)
    areas = np.array([np.count_nonzero(mask) for mask in masks])

    def iou(a: int, b: int) -> float:
        both = np.concatenate([np.maximum(boxes[a, :2], boxes[b, :2]), np.minimum(boxes[a, 2:], boxes[b, 2:])])
        parts = [masks[index][inside(both, boxes[index])] for index in (a, b)]
        shared = np.count_nonzero(parts[0] & parts[1])
        return float(shared / (areas[a] + areas[b] - shared))

    clusters: list[list[int]] = []
    for index in np.argsort(-confidences, kind="stable").tolist():
        founders = np.array([cluster[0] for cluster in clusters], dtype=int)
        after, before = boxes[founders, :2] < boxes[index, 2:], boxes[founders, 2:] > boxes[index, :2]
        meets = np.flatnonzero(after.all(axis=1) & before.all(axis=1)).tolist()
        free = [k for k in meets if members[index] not in members[clusters[k]]]
        ious = [iou(clusters[k][0], index) for k in free]
        if ious and max(ious) > 0.55:
            clusters[free[int(np.argmax(ious))]].append(index)
        else:
            clusters.append([index])
    fused = []
    for cluster in clusters:
        box = np.concatenate([boxes[cluster, :2].min(axis=0), boxes[cluster, 2:].max(axis=0)])
        votes = np.zeros((box[3] - box[1], box[2] - box[0]))
        for index in cluster:
            votes[inside(boxes[index], box)] += confidences[index] * masks[index]
        full = np.zeros((height, width), dtype=np.uint8, order="F")
        full[inside(box)] = votes >= (0.5 - 1e-9) * confidences[cluster].sum()
        present = len(set(members[cluster].tolist())) / len(found)
        counts = coco_mask.encode(full)["counts"].decode()
        fused.append((float(confidences[cluster].mean() * present), Rle(height, width, counts)))
    return sorted(fused, key=lambda pair: -pair[0])


def decoded(rle: Rle) -> Array:
    """A mask as pycocotools gives it, column by column: quicker than a copy row by row."""
    mask: Array = coco_mask.decode(rle.to_coco()).view(np.bool_)
    return mask


def inside(box: Array, frame: Array | tuple[int, ...] = (0, 0)) -> tuple[slice, slice]:
    """The rows and columns of a box xyxy in an array that starts where the frame does."""
    x1, y1, x2, y2 = box.tolist()
    return slice(y1 - int(frame[1]), y2 - int(frame[1])), slice(x1 - int(frame[0]), x2 - int(frame[0]))
