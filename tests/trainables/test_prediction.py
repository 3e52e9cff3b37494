"""Predicting: batches, shares, resumed jobs, windows, broken images, with networks that were trained for a moment."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from segdata.prediction_parts import ImageFile, PredictionParts
from segdata.predictions import PredictionSet
from trainables.fork_server import Ended, start_child
from trainables.prediction_job import PredictionJob, WindowChoice, opened
from trainables.trial_files import TrialFiles
from trainables.window_prediction import raised

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
JOB = "trainables.predict:predict_share"

Trained = Callable[[str], tuple[TrialFiles, list[dict[str, Any]]]]
Follow = Callable[..., tuple[list[dict[str, Any]], Ended]]
Predict = Callable[..., PredictionSet]


def contents(folder: Path) -> dict[str, bytes]:
    """What a set says; no two runs take equally long."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name != "timing.json"}


@pytest.mark.parametrize("model", ["mask-rcnn", "segformer"])
def test_batches_give_the_numbers_of_one_image_at_a_time(
    model: str, job: Callable[..., PredictionJob], predict: Predict
) -> None:
    single, batched = predict(job(model, "single")), predict(job(model, "batched", batch=4))
    compare(single, batched)


def compare(one: PredictionSet, other: PredictionSet) -> None:
    """Asserts that two sets say the same to 1e-4; stored probabilities are whole 255ths."""
    objects = 0
    assert one.meta.images == other.meta.images
    for image in one.meta.images:
        if one.meta.task == "semantic":
            first, second = one.probabilities(image.file_name), other.probabilities(image.file_name)
            np.testing.assert_allclose(first, second, atol=1 / 255 + TOLERANCE)
            assert (first == second).mean() > 0.99
            continue
        found, again = one.instances(image.file_name), other.instances(image.file_name)
        objects += len(found)
        np.testing.assert_allclose(found.boxes_xyxy, again.boxes_xyxy, atol=100 * TOLERANCE)  # of 64 px
        np.testing.assert_allclose(found.confidences, again.confidences, atol=TOLERANCE)
        np.testing.assert_array_equal(found.classes, again.classes)
    assert objects or one.meta.task == "semantic", "a comparison of nothing shows nothing"


@pytest.mark.parametrize("model", ["mask-rcnn", "segformer"])
def test_a_job_killed_anywhere_and_shared_anew_comes_out_the_same_to_the_byte(
    model: str, job: Callable[..., PredictionJob], predict: Predict, tmp_path: Path
) -> None:
    whole = predict(job(model, "whole", batch=2))
    broken = job(model, "broken", batch=2)
    child = start_child(JOB, broken, tmp_path / "killed.log")
    try:
        for _ in range(3):
            assert child.receive(120) is not None
        child.process.kill()
    finally:
        child.stop()
    parts = PredictionParts(broken.parts)
    missing = frozenset(file.image.file_name for file in broken.files if not parts.has(file))
    assert 0 < len(missing) < len(broken.files)
    again = predict(replace(broken, missing=missing, shares=2))
    assert contents(again.path) == contents(whole.path)


@pytest.mark.parametrize("model", ["mask-rcnn", "segformer"])
def test_a_window_that_covers_the_image_changes_nothing(
    model: str, job: Callable[..., PredictionJob], predict: Predict
) -> None:
    whole, covered = predict(job(model, "whole")), predict(job(model, "covered", windows=WindowChoice(512)))
    found, expected = contents(covered.path), contents(whole.path)
    for known in (found, expected):
        known.pop("meta.json")  # it names the limit of objects, which counts a window
    assert found == expected


