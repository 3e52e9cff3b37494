"""Speed of fusion and scoring against named peers in the same run, each checked to give the same result.

python benchmarks/fusion.py [--quick] [--json]
"""

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ensemble_boxes import weighted_boxes_fusion
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

sys.path.append(str(Path(__file__).resolve().parent / "fusing"))  # `make bench` runs without the script's own folder

from fusion_peer import masks_by_numpy
from fusion_scenes import HEIGHT, WIDTH, discs_of_members, nuclei_of_members, scored_scenes, write_members

from ensembling import FusionSettings, Objects, fuse, fuse_boxes, hard_vote, soft_vote_labels
from ensembling.instances import fuse_by_masks
from segdata.predictions import ImageInstances, PredictionSet
from segdata.rle import Rle
from segscore import score_instance_results

Row = dict[str, Any]
Array = npt.NDArray[Any]


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
