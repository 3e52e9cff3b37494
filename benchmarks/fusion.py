"""Speed of fusion and scoring against named peers in the same run, each checked to give the same result.

python benchmarks/fusion.py [--quick] [--json]
"""

import argparse
import contextlib
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ensemble_boxes import weighted_boxes_fusion
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

from ensembling import FusionSettings, Objects, fuse, fuse_boxes, hard_vote, soft_vote_labels
from ensembling.instances import fuse_by_masks
from segdata.coco import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import Rle, rle_area, rle_bbox, rle_encode
from segscore import score_instance_results

WIDTH, HEIGHT = 700, 520
Row = dict[str, Any]
Array = npt.NDArray[Any]
Member = tuple[Array, Array, list[Rle]]  # boxes xyxy, confidences, masks


def seconds(work: Callable[[], object], least_s: float) -> float:
    """Best of at least three runs that fill at least `least_s`."""
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 3 or spent < least_s:
        start = time.perf_counter()
        work()
        took = time.perf_counter() - start
        best, spent, runs = min(best, took), spent + took, runs + 1
    return best


def row(name: str, peer: str, ours_s: float, theirs_s: float, target: float | None) -> Row:
    """One line of the result; times in ms."""
    ratio = theirs_s / ours_s
    return {
        "name": name,
        "peer": peer,
        "ours": ours_s * 1e3,
        "theirs": theirs_s * 1e3,
        "unit": "ms",
        "ratio": ratio,
        "target": target,
    }


