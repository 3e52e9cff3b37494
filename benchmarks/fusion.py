"""Speed of fusion and scoring against named peers in the same run, each checked to give the same result.

python benchmarks/fusion.py [--quick] [--json]
"""

import argparse
import contextlib
import io
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from ensemble_boxes import weighted_boxes_fusion
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

from ensembling import Objects, fuse_boxes, fuse_masks, hard_vote
from ensembling.boxes import coordinate_votes
from segdata.coco import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.rle import Rle, rle_area, rle_bbox, rle_decode, rle_encode
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


def ellipse(x: float, y: float, radius: float) -> Rle:
    """A disc in an image of WIDTH x HEIGHT."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return rle_encode((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def nuclei_of_members(members: int, objects: int, seed: int = 0) -> list[Member]:
    """What several models would find on one crowded image: the same discs, moved and resized a little."""
    rng = np.random.default_rng(seed)
    centre, radius = rng.uniform([20, 20], [WIDTH - 20, HEIGHT - 20], (objects, 2)), rng.uniform(8, 18, objects)
    found = []
    for _ in range(members):
        moved, scaled = centre + rng.normal(0, 1.5, centre.shape), radius * rng.uniform(0.9, 1.1, objects)
        rles = [ellipse(x, y, r) for (x, y), r in zip(moved, scaled, strict=True)]
        boxes = np.concatenate([moved - scaled[:, None], moved + scaled[:, None]], axis=1).clip(0, WIDTH)
        found.append((boxes, rng.uniform(0.05, 1, objects), rles))
    return found


def together(found: list[Member]) -> tuple[Objects, list[Rle]]:
    """All members' objects as fusion takes them."""
    sizes = [len(confidences) for _, confidences, _ in found]
    objects = Objects(
        boxes_xyxy=np.concatenate([boxes for boxes, _, _ in found]),
        confidences=np.concatenate([confidences for _, confidences, _ in found]),
        classes=np.zeros(sum(sizes), np.int64),
        members=np.repeat(np.arange(len(found)), sizes),
    )
    return objects, [rle for _, _, rles in found for rle in rles]


def boxes_row(objects_each: int, least_s: float) -> Row:
    """Weighted boxes fusion, 5 members."""
    found = nuclei_of_members(5, objects_each)
    objects, _ = together(found)
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes, confidences = [boxes / size for boxes, _, _ in found], [confidences for _, confidences, _ in found]
    labels = [np.zeros(objects_each)] * 5

    def theirs() -> Any:
        return weighted_boxes_fusion(boxes, confidences, labels, iou_thr=0.55, conf_type="box_and_model_avg")

    def ours() -> Any:
        return fuse_boxes(objects, np.ones(5), merge_own=True)

    np.testing.assert_allclose(np.sort(ours().confidences), np.sort(theirs()[1]), atol=1e-6)
    name = f"weighted boxes fusion, 5 members x {objects_each} objects"
    return row(name, "ensemble_boxes", seconds(ours, least_s), seconds(theirs, least_s), 1.5)


def masks_row(least_s: float) -> Row:
    """Masks of the clusters, 5 members x 100 objects."""
    objects, rles = together(nuclei_of_members(5, 100))
    clusters = fuse_boxes(objects, np.ones(5))
    votes, count = coordinate_votes(objects, np.ones(5)), len(clusters.classes)

    def ours() -> list[Rle | None]:
        return fuse_masks(rles, clusters.cluster_of, votes, count)

    def theirs() -> list[Rle]:
        fused = []
        for cluster in range(count):
            chosen = np.flatnonzero(clusters.cluster_of == cluster)
            stack_NHW = np.stack([rle_decode(rles[index]) for index in chosen])
            share_HW = np.average(stack_NHW, axis=0, weights=votes[chosen])
            fused.append(rle_encode(share_HW >= 0.5 - 1e-9))
        return fused

    assert ours() == theirs()
    name = "mask fusion, 5 members x 100 objects, 700x520"
    return row(name, "numpy, stack of decoded masks", seconds(ours, least_s), seconds(theirs, least_s), 20)


def hard_vote_row(least_s: float) -> Row:
    """Hard vote, 5 members, 12 classes, 512x512."""
    label_MHW = np.random.default_rng(0).integers(0, 12, (5, 512, 512)).astype(np.uint8)

    def ours() -> Any:
        return hard_vote(label_MHW, 12)

    def theirs() -> Any:
        return stats.mode(label_MHW, axis=0).mode

    np.testing.assert_array_equal(ours(), theirs())
    name = "hard vote, 5 members, 12 classes, 512x512"
    return row(name, "scipy.stats.mode", seconds(ours, least_s), seconds(theirs, least_s), 10)


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
    rows = [boxes_row(100, least_s), masks_row(least_s), hard_vote_row(least_s)]
    rows.append(ap_row(40 if options.quick else 200, 60))
    if not options.quick:
        rows.insert(1, boxes_row(300, least_s))
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine}, indent=2))
        return
    for line in rows:
        print("{name}: {ours:.2f} ms, {peer} {theirs:.2f} ms, {ratio:.1f} times (target {target})".format(**line))


if __name__ == "__main__":
    main()
