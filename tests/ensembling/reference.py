"""Every instance method as its definition reads: plain numpy on decoded masks, loops over objects."""

from dataclasses import dataclass

import numpy as np

from ensembling import FusionSettings
from segdata.predictions import ImageInstances
from segdata.rle import rle_decode, rle_encode


@dataclass
class Thing:
    """An object of a member."""

    box: np.ndarray
    confidence: float
    kind: int
    member: int
    mask: np.ndarray


def things_of(found_M: list[ImageInstances], settings: FusionSettings) -> list[Thing]:
    """All objects with a pixel, by descending confidence; for tests all confidences differ."""
    things = []
    for member, found in enumerate(found_M):
        for box, confidence, kind, rle in zip(
            found.boxes_xyxy, found.confidences, found.classes, found.rles, strict=True
        ):
            mask = rle_decode(rle)
            if confidence >= np.float32(settings.minimum_confidence) and mask.any():
                things.append(Thing(box.astype(float), float(confidence), int(kind), member, mask))
    return things


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union > 0 else 0.0


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def iou(a: Thing, b: Thing, overlap: str) -> float:
    return mask_iou(a.mask, b.mask) if overlap == "mask" else box_iou(a.box, b.box)


def may_meet(a: Thing, b: Thing, merge_own: bool) -> bool:
    return a.kind == b.kind and (merge_own or a.member != b.member)


def voted(masks_NHW: np.ndarray, votes_N: np.ndarray, threshold: float) -> np.ndarray:
    """The vote as its definition reads."""
    share_HW = np.tensordot(votes_N, masks_NHW.astype(float), 1) / votes_N.sum()
    result: np.ndarray = share_HW >= threshold - 1e-9
    return result


