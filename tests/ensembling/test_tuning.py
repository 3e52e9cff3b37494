"""Fusion settings are chosen by score on labelled images, and the defaults stay unless something is better."""

import numpy as np
import pytest

from ensembling.settings import FusionSettings
from ensembling.tuning import CANDIDATES, tune_settings
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionWriter
from segdata.rle import rle_area, rle_bbox, rle_encode

SIDE = 64
IMAGE = PredictedImage(id=1, file_name="a.png", width=SIDE, height=SIDE)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask_HW = np.zeros((SIDE, SIDE), dtype=bool)
    mask_HW[y : y + side, x : x + side] = True
    return mask_HW


def truth_of(mask_HW: np.ndarray) -> InstanceDataset:
    rle = rle_encode(mask_HW)
    objects = (ObjectRecord(1, 1, 1, rle, rle_bbox(rle), float(rle_area(rle)), False),)
    return InstanceDataset((ImageRecord(1, "a.png", SIDE, SIDE),), (Category(1, "thing"),), objects)


def member(path, mask_HW: np.ndarray, confidence: float = 0.9):
    meta = PredictionMeta(
        task="instance",
        classes=("thing",),
        category_ids=(1,),
        dataset_fingerprint="f",
        code_version="0",
        codec="coco-rle",
    )
    rle = rle_encode(mask_HW)
    x, y, width, height = rle_bbox(rle)
    with PredictionWriter(path, meta) as writer:
        writer.add_instances(IMAGE, ImageInstances.of([[x, y, x + width, y + height]], [confidence], [0], (rle,)))
    return path


def tuned(members, truth):
    return tune_settings(members, truth, method="wbf", weights=None, metric="segm_mAP")


def test_the_defaults_stay_when_nothing_is_better(tmp_path):
    mask_HW = square(10, 10, 30)
    members = [member(tmp_path / name, mask_HW) for name in "abc"]
    found = tuned(members, truth_of(mask_HW))
    assert found.settings == CANDIDATES["wbf"][0] == FusionSettings()
    assert found.score == found.default_score == 1.0


def test_masks_that_most_members_cut_short_need_a_lower_threshold(tmp_path):
    """Two of three members miss two corners: a majority loses them, a third of the votes keeps them."""
    whole = square(10, 10, 30)
    short = whole & ~square(10, 10, 12) & ~square(28, 28, 12)
    members = [member(tmp_path / "a", short), member(tmp_path / "b", short), member(tmp_path / "c", whole)]
    found = tuned(members, truth_of(whole))
    assert found.settings.mask_threshold == pytest.approx(0.3)  # one vote of three
    assert found.score == 1.0
    assert found.default_score < 1.0
