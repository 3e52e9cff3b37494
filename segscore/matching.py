"""COCO's matching of detections to objects, for all images, areas and IoU thresholds at once.

The rules are those of pycocotools' `evaluateImg`: of an image and class, detections choose in the order of falling
confidence; each takes the free object of highest IoU at or above the threshold, of equal ones the later in the file;
objects that do not count (crowds, and those outside the area range) are taken only where no other is left, and a
crowd may be taken again. A detection that took one of these, or that took none and is itself outside the range, does
not count.

Legend: D detections, G objects, P pairs of both, A area ranges, T IoU thresholds, N images. Imports numpy only.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["AREAS", "IOU_THRESHOLDS", "Detections", "Matches", "Objects", "Pairs", "match"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

AREAS: dict[str, tuple[float, float]] = {  # pixels, both ends included
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10, dtype=np.float64)  # as pycocotools writes them, to the last bit
_AT_ONCE = 20_000  # detections settled together; bounds the memory


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found, ordered by class, image, and falling confidence; only those that count at the maxDets.

    Attributes:
        images: (D,) index of the image.
        classes: (D,) index of the class.
        confidences: (D,) what they are ordered by.
        areas: (D,) pixels of the mask, or width x height of the box.
    """

    images: Ints
    classes: Ints
    confidences: Floats
    areas: Floats


@dataclass(frozen=True, slots=True)
class Objects:
    """The truth, in the order of its file; `crowds` marks regions of many objects; all are (G,)."""

    images: Ints
    classes: Ints
    areas: Floats
    crowds: Bools


@dataclass(frozen=True, slots=True)
class Pairs:
    """Detections and objects of the same image and class that overlap by the lowest threshold or more.

    Attributes:
        detections: (P,) index among the detections.
        objects: (P,) index among the objects.
        ious: (P,) intersection over union; for a crowd, over the detection.
    """

    detections: Ints
    objects: Ints
    ious: Floats

    def only(self, chosen: Bools | Ints) -> "Pairs":
        """Returns some of the pairs."""
        return Pairs(self.detections[chosen], self.objects[chosen], self.ious[chosen])


@dataclass(frozen=True, slots=True)
class Matches:
    """Which detections are right.

    Attributes:
        num_images: How many images there are.
        num_classes: How many classes there are.
        found: The detections.
        right: (D, A, T) whether the detection took an object that counts.
        counted: (D, A, T) whether the detection counts at all.
        objects: The truth.
        counted_objects: (G, A) whether the object counts.
    """

    num_images: int
    num_classes: int
    found: Detections
    right: Bools
    counted: Bools
    objects: Objects
    counted_objects: Bools

    def beside(self, other: "Matches") -> "Matches":
        """Returns both as one data set, in which the other's images follow these."""
        found, theirs, objects, others = self.found, other.found, self.objects, other.objects
        image_D = np.concatenate([found.images, theirs.images + self.num_images])
        class_D = np.concatenate([found.classes, theirs.classes])
        order = np.lexsort((image_D, class_D))
        return Matches(
            num_images=self.num_images + other.num_images,
            num_classes=self.num_classes,
            found=Detections(
                image_D[order],
                class_D[order],
                np.concatenate([found.confidences, theirs.confidences])[order],
                np.concatenate([found.areas, theirs.areas])[order],
            ),
            right=np.concatenate([self.right, other.right])[order],
            counted=np.concatenate([self.counted, other.counted])[order],
            objects=Objects(
                np.concatenate([objects.images, others.images + self.num_images]),
                np.concatenate([objects.classes, others.classes]),
                np.concatenate([objects.areas, others.areas]),
                np.concatenate([objects.crowds, others.crowds]),
            ),
            counted_objects=np.concatenate([self.counted_objects, other.counted_objects]),
        )