def box_of(mask_HW: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def mean_confidence(cluster: list[Thing], weights: np.ndarray, count_boxes: bool) -> float:
    own = np.array([weights[thing.member] for thing in cluster])
    confidences = np.array([thing.confidence for thing in cluster])
    if count_boxes:
        return float((own * confidences).mean() * min(len(weights), len(cluster)) / weights.sum())
    present = weights[sorted({thing.member for thing in cluster})].sum()
    return float((own * confidences).sum() / own.sum() * present / weights.sum())


def result(rows: list[tuple[list[float], float, int, np.ndarray]]) -> ImageInstances:
    rows = sorted((row for row in rows if row[3].any()), key=lambda row: -row[1])
    return ImageInstances.of(
        [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows],
        tuple(rle_encode(row[3]) for row in rows),
    )  # fmt: skip


def wbf(found_M: list[ImageInstances], weights: np.ndarray, settings: FusionSettings) -> ImageInstances:
    clusters: list[list[Thing]] = []

    def fused_box(cluster: list[Thing]) -> np.ndarray:
        votes = [weights[thing.member] * thing.confidence for thing in cluster]
        mean: np.ndarray = np.average([thing.box for thing in cluster], axis=0, weights=votes)
        return mean

    merge = settings.merge_own or settings.count_boxes
    things = things_of(found_M, settings)
    things.sort(key=lambda thing: -thing.confidence * (weights[thing.member] if settings.count_boxes else 1))
    for thing in things:
        ious = [
            box_iou(fused_box(cluster), thing.box) if all(may_meet(thing, other, merge) for other in cluster) else -1
            for cluster in clusters
        ]
        if ious and max(ious) > settings.iou_threshold:
            clusters[int(np.argmax(ious))].append(thing)
        else:
            clusters.append([thing])
    rows = []
    for cluster in clusters:
        votes = np.array([weights[thing.member] * thing.confidence for thing in cluster])
        mask = voted(np.stack([thing.mask for thing in cluster]), votes, settings.mask_threshold)
        confidence = mean_confidence(cluster, weights, settings.count_boxes)
        rows.append((fused_box(cluster).tolist(), confidence, cluster[0].kind, mask))
    return result(rows)


def around_founders(
    things: list[Thing], overlap: str, iou_threshold: float, merge_own: bool
) -> list[list[tuple[Thing, float]]]:
    clusters: list[list[tuple[Thing, float]]] = []
    for thing in things:
        ious = [
            iou(cluster[0][0], thing, overlap) if all(may_meet(thing, other, merge_own) for other, _ in cluster) else -1
            for cluster in clusters
        ]
        if ious and max(ious) > iou_threshold:
            clusters[int(np.argmax(ious))].append((thing, max(ious)))
        else:
            clusters.append([(thing, 1.0)])
    return clusters


def mask_fusion(found_M: list[ImageInstances], weights: np.ndarray, settings: FusionSettings) -> ImageInstances:
    things = things_of(found_M, settings)
    things.sort(key=lambda thing: -thing.confidence * (weights[thing.member] if settings.count_boxes else 1))
    merge = settings.merge_own or settings.count_boxes
    rows = []
    for pairs in around_founders(things, "mask", settings.iou_threshold, merge):
        cluster = [thing for thing, _ in pairs]
        votes = np.array([weights[thing.member] * thing.confidence for thing in cluster])
        mask = voted(np.stack([thing.mask for thing in cluster]), votes, settings.mask_threshold)
        box = box_of(mask) if mask.any() else [0.0] * 4
        rows.append((box, mean_confidence(cluster, weights, settings.count_boxes), cluster[0].kind, mask))
    return result(rows)


def scaled(found_M: list[ImageInstances], weights: np.ndarray, settings: FusionSettings) -> list[Thing]:
    things = things_of(found_M, settings)
    for thing in things:
        thing.confidence *= weights[thing.member] / weights.max()
    return sorted(things, key=lambda thing: -thing.confidence)


def nms(found_M: list[ImageInstances], weights: np.ndarray, settings: FusionSettings) -> ImageInstances:
    stays: list[Thing] = []
    for thing in scaled(found_M, weights, settings):
        if not any(
            may_meet(thing, other, settings.merge_own) and iou(thing, other, settings.overlap) > settings.iou_threshold
            for other in stays
        ):
            stays.append(thing)
    return result([(thing.box.tolist(), thing.confidence, thing.kind, thing.mask) for thing in stays])


def soft_nms(found_M: list[ImageInstances], weights: np.ndarray, settings: FusionSettings) -> ImageInstances:
    left = scaled(found_M, weights, settings)
    lowered: set[int] = set()
    rows = []
    while left:
        chosen = max(left, key=lambda thing: thing.confidence)
        left = [thing for thing in left if thing is not chosen]
        if id(chosen) in lowered and chosen.confidence < settings.least_decayed:
            continue
        rows.append((chosen.box.tolist(), chosen.confidence, chosen.kind, chosen.mask))
        for thing in left:
            if not may_meet(thing, chosen, settings.merge_own):
                continue
            shared = iou(thing, chosen, settings.overlap)
            if settings.decay == "linear" and shared > settings.iou_threshold:
                thing.confidence *= 1 - shared
                lowered.add(id(thing))
            elif settings.decay == "gaussian" and shared > 0:
                thing.confidence *= float(np.exp(-(shared**2) / settings.sigma))
                lowered.add(id(thing))
    return result(rows)


def nmw(found_M: list[ImageInstances], weights: np.ndarray, settings: FusionSettings) -> ImageInstances:
    things = scaled(found_M, weights, settings)
    rows = []
    for cluster in around_founders(things, settings.overlap, settings.iou_threshold, settings.merge_own):
        votes = np.array([thing.confidence * shared for thing, shared in cluster])
        mask = voted(np.stack([thing.mask for thing, _ in cluster]), votes, settings.mask_threshold)
        box = np.average([thing.box for thing, _ in cluster], axis=0, weights=votes).tolist()
        if settings.overlap == "mask":
            box = box_of(mask) if mask.any() else [0.0] * 4
        rows.append((box, cluster[0][0].confidence, cluster[0][0].kind, mask))
    return result(rows)


METHODS = {"wbf": wbf, "mask-fusion": mask_fusion, "nms": nms, "soft-nms": soft_nms, "nmw": nmw}