def ellipse(x: float, y: float, radius: float, height: int = HEIGHT, width: int = WIDTH) -> Rle:
    """A disc in an image."""
    rows, columns = np.ogrid[:height, :width]
    return rle_encode((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def nuclei_of_members(members: int, objects: int, seed: int = 0) -> list[Member]:
    """What several models would find on one crowded image: the same discs, moved and resized a little."""
    return discs_of_members(members, objects, seed, (HEIGHT, WIDTH), (8, 18))


def discs_of_members(
    members: int, objects: int, seed: int, size: tuple[int, int], radii: tuple[float, float]
) -> list[Member]:
    """The same with discs of any size, in pixels, on an image of height x width."""
    height, width = size
    rng = np.random.default_rng(seed)
    centre, radius = rng.uniform([20, 20], [width - 20, height - 20], (objects, 2)), rng.uniform(*radii, objects)
    found = []
    for _ in range(members):
        moved, scaled = centre + rng.normal(0, 1.5, centre.shape), radius * rng.uniform(0.9, 1.1, objects)
        rles = [ellipse(x, y, r, height, width) for (x, y), r in zip(moved, scaled, strict=True)]
        boxes = np.concatenate([moved - scaled[:, None], moved + scaled[:, None]], axis=1).clip(0, width)
        found.append((boxes, rng.uniform(0.05, 1, objects), rles))
    return found


def boxes_row(objects_each: int, target: float, least_s: float) -> Row:
    """Weighted boxes fusion, 5 members, counting boxes as the peer does."""
    found = nuclei_of_members(5, objects_each)
    objects = Objects(
        boxes_xyxy=np.concatenate([boxes for boxes, _, _ in found]),
        confidences=np.concatenate([confidences for _, confidences, _ in found]),
        classes=np.zeros(5 * objects_each, np.int64),
        members=np.repeat(np.arange(5), objects_each),
    )
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes, confidences = [boxes / size for boxes, _, _ in found], [confidences for _, confidences, _ in found]
    labels = [np.zeros(objects_each)] * 5

    def theirs() -> Any:
        return weighted_boxes_fusion(boxes, confidences, labels, iou_thr=0.55)

    def ours() -> Any:
        return fuse_boxes(objects, np.ones(5), count_boxes=True)

    np.testing.assert_allclose(ours().confidences, theirs()[1], atol=1e-6)
    np.testing.assert_allclose(ours().boxes_xyxy / size, theirs()[0], atol=1e-6)
    name = f"weighted boxes fusion, 5 members x {objects_each} objects"
    return row(name, "ensemble_boxes", seconds(ours, least_s), seconds(theirs, least_s), target)


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


def mask_rows(least_s: float, quick: bool) -> list[Row]:
    """Mask fusion from run lengths to run lengths, 5 members x 100 objects, 1024x1280."""
    found = discs_of_members(5, 100, 0, (1024, 1280), (15, 45))
    as_read = [ImageInstances.of(boxes, own, np.zeros(len(own)), tuple(rles)) for boxes, own, rles in found]
    found = [(boxes, own.astype(np.float32).astype(float), rles) for boxes, own, rles in found]  # as they are stored

    def ours() -> ImageInstances:
        return fuse_by_masks(as_read, np.ones(5), FusionSettings())

    assert list(ours().rles) == [rle for _, rle in masks_by_numpy(found, crop=True)]
    name = "mask fusion, 5 members x 100 objects, 1024x1280"
    ours_s = seconds(ours, least_s)
    cropped_s = seconds(lambda: masks_by_numpy(found, crop=True), 0 if quick else least_s)
    nothing_mb = peak_mb(lambda: None)
    ours_mb, dense_mb, cropped_mb = (
        peak_mb(work) - nothing_mb
        for work in (ours, lambda: masks_by_numpy(found, False), lambda: masks_by_numpy(found, True))
    )
    return [
        row(name, "numpy, masks cropped to their boxes", ours_s, cropped_s, 20),
        plain_row(f"{name}, an image", "30 ms allowed", ours_s * 1e3, 30.0, "ms", 1),
        plain_row(f"{name}, memory", "numpy, dense stack", ours_mb, dense_mb, "MB", 10),
        plain_row(f"{name}, memory", "numpy, masks cropped to their boxes", ours_mb, cropped_mb, "MB", None),
    ]


def plain_row(name: str, peer: str, ours: float, theirs: float, unit: str, target: float | None) -> Row:
    """One line of the result in any unit; less is better."""
    ratio = theirs / max(ours, 1e-9)
    return {"name": name, "peer": peer, "ours": ours, "theirs": theirs, "unit": unit, "ratio": ratio, "target": target}


def peak_mb(work: Callable[[], object]) -> float:
    """Most resident memory of a child process that does the work; compile everything before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        raise RuntimeError(f"the measured process ended with {status}")
    return usage.ru_maxrss / 1024


def reading_s(arrays: list[Array], least_s: float) -> float:
    """What the machine needs to read these bytes once with one core: the limit of any vote over them."""
    words = [array.reshape(-1).view(np.uint64) for array in arrays]
    return seconds(lambda: [np.bitwise_or.reduce(word) for word in words], least_s)


def soft_vote_rows(least_s: float) -> list[Row]:
    """Soft vote with argmax, 5 members in memory, 12 classes, 512x512; as they are stored, and as floats."""
    rng = np.random.default_rng(0)
    raw_MCHW = rng.random((5, 12, 512, 512), dtype=np.float32)
    packed_MCHW = np.rint(raw_MCHW / raw_MCHW.sum(axis=1, keepdims=True) * 255).astype(np.uint8)
    float_MCHW = packed_MCHW.astype(np.float32) / np.float32(255)

    def theirs() -> Any:
        return np.mean(float_MCHW, axis=0).argmax(axis=0)

    expected_HW = packed_MCHW.sum(axis=0, dtype=np.int64).argmax(axis=0)
    np.testing.assert_array_equal(soft_vote_labels(list(packed_MCHW)), expected_HW)
    mean_CHW = packed_MCHW.mean(axis=0, dtype=np.float64) / 255
    for labels_HW in (theirs(), soft_vote_labels(list(float_MCHW))):  # where rounding decides a tie they may differ
        lost = mean_CHW.max(axis=0) - np.take_along_axis(mean_CHW, labels_HW[None].astype(np.int64), axis=0)[0]
        assert lost.max() < 1e-6
    theirs_s = seconds(theirs, least_s)
    rows = []
    for kind, members, target in (("8-bit", list(packed_MCHW), 8), ("float32", list(float_MCHW), None)):
        name = f"soft vote with argmax, 5 members, 12 classes, 512x512, {kind}"
        ours_s = seconds(lambda members=members: soft_vote_labels(members), least_s)  # type: ignore[misc]
        rows.append(row(name, "numpy, mean of a float32 stack, argmax", ours_s, theirs_s, target))
        rows.append(row(name, "reading these bytes once", ours_s, reading_s(members, least_s), None))
    return rows


def hard_vote_rows(least_s: float) -> list[Row]:
    """Hard vote, 5 members, 12 classes, 512x512."""
    label_MHW = np.random.default_rng(0).integers(0, 12, (5, 512, 512)).astype(np.uint8)

    def ours() -> Any:
        return hard_vote(list(label_MHW), 12)

    def theirs() -> Any:
        return stats.mode(label_MHW, axis=0).mode

    np.testing.assert_array_equal(ours(), theirs())
    name, ours_s = "hard vote, 5 members, 12 classes, 512x512", seconds(ours, least_s)
    return [
        row(name, "scipy.stats.mode", ours_s, seconds(theirs, least_s), 10),
        row(name, "reading these bytes once", ours_s, reading_s([label_MHW], least_s), None),
    ]


def write_members(folder: Path, images: int) -> list[Path]:
    """5 semantic prediction sets, 12 classes, 512x512 at stride 4; 10 images under many names."""
    records = tuple(PredictedImage(id=i, file_name=f"{i}.png", width=512, height=512) for i in range(images))
    meta = PredictionMeta(
        task="semantic",
        classes=tuple("abcdefghijkl"),
        dataset_fingerprint="0",
        code_version="0",
        codec="prob8",
        stride=4,
    )
    paths = []
    for member in range(5):
        rng = np.random.default_rng(member)
        first: dict[int, Path] = {}
        with PredictionWriter(folder / f"{images}-{member}", meta) as writer:
            for image in records:
                if image.id < 10:
                    raw = np.repeat(np.repeat(rng.random((12, 16, 16)), 8, axis=1), 8, axis=2) ** 2
                    first[image.id] = folder / f"{images}-{member}-{image.id}.npz"
                    np.savez_compressed(first[image.id], prob=np.rint(raw / raw.sum(axis=0) * 255).astype(np.uint8))
                writer.add_packed_file(image, first[image.id % 10])
        paths.append(folder / f"{images}-{member}")
    return paths


def disk_rows(images: int) -> list[Row]:
    """Soft vote from files to files: what decoding takes of it, and whether memory grows with the number of images."""
    with tempfile.TemporaryDirectory(prefix="bench-fusion-") as name:
        folder = Path(name)
        few, many = write_members(folder, 10), write_members(folder, images)

        def vote(members: list[Path], out: str) -> None:
            fuse(members, folder / out, method="soft-vote", settings=FusionSettings(output="labels"))

        vote(few, "warm")
        few_mb, many_mb = peak_mb(lambda: vote(few, "few")), peak_mb(lambda: vote(many, "many"))
        start = time.perf_counter()
        vote(many, "timed")
        whole_s = time.perf_counter() - start
        start = time.perf_counter()
        for path in many:
            member = PredictionSet.open(path)
            for image in member.meta.images:
                member.packed(image.file_name)
        decoding_s = time.perf_counter() - start
    title = f"soft vote to labels, 5 members, 12 classes, 512x512 at stride 4, {images} images from disk"
    return [
        plain_row(
            f"{title}, an image", "decoding alone", whole_s / images * 1e3, decoding_s / images * 1e3, "ms", None
        ),
        plain_row(f"{title}, memory beyond that of 10", "100 MB allowed", max(many_mb - few_mb, 0.1), 100.0, "MB", 1),
    ]


def scored_scenes(images: int, objects_each: int) -> tuple[InstanceDataset, list[dict[str, Any]]]:
    """Truth, and results that are near it."""
    objects: list[ObjectRecord] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, images + 1):
        (_, _, true_rles), (_, confidences, found_rles) = nuclei_of_members(2, objects_each, seed=image_id)
        for rle, found, confidence in zip(true_rles, found_rles, confidences.tolist(), strict=True):
            area = float(rle_area(rle))
            objects.append(ObjectRecord(len(objects) + 1, image_id, 1, rle, rle_bbox(rle), area, False))
            shape = found.to_coco()
            results.append({"image_id": image_id, "category_id": 1, "segmentation": shape, "score": confidence})
    records = tuple(ImageRecord(i, f"{i}.png", WIDTH, HEIGHT) for i in range(1, images + 1))
    return InstanceDataset(records, (Category(1, "nucleus"),), tuple(objects)), results


def ap_row(images: int, objects_each: int) -> Row:
    """Mask AP, from truth and results in memory."""
    truth, results = scored_scenes(images, objects_each)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i.id, "height": i.height, "width": i.width} for i in truth.images],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [
            {
                "id": obj.id,
                "image_id": obj.image_id,
                "category_id": 1,
                "iscrowd": 0,
                "area": obj.area_px,
                "bbox": list(obj.bbox_xywh),
                "segmentation": obj.segmentation.to_coco() if isinstance(obj.segmentation, Rle) else [],
            }
            for obj in truth.objects
        ],
    }
    scores: dict[str, float] = {}

    def theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes([dict(result) for result in results]), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        scores["theirs"] = evaluation.stats[0]

    def ours() -> None:
        scores["ours"] = score_instance_results(truth, results, max_detections=100).ap

    ours_s, theirs_s = seconds(ours, 0), seconds(theirs, 0)
    assert abs(scores["ours"] - scores["theirs"]) < 1e-12
    return row(f"mask AP, {images} images x {objects_each} objects", "pycocotools", ours_s, theirs_s, 10)


def main() -> None:
    """Runs all rows and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer runs")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    least_s = 0.3 if options.quick else 2.0
    rows = [boxes_row(100, 50, least_s), boxes_row(300, 30, least_s), *mask_rows(least_s, options.quick)]
    rows += [*soft_vote_rows(least_s), *hard_vote_rows(least_s), *disk_rows(100 if options.quick else 1000)]
    rows.append(ap_row(40 if options.quick else 200, 60))
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine}, indent=2))
        return
    for line in rows:
        print(
            "{name}: {ours:.2f} {unit}, {peer} {theirs:.2f} {unit}, {ratio:.1f} times (target {target})".format(**line)
        )


if __name__ == "__main__":
    main()
