"""Fusing probabilities and labels on disk: strides, means, what is stored, what is refused."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ensembling import FusionSettings, fuse
from ensembling.vote_kernels import labels_of_grid
from segdata.errors import DatasetError, InputError
from segdata.predictions import PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.probabilities import unpack

HEIGHT, WIDTH = 22, 30
IMAGES = (
    PredictedImage(id=1, file_name="a.png", width=WIDTH, height=HEIGHT),
    PredictedImage(id=2, file_name="b.png", width=WIDTH, height=HEIGHT),
)
CLASSES = ("background", "bag", "bottle")


def write(path: Path, seed: int, *, images: tuple[PredictedImage, ...] = IMAGES, **changes: Any) -> Path:
    """Smooth random probabilities."""
    fields: dict[str, Any] = {
        "task": "semantic", "classes": CLASSES, "dataset_fingerprint": "f", "code_version": "0", "codec": "prob8",
    }  # fmt: skip
    meta = PredictionMeta(**(fields | changes))
    rng = np.random.default_rng(seed)
    with PredictionWriter(path, meta) as writer:
        for image in images:
            raw = rng.random((len(meta.classes), 5, 6)).astype(np.float32)
            smooth = np.stack([cv2.resize(channel, (WIDTH, HEIGHT)) for channel in raw]) ** 3
            writer.add_probabilities(image, smooth / smooth.sum(axis=0))
    return path


def test_an_ensemble_of_one_is_that_one_at_any_stride(tmp_path: Path) -> None:
    for stride in (1, 4):
        member = write(tmp_path / f"one{stride}", 1, stride=stride)
        for mean in ("arithmetic", "geometric", "confidence"):
            settings = FusionSettings(mean=mean)  # type: ignore[arg-type]
            out = fuse([member] * 2, tmp_path / f"{mean}{stride}", method="soft-vote", settings=settings)
            before, after = PredictionSet.open(member), PredictionSet.open(out)
            np.testing.assert_array_equal(after.packed("a.png"), before.packed("a.png"))
            assert after.meta.stride == stride


def test_coarser_members_are_brought_to_the_finest_stride(tmp_path: Path) -> None:
    members = [PredictionSet.open(write(tmp_path / str(s), s, stride=s)) for s in (2, 5)]
    fused = PredictionSet.open(fuse([m.path for m in members], tmp_path / "out", method="soft-vote", weights=[1, 3]))
    full_CHW = members[1].probabilities("b.png")  # even sides, so that the blocks of 2 are whole
    coarse_CHW = full_CHW.reshape(3, HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(2, 4))
    expected = 0.25 * members[0].packed("b.png") / 255 + 0.75 * coarse_CHW
    np.testing.assert_allclose(fused.packed("b.png") / 255, expected, atol=0.5 / 255 + 1e-5)


@pytest.mark.parametrize("strides", [(1, 1), (4, 4), (1, 4), (7, 7)])
def test_labels_are_those_of_the_unrounded_mean(strides: tuple[int, int], tmp_path: Path) -> None:
    members = [PredictionSet.open(write(tmp_path / str(seed), seed, stride=s)) for seed, s in enumerate(strides)]
    out = fuse(
        [m.path for m in members], tmp_path / "out", method="soft-vote", settings=FusionSettings(output="labels")
    )
    fused = PredictionSet.open(out)
    assert (fused.meta.codec, fused.meta.stride) == ("labels", 1)
    mean_CHW = (members[0].probabilities("a.png") + members[1].probabilities("a.png")) / 2
    first, second = np.sort(mean_CHW, axis=0)[[-1, -2]]
    clear = first - second > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(fused.labels("a.png")[clear], mean_CHW.argmax(axis=0)[clear])


@pytest.mark.parametrize("stride", [1, 2, 3, 8])
def test_labels_of_a_grid_are_those_of_the_enlarged_probabilities(stride: int) -> None:
    """As `PredictionSet.labels` has them, up to ties that rounding decides; sides that are no multiples of strides."""
    height, width = 61, 83
    grid = (7, -(-height // stride), -(-width // stride))
    packed = np.random.default_rng(stride).integers(0, 256, grid).astype(np.uint8)
    prob_CHW = unpack(packed, height, width, stride)
    labels_HW = labels_of_grid((packed / 255).astype(np.float32), stride, height, width)
    chosen_HW = np.take_along_axis(prob_CHW, labels_HW[None].astype(np.int64), axis=0)[0]
    np.testing.assert_allclose(chosen_HW, prob_CHW.max(axis=0), atol=1e-6)


def test_members_of_other_class_lists_are_told_apart(tmp_path: Path) -> None:
    long = tuple(f"class{i}" for i in range(12))
    other = (*long[:7], "bag", *long[8:])
    members = [write(tmp_path / "one", 1, classes=long), write(tmp_path / "two", 1, classes=other)]
    with pytest.raises(
        InputError, match=r"two: expected classes 12 with 'class7' at place 7 as of .*one, but got 12 wi"
    ):
        fuse(members, tmp_path / "out", method="soft-vote")
    shorter = write(tmp_path / "three", 1, classes=long[:-1])
    with pytest.raises(InputError, match="expected classes 12 with 'class11' at place 11 .*, but got 11 with none at"):
        fuse([members[0], shorter], tmp_path / "out", method="soft-vote")


def test_image_sets_that_differ_are_named(tmp_path: Path) -> None:
    other = PredictedImage(id=3, file_name="c.png", width=WIDTH, height=HEIGHT)
    members = [write(tmp_path / "one", 1), write(tmp_path / "two", 1, images=(IMAGES[0], other))]
    with pytest.raises(InputError, match=r"two: expected the 2 images .* \(missing: b\.png; too many: c\.png\)"):
        fuse(members, tmp_path / "out", method="soft-vote")


def test_a_member_without_images_is_refused(tmp_path: Path) -> None:
    members = [write(tmp_path / "one", 1, images=()), write(tmp_path / "two", 1, images=())]
    with pytest.raises(InputError, match="one: expected predicted images, but got none"):
        fuse(members, tmp_path / "out", method="soft-vote")


def test_a_missing_file_of_an_image_is_named_and_nothing_is_left_behind(tmp_path: Path) -> None:
    members = [write(tmp_path / "one", 1), write(tmp_path / "two", 2)]
    (members[1] / "probabilities" / "b.npz").unlink()
    with pytest.raises(DatasetError, match=r"two/probabilities/b\.npz: expected probabilities, but got"):
        fuse(members, tmp_path / "out", method="soft-vote")
    assert not (tmp_path / "out").exists()
