"""Networks that see an image flipped, turned, larger or in windows: what comes out lies where it is in the image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from segdata.errors import InputError, TrialError
from segdata.prediction_parts import ImageFile, PredictionParts, milliseconds_of
from segdata.predictions import PredictedImage, PredictionSet
from segdata.probabilities import coarsened
from segdata.rle import rle_decode
from segdata.views import View
from trainables.fork_server import Ended, start_child
from trainables.predict import Share, told_apart
from trainables.prediction_job import PredictionJob, WindowChoice
from trainables.prediction_model import refuse_unfit
from trainables.viewing import resized, turned

MODELS = ("mask-rcnn", "segformer")
JOB = "trainables.predict:predict_as_asked"

Jobs = Callable[..., PredictionJob]
Predict = Callable[[PredictionJob], PredictionSet]
Move = Callable[[np.ndarray], np.ndarray]

# What each view does with (H, W, ...), by numpy alone, and how it is undone.
MOVES: dict[str, tuple[Move, Move]] = {
    "vflip": (np.flipud, np.flipud),
    "rot90": (lambda a: np.rot90(a, -1), np.rot90),
    "hflip+rot270": (lambda a: np.rot90(np.fliplr(a)), lambda a: np.fliplr(np.rot90(a, -1))),
}


def moved_pictures(pictures: Path, folder: Path, move: Move, count: int = 3) -> Path:
    """The first pictures, of three sizes, moved."""
    folder.mkdir()
    for path in sorted(pictures.glob("*.png"))[:count]:
        Image.fromarray(np.ascontiguousarray(move(np.asarray(Image.open(path))))).save(folder / path.name)
    return folder


def planes(found: PredictionSet, name: str) -> Iterator[np.ndarray]:
    """What a set says of an image as planes (H, W): masks or class probabilities."""
    if found.meta.task == "semantic":
        yield from found.probabilities(name)
    else:
        yield from map(rle_decode, found.instances(name).rles)


@pytest.mark.slow
@pytest.mark.parametrize("windows", [None, 48], ids=["whole", "windows"])
@pytest.mark.parametrize("model", MODELS)
def test_a_view_shows_what_the_network_finds_in_the_moved_image(
    model: str, windows: int | None, job: Jobs, predict: Predict, pictures: Path, tmp_path: Path
) -> None:
    """The moved image predicted plainly and brought back by numpy equals the view's prediction, to the bit."""
    compared = 0
    plain = moved_pictures(pictures, tmp_path / "plain", lambda image: image)
    for number, (name, (move, undo)) in enumerate(list(MOVES.items())[: 3 if windows is None else 2]):
        moved = moved_pictures(pictures, tmp_path / f"pictures-{number}", move)
        choice = None if windows is None else WindowChoice(windows)
        expected = predict(job(model, f"moved-{number}", moved, windows=choice))
        suffix = "" if windows is None else f"+window{windows}"
        found = predict(job(model, f"view-{number}", plain, view=View.parse(f"{name}{suffix}")))
        for image in found.meta.images:
            shown, there = list(planes(found, image.file_name)), list(planes(expected, image.file_name))
            assert len(shown) == len(there)
            for plane, other in zip(shown, there, strict=True):
                np.testing.assert_array_equal(plane, undo(other))
                compared += 1
            if found.meta.task == "instance":
                np.testing.assert_array_equal(
                    found.instances(image.file_name).confidences, expected.instances(image.file_name).confidences
                )
                boxes_around_masks(found, image)
        assert milliseconds_of(found.path) is not None
    assert compared > 12, "a comparison of nothing shows nothing"