@pytest.mark.parametrize("model", ["mask-rcnn", "segformer"])
def test_a_large_image_is_seen_at_the_scale_of_training(
    model: str, job: Callable[..., PredictionJob], predict: Predict, pictures: Path, tmp_path: Path
) -> None:
    """Four pictures side by side, in windows as large as one: as good as one by one, away from the seams."""
    folder = tmp_path / "mosaic"
    folder.mkdir()
    tiles = [np.asarray(Image.open(pictures / f"{number:02d}.png")) for number in (0, 3, 6, 9)]
    mosaic = np.concatenate([np.concatenate(tiles[:2], axis=1), np.concatenate(tiles[2:], axis=1)])
    Image.fromarray(mosaic).save(folder / "mosaic.png")
    windows = WindowChoice(job(model, "probe").files[0].image.width * scale_of(model, job), overlap=0.0)
    found = predict(job(model, "mosaic-out", folder, windows=windows, batch=3))
    single = predict(job(model, "single"))
    if found.meta.task == "semantic":
        expected = single.probabilities("03.png")
        np.testing.assert_allclose(found.probabilities("mosaic.png")[:, :64, 64:], expected, atol=1 / 255 + TOLERANCE)
        return
    assert found.meta.max_detections is None
    total = sum(len(single.instances(f"{number:02d}.png")) for number in (0, 3, 6, 9))
    assert len(found.instances("mosaic.png")) == total > 0


def scale_of(model: str, job: Callable[..., PredictionJob]) -> int:
    """Network pixels an image pixel: the frame of the config over the 64 px of the training images."""
    text = job(model, "probe").config.read_text()
    return max(int(text.split("scale=(")[-1].split(",")[0].strip()) // 64, 1)


def test_a_broken_image_is_named_and_the_others_are_predicted(
    job: Callable[..., PredictionJob], predict: Predict, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    shutil.copytree(pictures, folder, ignore=shutil.ignore_patterns("small"))
    with Image.open(folder / "03.png") as image:
        image.save(folder / "03.png", format="jpeg")  # whose size is known before its pixels
    whole = (folder / "03.png").read_bytes()
    (folder / "03.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((64, 64), dtype=np.uint16)).save(folder / "04.png")
    with Image.open(folder / "05.png") as image:
        image.convert("L").save(folder / "05.png")
    with Image.open(folder / "06.png") as image:
        image.convert("RGBA").save(folder / "06.png")
    asked = job("mask-rcnn", "some-out", folder, batch=4)
    found = predict(asked)
    assert {image.file_name for image in found.meta.images} == {f"{n:02d}.png" for n in range(10)} - {
        "03.png",
        "04.png",
    }
    failed = PredictionParts(asked.parts).failures(asked.files)
    assert "03.png: expected an image, but it can't be decoded" in failed["03.png"]
    assert "04.png: expected an 8-bit image, but got mode I;16" in failed["04.png"]


def test_weights_of_another_model_are_refused(
    trained: Trained, job: Callable[..., PredictionJob], follow: Follow, tmp_path: Path
) -> None:
    mixed = replace(job("mask-rcnn", "mixed"), checkpoint=trained("segformer")[0].best)
    _, ended = follow(start_child(JOB, mixed, tmp_path / "mixed.log"))
    assert "expected the weights of the model in" in ended.reason and "weights are missing, such as" in ended.reason


def test_a_stock_checkpoint_names_classes_and_ids_by_itself(
    job: Callable[..., PredictionJob], predict: Predict
) -> None:
    meta = predict(job("mask-rcnn", "stock")).meta
    assert (meta.classes, meta.category_ids, meta.trial) == (("particle",), (1,), None)


def test_an_image_file_is_known_by_its_bytes(pictures: Path) -> None:
    (file, *_), _ = opened(pictures, [(1, "00.png")])
    assert file == ImageFile(file.image, (pictures / "00.png").stat().st_size)
    _, unreadable = opened(pictures, [(1, "gone.png")])
    assert "gone.png: expected an image, but got: No such file" in unreadable["gone.png"]


def test_a_window_larger_than_a_training_image_may_show_more_objects() -> None:
    model: Any = nn.Module()
    model.rpn_head, model.roi_head = nn.Module(), nn.Module()
    model.rpn_head.test_cfg = {"max_per_img": 1000, "nms_pre": 1000}
    model.roi_head.test_cfg = {"max_per_img": 100, "score_thr": 0.05}
    with raised(model, 1600):
        assert model.rpn_head.test_cfg == {"max_per_img": 3200, "nms_pre": 6400}
        assert model.roi_head.test_cfg == {"max_per_img": 1600, "score_thr": 0.05}
    assert model.rpn_head.test_cfg == {"max_per_img": 1000, "nms_pre": 1000}
    assert model.roi_head.test_cfg == {"max_per_img": 100, "score_thr": 0.05}
