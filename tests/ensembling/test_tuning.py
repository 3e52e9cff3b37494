"""Fusion settings are chosen by score on labelled images, and the defaults stay unless something is better."""

import numpy as np
import pytest

from ensembling.settings import FusionSettings
from ensembling.tuning import CANDIDATES, tune_settings
from segdata.instances import Category, ImageRecord, InstanceDataset, ObjectRecord
from segdata.predictions import ImageInstances, PredictedImage, PredictionMeta, PredictionWriter
from segdata.rle import rle_area, rle_bbox, rle_encode
from segscore.metrics import score_predictions

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
    def score(found):
        return score_predictions(truth, found)["segm_mAP"]

    return tune_settings(members, method="wbf", weights=None, score=score)


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


def test_fixed_settings_hold_for_all_candidates_and_are_tried_once(tmp_path):
    members = [member(tmp_path / "a", square(10, 10, 30))]
    tried = []

    def score(found):
        tried.append(found.meta.mask_threshold)
        return 1.0

    fixed = {"mask_threshold": 0.7, "merge_own": True}
    found = tune_settings(members, method="wbf", weights=None, score=score, fixed=fixed)
    assert tried == [0.7, 0.7]  # IoU 0.55 and 0.65
    assert found.settings == FusionSettings(mask_threshold=0.7, merge_own=True)


def test_the_lowest_score_wins_where_less_is_better_and_no_score_never_does(tmp_path):
    """Six candidates: IoU 0.55 or 0.65 beside mask thresholds 0.5, 0.4 and 0.3."""
    members = [member(tmp_path / "a", square(10, 10, 30))]
    errors = iter([0.4, float("nan"), 0.2, 0.3, 0.2, 0.9])
    found = tune_settings(members, method="wbf", weights=None, score=lambda _: next(errors), mode="min")
    assert found.settings == CANDIDATES["wbf"][2]
    assert (found.score, found.default_score) == (0.2, 0.4)
