"""Images and label maps that cannot be read are named, whatever is wrong with them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from segdata.errors import TrialSiteError
from trainables.reading import ReadImage, ReadLabelMap


def write_image(path: Path) -> bytes:
    noise_HWC = np.random.default_rng(7).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), cv2.GaussianBlur(noise_HWC, (5, 5), 0))
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_a_whole_image_is_read(suffix: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"a{suffix}")
    assert ReadImage().transform({"img_path": str(tmp_path / f"a{suffix}")})["img"].shape == (96, 128, 3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_that_is_cut_short_is_named(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    whole = write_image(path)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TrialSiteError) as told:
        ReadImage().transform({"img_path": str(path)})
    assert str(told.value).startswith(f"{path}: expected a readable image, but got: no image of a known kind")


def test_a_label_map_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrialSiteError, match="expected a readable label map, but got: No such file"):
        ReadLabelMap().transform({"seg_map_path": str(tmp_path / "a.png"), "seg_fields": []})
