"""Prediction sets of different images as one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdata.errors import DatasetError
from segdata.prediction_union import join_predictions
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionSet, PredictionWriter
from segdata.rle import rle_encode


def image(number: int) -> PredictedImage:
    return PredictedImage(id=number, file_name=f"{number}.png", width=6, height=4)


def mask(number: int) -> ImageInstances:
    """As many objects as the image's number, one pixel wide."""
    mask_HW = np.zeros((4, 6), dtype=np.bool_)
    mask_HW[:, number % 6] = True
    count = number
    return ImageInstances.of([[0, 0, 1, 4]] * count, [0.5] * count, [0] * count, (rle_encode(mask_HW),) * count)


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., Path]:
    """Writes a set of images with given numbers: `part("one", [1, 3], codec="prob8")`."""

    def write(name: str, numbers: list[int], codec: str = "coco-rle", **others: Any) -> Path:
        meta: dict[str, Any] = (
            {"task": "instance", "category_ids": (7,)} if codec == "coco-rle" else {"task": "semantic"}
        )
        meta |= {"classes": ("bag",), "dataset_fingerprint": name, "trial": name, "code_version": "1", "codec": codec}
        with PredictionWriter(tmp_path / name, PredictionMeta.model_validate(meta | others)) as writer:
            for place, number in enumerate(numbers):
                record = image(number).model_copy(update={"id": place})  # ids of a part are its own
                if codec == "coco-rle":
                    writer.add_instances(record, mask(number))
                elif codec == "prob8":
                    writer.add_packed(record, np.full((1, 4, 6), number, dtype=np.uint8))
                else:
                    writer.add_labels(record, np.zeros((4, 6), dtype=np.uint8))
        return tmp_path / name

    return write


def test_objects_follow_their_images_in_the_wanted_order_with_its_ids(
    part: Callable[..., Path], tmp_path: Path
) -> None:
    parts = [part("one", [4, 1]), part("two", [3, 0])]
    wanted = [image(number) for number in (0, 1, 3, 4)]
    out = join_predictions(parts, wanted, tmp_path / "all", fingerprint="f00d", trial="0001", files={"note": "x"})
    joined = PredictionSet.open(out)
    assert joined.meta.images == tuple(wanted)
    assert [len(joined.instances(f"{number}.png")) for number in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert joined.instances("3.png").rles == mask(3).rles
    assert (joined.meta.dataset_fingerprint, joined.meta.trial, joined.meta.category_ids) == ("f00d", "0001", (7,))
    assert (out / "note").read_text() == "x"


def test_probabilities_are_linked_not_copied(part: Callable[..., Path], tmp_path: Path) -> None:
    parts = [part("one", [2], codec="prob8"), part("two", [9], codec="prob8")]
    out = join_predictions(parts, [image(2), image(9)], tmp_path / "all", fingerprint="f00d")
    joined = PredictionSet.open(out)
    assert [int(joined.packed(f"{number}.png").max()) for number in (2, 9)] == [2, 9]
    assert os.path.samefile(out / "probabilities" / "9.npz", parts[1] / "probabilities" / "9.npz")


def test_parts_that_differ_in_a_limit_are_refused(part: Callable[..., Path], tmp_path: Path) -> None:
    parts = [part("one", [1], max_detections=100), part("two", [2], max_detections=300)]
    with pytest.raises(DatasetError, match="two: expected max_detections 100, as in .*one, but got 300"):
        join_predictions(parts, [image(1), image(2)], tmp_path / "all", fingerprint="f00d")
    assert not (tmp_path / "all").exists()


def test_an_image_in_no_part_or_in_two_is_refused(part: Callable[..., Path], tmp_path: Path) -> None:
    parts = [part("one", [1]), part("two", [1])]
    with pytest.raises(DatasetError, match=r"expected 1\.png in one part, but got it in .*one and .*two"):
        join_predictions(parts, [image(1)], tmp_path / "all", fingerprint="f00d")
    with pytest.raises(DatasetError, match=r"expected 5\.png in one part, but got it in no part"):
        join_predictions(parts[:1], [image(5)], tmp_path / "all", fingerprint="f00d")


def test_an_image_of_another_size_is_refused(part: Callable[..., Path], tmp_path: Path) -> None:
    wanted = PredictedImage(id=1, file_name="1.png", width=4, height=6)
    with pytest.raises(DatasetError, match=r"expected 1\.png with 4x6 pixels, but got 6x4"):
        join_predictions([part("one", [1])], [wanted], tmp_path / "all", fingerprint="f00d")