def match(found: Detections, objects: Objects, pairs: Pairs, *, images: int, classes: int) -> Matches:
    """Matches detections to objects by COCO's rules (see the module); `pairs` may be in any order."""
    counted_GA = ~(objects.crowds[:, None] | _outside(objects.areas))
    shape = (len(found.images), len(AREAS), len(IOU_THRESHOLDS))
    right_DAT = np.zeros(shape, dtype=np.bool_)
    counted_DAT = np.repeat(~_outside(found.areas)[:, :, None], len(IOU_THRESHOLDS), axis=2)
    taken_GAT = np.zeros((len(objects.images), *shape[1:]), dtype=np.bool_)
    waiting = pairs.only(np.lexsort((pairs.detections, pairs.objects)))
    while len(waiting.objects):
        ready = _ready(waiting)
        for part in _parts(waiting.only(ready)):
            _settle(part, objects.crowds, counted_GA, taken_GAT, right_DAT, counted_DAT)
        waiting = waiting.only(~ready)
    return Matches(images, classes, found, right_DAT, counted_DAT, objects, counted_GA)


def _outside(area: Floats) -> Bools:
    """Tells of each area range, (len(area), A), whether the area lies outside."""
    low_A, high_A = np.array(list(AREAS.values())).T
    outside: Bools = (area[:, None] < low_A) | (area[:, None] > high_A)
    return outside


def _ready(waiting: Pairs) -> Bools:
    """Marks the pairs, ordered by object, of detections that are the next to choose at each of their objects.

    What such detections take is settled by nothing that other waiting ones do, so all may choose at once. The first
    detection of all is always among them.
    """
    behind_P = np.zeros(len(waiting.objects), dtype=np.bool_)
    behind_P[1:] = waiting.objects[1:] == waiting.objects[:-1]
    blocked_D = np.zeros(int(waiting.detections.max()) + 1, dtype=np.bool_)
    blocked_D[waiting.detections[behind_P]] = True
    ready: Bools = ~blocked_D[waiting.detections]
    return ready


def _parts(pairs: Pairs) -> list[Pairs]:
    """Cuts pairs into parts of whole detections, each ordered by detection and object."""
    ordered = pairs.only(np.lexsort((pairs.objects, pairs.detections)))
    number_P = np.cumsum(np.diff(ordered.detections, prepend=-1) > 0) - 1
    cuts = np.searchsorted(number_P, np.arange(0, number_P[-1] + 1, _AT_ONCE)).tolist()
    return [ordered.only(np.arange(start, end)) for start, end in zip(cuts, [*cuts[1:], len(number_P)], strict=True)]


def _settle(
    pairs: Pairs,
    crowd_G: Bools,
    counted_GA: Bools,
    taken_GAT: Bools,
    right_DAT: Bools,
    counted_DAT: Bools,
) -> None:
    """Lets detections without a common object choose; pairs are ordered by detection and object. M: detections."""
    detection_M, start_M, count_M = np.unique(pairs.detections, return_index=True, return_counts=True)
    shape = (len(detection_M), *taken_GAT.shape[1:])
    best_iou, best_counts = np.full(shape, -np.inf), np.zeros(shape, dtype=np.bool_)
    best_object = np.full(shape, -1, dtype=np.int64)
    for place in range(int(count_M.max())):
        has = np.flatnonzero(count_M > place)
        pair = start_M[has] + place
        number, iou = pairs.objects[pair], pairs.ious[pair][:, None, None]
        free = ~taken_GAT[number] | crowd_G[number][:, None, None]
        counts = counted_GA[number][:, :, None]
        held = best_counts[has]
        better = free & (iou >= IOU_THRESHOLDS) & ((counts & ~held) | ((counts == held) & (iou >= best_iou[has])))
        best_iou[has] = np.where(better, iou, best_iou[has])
        best_counts[has] = np.where(better, counts, held)
        best_object[has] = np.where(better, number[:, None, None], best_object[has])
    matched = best_object >= 0
    right_DAT[detection_M] = matched & best_counts
    counted_DAT[detection_M] = np.where(matched, best_counts, counted_DAT[detection_M])
    _, area, threshold = np.nonzero(matched)
    taken_GAT[best_object[matched], area, threshold] = True
