"""What a prediction set will need on disk, and the refusal where it is not there."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from segdata.errors import InputError
from segdata.prediction_disk import bytes_needed, refuse_too_much
from segdata.predictions import PredictedImage, PredictionMeta

META = PredictionMeta(task="semantic", classes=("a", "b", "c"), dataset_fingerprint="", code_version="t", codec="prob8")
IMAGES = [
    PredictedImage(id=number, file_name=f"{number}.png", width=1000, height=1001 if number else 600)
    for number in range(4)
]


def test_a_byte_a_class_and_stored_pixel() -> None:
    assert bytes_needed(META, IMAGES[:1]) == 3 * 1000 * 600
    coarse = META.model_copy(update={"stride": 4})
    assert bytes_needed(coarse, IMAGES) == 3 * 250 * (150 + 3 * 251)
    objects = META.model_copy(update={"task": "instance", "category_ids": (1, 2, 3), "codec": "coco-rle"})
    assert bytes_needed(objects, IMAGES) == 0


@pytest.mark.parametrize(("free", "stride"), [(10_809_000 - 1, 4), (500_000, 8), (20_000, 32)])
def test_too_little_room_is_refused_with_a_stride_that_fits(
    free: int, stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - free, free))
    assert bytes_needed(META, IMAGES) == 10_809_000
    with pytest.raises(InputError, match=rf"expected 0.0108 GB of free disk .* such as by --stride {stride},"):
        refuse_too_much(META, IMAGES, 1, tmp_path)
    assert bytes_needed(META.model_copy(update={"stride": stride}), IMAGES) <= free


def test_several_sets_need_room_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 30_000_000))
    refuse_too_much(META, IMAGES, 2, tmp_path)
    with pytest.raises(InputError, match=r"expected 0.0324 GB of free disk .* but got 0.03 GB"):
        refuse_too_much(META, IMAGES, 3, tmp_path)