def boxes_around_masks(found: PredictionSet, image: PredictedImage) -> None:
    """Asserts that boxes were brought back with their masks: each holds its mask's middle and stays in the image."""
    objects = found.instances(image.file_name)
    for (x0, y0, x1, y1), rle in zip(objects.boxes_xyxy, objects.rles, strict=True):
        rows, columns = np.nonzero(rle_decode(rle))
        assert 0 <= x0 <= x1 <= image.width and 0 <= y0 <= y1 <= image.height
        if len(rows):
            assert x0 - 1 <= columns.mean() <= x1 + 1 and y0 - 1 <= rows.mean() <= y1 + 1


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_scale_is_that_of_a_config_with_another_frame(
    model: str, job: Jobs, predict: Predict, pictures: Path, tmp_path: Path
) -> None:
    square = moved_pictures(pictures, tmp_path / "square", lambda image: np.tile(image, (2, 1, 1))[:64])
    plain = job(model, "larger", square)
    config = Config.fromfile(plain.config)
    for step in config.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step["scale"] = tuple(2 * side for side in step["scale"])
    config.dump(tmp_path / "larger.py")
    larger = predict(replace(plain, config=tmp_path / "larger.py"))
    seen = predict(job(model, "scaled", square, view=View.parse("scale2")))
    usual = predict(job(model, "usual", square))
    names = [image.file_name for image in seen.meta.images]
    for name in names:
        for plane, other in zip(planes(seen, name), planes(larger, name), strict=True):
            np.testing.assert_array_equal(plane, other)
    assert any(
        len(list(planes(seen, name))) != len(list(planes(usual, name)))
        or any((one != other).any() for one, other in zip(planes(seen, name), planes(usual, name), strict=True))
        for name in names
    ), "the scale changed nothing"


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("view", ["hflip+rot90+scale1.3", "rot90+scale0.6+window32"])
def test_a_view_that_was_broken_off_and_batched_comes_out_the_same(
    model: str, view: str, job: Jobs, predict: Predict
) -> None:
    """Odd sizes as well: a scale of 1.3 of 64x60 and 64x48 is whole for no network."""
    whole = predict(job(model, "whole", view=View.parse(view), batch=3))
    half = job(model, "half", view=View.parse(view), batch=3)
    some = frozenset(sorted(half.missing)[::2])
    predict(replace(half, missing=some))
    rest = predict(replace(half, missing=half.missing - some, shares=2))
    for image in whole.meta.images:
        for plane, other in zip(planes(rest, image.file_name), planes(whole, image.file_name), strict=True):
            np.testing.assert_array_equal(plane, other)
    sizes = {(image.width, image.height) for image in rest.meta.images}
    assert sizes == {(64, 64), (64, 60), (64, 48)}, "an image's own size, however it was seen"


