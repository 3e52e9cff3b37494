"""Prediction sets in the making: broken off anywhere they come out the same, and nothing foreign is written over."""

import json
from pathlib import Path

import numpy as np
import pytest

from segdata.errors import DatasetError, InputError
from segdata.prediction_parts import (
    ImageFile,
    PredictionParts,
    milliseconds_of,
    refuse_other_settings,
    settings_of,
)
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import rle_encode

INSTANCE = PredictionMeta(
    task="instance", classes=("a", "b"), category_ids=(3, 7), dataset_fingerprint="", code_version="t", codec="coco-rle"
)
SEMANTIC = PredictionMeta(
    task="semantic", classes=("a", "b"), dataset_fingerprint="", code_version="t", codec="prob8", stride=1
)
FILES = tuple(
    ImageFile(PredictedImage(id=number, file_name=f"{name}.png", width=9, height=6), 100 + number)
    for number, name in enumerate("abc", start=1)
)


def objects(number: int) -> ImageInstances:
    rng = np.random.default_rng(number)
    masks = rng.random((number, 6, 9)) < 0.4
    boxes = np.sort(rng.random((number, 4), dtype=np.float32).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    return ImageInstances.of(boxes, rng.random(number), rng.integers(0, 2, number), tuple(map(rle_encode, masks)))


def fill(parts: PredictionParts, files: tuple[ImageFile, ...], meta: PredictionMeta) -> None:
    parts.start({"window": None})
    parts.write_meta(meta)
    for file in files:
        if meta is INSTANCE:
            parts.add_instances(file, objects(file.image.id - 1))
        else:
            rng = np.random.default_rng(file.image.id)
            parts.add_packed(file, rng.integers(0, 256, (2, 6, 9), dtype=np.uint8))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("meta", [INSTANCE, SEMANTIC], ids=["instance", "semantic"])
def test_a_set_that_grew_in_any_order_and_over_two_runs_has_the_same_bytes(
    meta: PredictionMeta, tmp_path: Path
) -> None:
    one = PredictionParts.beside(tmp_path / "one")
    fill(one, FILES, meta)
    one.finish(FILES, tmp_path / "one", "f00d", {})
    two = PredictionParts.beside(tmp_path / "two")
    fill(two, FILES[2:], meta)
    assert [two.has(file) for file in FILES] == [False, False, True]
    fill(PredictionParts.beside(tmp_path / "two"), FILES[1::-1], meta)
    two.finish(FILES, tmp_path / "two", "f00d", {})
    two.remove()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert PredictionSet.open(tmp_path / "one").meta.dataset_fingerprint == "f00d"
    assert not PredictionParts.beside(tmp_path / "two").folder.exists()


def test_a_set_from_parts_is_what_the_writer_writes(tmp_path: Path) -> None:
    parts = PredictionParts.beside(tmp_path / "parts")
    fill(parts, FILES, INSTANCE)
    parts.finish(FILES, tmp_path / "parts", "", {})
    with PredictionWriter(tmp_path / "writer", INSTANCE) as writer:
        for file in FILES:
            writer.add_instances(file.image, objects(file.image.id - 1))
    found = contents(tmp_path / "parts")
    found.pop("predicted.json")
    assert found == contents(tmp_path / "writer")


@pytest.mark.parametrize("meta", [INSTANCE, SEMANTIC], ids=["instance", "semantic"])
def test_a_finished_set_takes_more_images_without_predicting_the_old_ones(meta: PredictionMeta, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = PredictionParts.beside(out)
    fill(first, FILES[:2], meta)
    first.finish(FILES[:2], out, "f00d", {})
    first.remove()
    more = PredictionParts.beside(out)
    more.start({"window": None})
    more.adopt(PredictionSet.open(out), FILES)
    assert [more.has(file) for file in FILES] == [True, True, False]
    fill(more, FILES[2:], meta)
    more.finish(FILES, out, "f00d", {})
    whole = PredictionParts.beside(tmp_path / "whole")
    fill(whole, FILES, meta)
    whole.finish(FILES, tmp_path / "whole", "f00d", {})
    assert contents(out) == contents(tmp_path / "whole")


def test_an_image_that_changed_is_predicted_again(tmp_path: Path) -> None:
    parts = PredictionParts.beside(tmp_path / "out")
    fill(parts, FILES, INSTANCE)
    assert parts.has(ImageFile(FILES[0].image.model_copy(update={"id": 9}), FILES[0].num_bytes)), "an id is a number"
    assert not parts.has(ImageFile(FILES[0].image, FILES[0].num_bytes + 1))


def test_failures_are_kept_until_they_are_tried_again(tmp_path: Path) -> None:
    parts = PredictionParts.beside(tmp_path / "out")
    fill(parts, FILES[:1], INSTANCE)
    parts.add_failure(FILES[1], "b.png: broken")
    assert parts.failures(FILES) == {"b.png": "b.png: broken"}
    parts.finish(FILES, tmp_path / "out", "", {"b.png": "b.png: broken"})
    assert json.loads((tmp_path / "out" / "predicted.json").read_text())["failed"] == {"b.png": "b.png: broken"}
    with pytest.raises(DatasetError, match=r"expected a prediction for 'b\.png'"):
        PredictionSet.open(tmp_path / "out").instances("b.png")
    parts.forget_failures()
    assert parts.failures(FILES) == {}


def test_work_with_other_settings_is_not_mixed(tmp_path: Path) -> None:
    parts = PredictionParts.beside(tmp_path / "out")
    parts.start({"window": 64})  # nothing was predicted, so nothing can be mixed
    fill(parts, FILES, INSTANCE)
    with pytest.raises(InputError, match=r"out\.unfinished: expected predictions made with window = 512, but got None"):
        parts.start({"window": 512})
    parts.finish(FILES, tmp_path / "out", "", {})
    assert settings_of(tmp_path / "out") == {"window": None}
    refuse_other_settings({"a": 1}, {"a": 1}, tmp_path)


def test_what_predict_did_not_write_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new folder, or one that `segsweep predict` wrote"):
        settings_of(tmp_path)
    with PredictionWriter(tmp_path / "foreign", INSTANCE):
        pass
    with pytest.raises(InputError, match="expected a new folder, or one that `segsweep predict` wrote"):
        settings_of(tmp_path / "foreign")


@pytest.mark.parametrize("meta", [INSTANCE, SEMANTIC], ids=["instance", "semantic"])
def test_what_an_image_cost_is_kept_over_a_break_and_a_second_command(meta: PredictionMeta, tmp_path: Path) -> None:
    def add(parts: PredictionParts, file: ImageFile, milliseconds: float | None) -> None:
        if meta is INSTANCE:
            parts.add_instances(file, objects(2), milliseconds)
        else:
            parts.add_packed(file, np.zeros((2, 6, 9), dtype=np.uint8), milliseconds)

    out = tmp_path / "out"
    parts = PredictionParts.beside(out)
    fill(parts, (), meta)
    add(parts, FILES[0], 5.0)
    fill(PredictionParts.beside(out), (), meta)
    add(parts, FILES[1], 9.0)
    parts.finish(FILES[:2], out, "", {})
    parts.remove()
    assert milliseconds_of(out) == 7.0
    more = PredictionParts.beside(out)
    more.start({"window": None})
    more.adopt(PredictionSet.open(out), FILES)
    add(more, FILES[2], 8.0)
    more.finish(FILES, out, "", {})
    assert milliseconds_of(out) == 8.0
    assert len(PredictionSet.open(out).meta.images) == 3


def test_a_set_that_nobody_timed_says_so(tmp_path: Path) -> None:
    parts = PredictionParts.beside(tmp_path / "out")
    fill(parts, FILES, INSTANCE)
    parts.finish(FILES, tmp_path / "out", "", {})
    assert milliseconds_of(tmp_path / "out") is None
