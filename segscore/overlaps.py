"""From COCO's records to what is matched: detections, objects, and which of them overlap enough to be a pair.

May import numpy, pycocotools and `segdata`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segdata.instances import InstanceDataset, ObjectRecord, rle_of
from segdata.rle import Rle, rle_area
from segscore.boundaries import with_boundaries
from segscore.matching import IOU_THRESHOLDS, Detections, Matches, Objects, Pairs, match

__all__ = ["DrawnTruth", "Kind", "Result", "Scene"]

Kind = Literal["segm", "bbox", "boundary"]
Result = Mapping[str, Any]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DrawnTruth:
    """Labelled objects with their masks, for any number of results to be matched with."""

    truth: InstanceDataset

    @cached_property
    def drawn(self) -> list[tuple[ObjectRecord, Rle]]:
        """The objects whose mask has a pixel."""
        sizes = {image.id: (image.height, image.width) for image in self.truth.images}
        drawn = [(obj, rle_of(obj, *sizes[obj.image_id])) for obj in self.truth.objects]
        return [(obj, rle) for obj, rle in drawn if rle_area(rle) > 0]

    @cached_property
    def masks(self) -> list[dict[str, Any]]:
        """Their masks as COCO has them."""
        return [rle.to_coco() for _, rle in self.drawn]

    @cached_property
    def objects(self) -> Objects:
        """The same objects, by number of image and class."""
        objects = [obj for obj, _ in self.drawn]
        image_G, class_G = self.numbers_of([(obj.image_id, obj.category_id) for obj in objects])
        return Objects(
            images=image_G,
            classes=class_G,
            areas=np.array([obj.area_px for obj in objects], dtype=np.float64),
            crowds=np.array([obj.is_crowd for obj in objects], dtype=np.bool_),
        )

    def numbers_of(self, ids: Sequence[tuple[int, int]]) -> tuple[Ints, Ints]:
        """Returns the numbers of images and classes for their ids."""
        known_images = np.array(sorted(image.id for image in self.truth.images), dtype=np.int64)
        columns = np.array(ids, dtype=np.int64).reshape(-1, 2)
        classes = np.searchsorted(np.array(self.truth.category_ids, dtype=np.int64), columns[:, 1])
        return np.searchsorted(known_images, columns[:, 0]), classes


@dataclass(frozen=True)
class Scene:
    """Truth and results, ready to be matched by masks, boxes or boundaries.

    Images are numbered in the order of their ids, as pycocotools does, and classes likewise.

    Attributes:
        labels: Labelled objects.
        results: COCO results on the truth's images, already checked.
        max_detections: Detections that count for each image and class.
    """

    labels: DrawnTruth
    results: Sequence[Result]
    max_detections: int

    def matches(self, kind: Kind) -> Matches:
        """Matches the results to the objects."""
        if kind == "bbox":
            areas = [result["bbox"][2] * result["bbox"][3] for result in self._chosen]
        else:
            areas = [float(coco_mask.area(result["segmentation"])) for result in self._chosen]
        found = Detections(
            images=self._places[0],
            classes=self._places[1],
            confidences=np.array([result["score"] for result in self._chosen], dtype=np.float64),
            areas=np.array(areas, dtype=np.float64),
        )
        truth = self.labels.truth
        numbers = {"images": len(truth.images), "classes": len(truth.category_ids)}
        return match(found, self.labels.objects, self._pairs(kind), **numbers)

    @cached_property
    def left_out(self) -> int:
        """Objects of the truth without a pixel."""
        return len(self.labels.truth.objects) - len(self.labels.drawn)

    @cached_property
    def _chosen(self) -> list[Result]:
        """The results that count, ordered by class, image and falling confidence."""
        image, kind = self.labels.numbers_of([(result["image_id"], result["category_id"]) for result in self.results])
        confidence = np.array([result["score"] for result in self.results], dtype=np.float64)
        order = np.lexsort((-confidence, image, kind))
        group = kind[order] * len(self.labels.truth.images) + image[order]
        rank = np.arange(len(order)) - np.searchsorted(group, group)
        return [self.results[index] for index in order[rank < self.max_detections].tolist()]

    @cached_property
    def _places(self) -> tuple[Ints, Ints]:
        return self.labels.numbers_of([(result["image_id"], result["category_id"]) for result in self._chosen])

    def _pairs(self, kind: Kind) -> Pairs:
        if kind == "bbox":
            return self._overlapping(
                [r["bbox"] for r in self._chosen], [list(o.bbox_xywh) for o, _ in self.labels.drawn]
            )
        if kind == "segm":
            return self._mask_pairs
        found = [_rle(result["segmentation"]) for result in self._chosen]
        pairs = with_boundaries(
            self._mask_pairs, found, [rle for _, rle in self.labels.drawn], self.labels.objects.crowds
        )
        return pairs.only(pairs.ious >= IOU_THRESHOLDS[0])

    @cached_property
    def _mask_pairs(self) -> Pairs:
        found = [result["segmentation"] for result in self._chosen]
        return self._overlapping(found, self.labels.masks)

    def _overlapping(self, found: Sequence[Any], truth: Sequence[Any]) -> Pairs:
        """Computes IoU by pycocotools' C routine, image by image and class by class."""
        rows, columns = _grouped(*self._places), _grouped(self.labels.objects.images, self.labels.objects.classes)
        parts: list[Pairs] = []
        for group in rows.keys() & columns.keys():
            row, column = rows[group], columns[group]
            crowd = self.labels.objects.crowds[column].astype(int).tolist()
            iou = coco_mask.iou([found[index] for index in row], [truth[index] for index in column], crowd)
            detection, obj = np.nonzero(iou >= IOU_THRESHOLDS[0])
            parts.append(Pairs(np.array(row)[detection], np.array(column)[obj], iou[detection, obj]))
        return Pairs(
            np.concatenate([np.zeros(0, np.int64), *(part.detections for part in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(part.objects for part in parts)]),
            np.concatenate([np.zeros(0), *(part.ious for part in parts)]),
        )


def _grouped(image: Ints, kind: Ints) -> dict[tuple[int, int], list[int]]:
    """Returns the indices of each image and class."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, group in enumerate(zip(image.tolist(), kind.tolist(), strict=True)):
        groups.setdefault(group, []).append(index)
    return groups


def _rle(segmentation: Mapping[str, Any]) -> Rle:
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    return Rle(height, width, counts if isinstance(counts, str) else counts.decode("ascii"))