@pytest.mark.slow
def test_probabilities_are_stored_at_the_asked_stride(job: Jobs, predict: Predict) -> None:
    for number, view in enumerate(("plain", "rot90", "rot90+window48")):
        fine = predict(job("segformer", f"fine-{number}", view=View.parse(view)))
        coarse = predict(job("segformer", f"coarse-{number}", view=View.parse(view), stride=3))
        assert (fine.meta.stride, coarse.meta.stride) == (1, 3)
        for image in fine.meta.images:
            stored = coarse.packed(image.file_name)
            assert stored.shape[1:] == (-(-image.height // 3), 22)
            expected = coarsened(fine.packed(image.file_name), 3)
            assert np.abs(stored.astype(int) - expected.astype(int)).max() <= (0 if "window" in view else 1)


@pytest.mark.slow
def test_what_a_network_cannot_give_is_refused_before_it_predicts(
    job: Jobs, follow: Callable[..., tuple[list[dict[str, Any]], Ended]], tmp_path: Path
) -> None:
    asked = {
        "expected a network of semantic segmentation, which the method fuses, but got one of instance": {
            "task": "semantic"
        },
        "--stride 4: expected a semantic network, whose probabilities have a stride": {"stride": 4},
    }
    for number, (message, choice) in enumerate(asked.items()):
        wanted = job("mask-rcnn", f"refused-{number}", **choice)
        messages, _ = follow(start_child(JOB, wanted, tmp_path / "refused.log"))
        assert message in messages[0]["reason"]
        assert not any(PredictionParts(wanted.parts).has(file) for file in wanted.files)


@pytest.mark.slow
def test_probabilities_that_no_disk_holds_are_refused_before_the_first_image(
    job: Jobs, follow: Callable[..., tuple[list[dict[str, Any]], Ended]], tmp_path: Path
) -> None:
    wanted = job("segformer", "huge")
    huge = ImageFile(PredictedImage(id=99, file_name="99.png", width=10_000_000, height=10_000_000), 100)
    wanted = replace(wanted, files=(*wanted.files, huge), missing=wanted.missing | {"99.png"})
    messages, _ = follow(start_child(JOB, wanted, tmp_path / "refused.log"))
    assert "GB of free disk for class probabilities (an upper bound" in messages[0]["reason"]
    assert "Store them coarser, such as by --stride" in messages[0]["reason"]
    assert not any(PredictionParts(wanted.parts).has(file) for file in wanted.files)


def test_only_a_network_of_the_wanted_task_passes(tmp_path: Path) -> None:
    job = PredictionJob(tmp_path, tmp_path, tmp_path, (), frozenset(), tmp_path, task="semantic", stride=4)
    refuse_unfit(job, "semantic")
    with pytest.raises(InputError, match="Choose a method for instance predictions"):
        refuse_unfit(job, "instance")


@pytest.mark.parametrize("view", ["scale1.25", "rot90", "window64"])
def test_a_network_of_a_fixed_size_says_which_view_it_cannot_take(view: str, tmp_path: Path) -> None:
    file = ImageFile(PredictedImage(id=1, file_name="a.png", width=9, height=6), 100)
    job = PredictionJob(tmp_path, tmp_path, tmp_path, (file,), frozenset(), tmp_path, view=View.parse(view))
    with (
        pytest.raises(TrialError, match=rf"a.png: expected a network that takes images in the view {view}, but .* 640"),
        told_apart(job, [file]),
    ):
        raise RuntimeError("expected 640 px\nand more")
    plain = replace(job, view=View.parse("hflip"))
    with pytest.raises(RuntimeError, match="expected 640 px"), told_apart(plain, [file]):
        raise RuntimeError("expected 640 px")


def test_what_can_not_be_stored_is_not_blamed_on_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is made up; the view is one under which a network's own failure would be told as the view's."""
    file = ImageFile(PredictedImage(id=1, file_name="a.png", width=9, height=6), 100)
    job = PredictionJob(tmp_path, tmp_path, tmp_path, (file,), frozenset(), tmp_path, view=View.parse("scale1.25"))
    failing: list[str] = []

    def network(inputs: list[object]) -> list[object]:
        if failing:
            raise ValueError(failing[0])
        return [{}]

    def store(*_: object) -> None:
        raise ValueError("stored twice")

    predictor = SimpleNamespace(
        task="semantic",
        load=lambda *_: np.zeros((6, 9, 3), np.uint8),
        steps_for=lambda *_: [],
        prepare=lambda *_: None,
        predict=network,
    )
    parts = SimpleNamespace(has=lambda _: False, add_packed=store)
    monkeypatch.setattr(Share, "found", lambda *_: np.zeros((2, 6, 9), np.uint8))
    share = Share(job, cast(Any, predictor), cast(Any, parts), cast(Any, SimpleNamespace(classes=("a", "b"))))
    with pytest.raises(ValueError, match="^stored twice$"):
        share.predict([file])
    failing.append("expected 640 px")
    with pytest.raises(TrialError, match=r"in the view scale1\.25, but it failed: expected 640 px"):
        share.predict([file])


def steps(*named: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "LoadImageFromFile"}, *named, {"type": "PackDetInputs"}]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"type": "Resize", "scale": (64, 32), "keep_ratio": False}, {"scale": (32, 64)}),
        ({"type": "FixShapeResize", "width": 64, "height": 32}, {"width": 32, "height": 64}),
        ({"type": "Pad", "size": [64, 32]}, {"size": (32, 64)}),
        (
            {"type": "RandomChoiceResize", "scale": [(64, 32), [48, 40]], "keep_ratio": False},
            {"scale": [(32, 64), (40, 48)]},
        ),
        ({"type": "Resize", "scale": [(64, 32)], "keep_ratio": False}, {"scale": [(32, 64)]}),
        ({"type": "Pad", "size_divisor": 32}, {}),
        ({"type": "ResizeShortestEdge", "scale": 512, "max_size": 2560}, {}),
        ({"type": "Normalize", "size": (1, 2)}, {}),
    ],
)
def test_frames_lie_as_the_image_does(step: dict[str, Any], expected: dict[str, Any]) -> None:
    assert turned(steps(step)) == steps(step | expected)
    assert [dict(s) for s in turned(turned(steps(step)))][1].keys() == step.keys()


def test_a_stretched_image_is_turned_with_its_frame(tmp_path: Path) -> None:
    """Turning before the resize into the turned frame equals turning after the resize."""
    from mmcv.transforms import Resize

    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    step = {"type": "Resize", "scale": (24, 40), "keep_ratio": False}
    (frame,) = turned([step])
    view = View.parse("rot90")
    first = Resize(scale=frame["scale"])({"img": view.of_image(image)})["img"]
    later = view.of_image(Resize(scale=step["scale"])({"img": image})["img"])
    assert first.shape == later.shape and np.abs(first.astype(int) - later.astype(int)).max() <= 1


def test_a_pad_to_a_fixed_frame_follows_the_scale() -> None:
    """As RTMDet-Ins of the zoo, whose network takes whole cells of 32 px and pads nothing itself."""
    stock: Sequence[dict[str, Any]] = steps(
        {"type": "Resize", "scale": (640, 640), "keep_ratio": True},
        {"type": "Pad", "size": (640, 640), "pad_val": {"img": (114, 114, 114)}},
    )[1:]
    larger = resized(stock, (800, 601), 1.25)
    assert [step["type"] for step in larger] == ["Resize", "Pad", "PackDetInputs"]
    assert (larger[0]["scale"], larger[0]["keep_ratio"]) == ((800, 601), False)
    assert larger[1] == {"type": "Pad", "size": (800, 800), "pad_val": {"img": (114, 114, 114)}}
    assert resized(stock, (320, 240), 0.51)[1]["size"] == (352, 352)
    assert resized(stock, (0, 3), 0.01)[0]["scale"] == (1, 3)
