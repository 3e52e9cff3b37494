"""Limits, anchors and input size fitted to what a data set holds."""

import math
from dataclasses import replace
from typing import Any

import pytest

from search_spaces.models import MODELS
from search_spaces.trial_config import InputChoice, ModelChoice, TrialConfig
from segdata.statistics import ObjectStatistics
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.fitting import fit_input

INSTANCE = [model.name for model in MODELS.values() if model.task == "instance"]

Nested = dict[str, Any]


@pytest.fixture
def crowded(particles: DataDescription) -> DataDescription:
    """150 nuclei of 9 px and more in images of 520 x 400 px, as numbers only."""
    statistics = ObjectStatistics(
        images=24,
        objects=2400,
        objects_per_image_median=100.0,
        objects_per_image_max=150,
        object_size_px_p10=9.0,
        object_size_px_p50=14.0,
        object_size_px_p90=20.0,
        image_width_median=520.0,
        image_height_median=400.0,
        image_width_max=520,
        image_height_max=400,
    )
    return replace(particles, statistics=statistics)


def test_the_baseline_is_fitted_to_the_statistics(crowded: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice("mask-rcnn", "r50")), crowded, seed=7)
    model = config["model"]
    # 1.5 * 150 objects = 225, in steps of 50: 250. The RPN passes on twice as many and looks at four times as many,
    # but never at fewer than stock (1000 in prediction, 2000 / 1000 in training).
    assert model["test_cfg"]["rcnn"]["max_per_img"] == 250
    assert model["test_cfg"]["rpn"]["max_per_img"] == 1000
    assert model["train_cfg"]["rpn_proposal"]["nms_pre"] == 2000
    # Objects of 9 px are enlarged to 16 px: 16 / 9 = 1.778 times, within 1333 x 800 (800 / 400 = 2 at most).
    assert config["test_dataloader"]["dataset"]["pipeline"][1]["scale"] == (round(520 * 16 / 9), round(400 * 16 / 9))
    # The smallest anchor fits them on the finest level, of stride 4: 16 / 4 = 4 strides.
    assert model["rpn_head"]["anchor_generator"]["scales"] == [4.0]


def test_very_crowded_images_raise_the_limits_of_the_rpn_too(crowded: DataDescription) -> None:
    assert isinstance(crowded.statistics, ObjectStatistics)
    fuller = replace(crowded, statistics=replace(crowded.statistics, objects_per_image_max=600))
    model = build_config(TrialConfig(ModelChoice("mask-rcnn", "r50")), fuller, seed=7)["model"]
    assert model["test_cfg"]["rcnn"]["max_per_img"] == 900  # 1.5 * 600
    assert model["test_cfg"]["rpn"]["max_per_img"] == 1800
    assert model["train_cfg"]["rpn_proposal"]["nms_pre"] == 3600


@pytest.mark.parametrize(
    ("choice", "frame", "scale"),
    [
        (InputChoice(), (924, 711), 16 / 9),
        (InputChoice(image_width=1040), (1040, 800), 2.0),  # the height follows
        (InputChoice(image_height=200), (260, 200), 0.5),
        (InputChoice(image_width=1040, image_height=400), (1040, 400), 1.0),  # the tighter side decides
    ],
)
def test_input_size(choice: InputChoice, frame: tuple[int, int], scale: float, crowded: DataDescription) -> None:
    size = fit_input(choice, crowded.statistics)
    assert (size.width, size.height) == frame
    assert math.isclose(size.scale, scale)


def test_large_images_are_reduced_to_the_stock_frame(crowded: DataDescription) -> None:
    assert isinstance(crowded.statistics, ObjectStatistics)
    large = replace(crowded.statistics, image_width_median=2666.0, image_height_median=800.0)
    size = fit_input(InputChoice(), large)  # 1333 / 2666 = 0.5
    assert (size.width, size.height) == (1333, 400)


@pytest.mark.parametrize(
    ("side_px", "seen_px"),
    [(1000.0, 1000), (1600.0, 1600), (3200.0, 1600)],  # whole images would be reduced to 800
)
def test_large_images_that_are_cropped_keep_their_size(side_px: float, seen_px: int, crowded: DataDescription) -> None:
    large = replace(crowded.statistics, image_width_median=side_px, image_height_median=side_px)
    size = fit_input(InputChoice(crop_size=256), large)
    assert (size.width, size.height, size.largest_px) == (seen_px, seen_px, 256)


def with_statistics(data: DataDescription, **values: Any) -> DataDescription:
    """Returns the data with other statistics."""
    assert isinstance(data.statistics, ObjectStatistics)
    return replace(data, statistics=replace(data.statistics, **values))


LIMITS = {
    **dict.fromkeys(
        ("mask-rcnn", "cascade-mask-rcnn", "ms-rcnn", "htc", "point-rend", "detectors", "scnet"),
        {"test_cfg.rcnn.max_per_img": 900, "test_cfg.rpn.max_per_img": 1800, "test_cfg.rpn.nms_pre": 3600},
    ),
    "yolact": {
        "test_cfg.max_per_img": 900,
        "test_cfg.top_k": 1800,
        "test_cfg.nms_pre": 3600,
        "mask_head.max_masks_to_train": 900,
    },
    **dict.fromkeys(("solo", "solov2"), {"test_cfg.max_per_img": 900, "test_cfg.nms_pre": 3600}),
    "queryinst": {"test_cfg.rcnn.max_per_img": 900, "rpn_head.num_proposals": 900},
    "mask2former": {"test_cfg.max_per_image": 900, "panoptic_head.num_queries": 900},
    "rtmdet-ins": {"test_cfg.max_per_img": 900, "test_cfg.nms_pre": 3600},
    "condinst": {"test_cfg.max_per_img": 900, "test_cfg.nms_pre": 3600, "mask_head.max_masks_to_train": 900},
}


def values_of(model: Nested, paths: Nested) -> Nested:
    """What a model config holds at dotted paths."""
    found: Nested = {}
    for path in paths:
        node = model
        for key in path.split("."):
            node = node[key]
        found[path] = node
    return found


@pytest.mark.parametrize("model", INSTANCE)
def test_no_limit_is_below_the_fullest_image(model: str, particles: DataDescription) -> None:
    crowded = with_statistics(particles, objects_per_image_max=600)  # 1.5 * 600 = 900, which the regions double
    trial = TrialConfig(ModelChoice(model))
    assert values_of(build_config(trial, crowded, seed=0)["model"], LIMITS[model]) == LIMITS[model]
    chosen = trial.with_value("thresholds.detections_per_image", 900)
    assert values_of(build_config(chosen, particles, seed=0)["model"], LIMITS[model]) == LIMITS[model]


@pytest.mark.parametrize(
    ("model", "cells"),
    [("solo", 50), ("solov2", 50)],  # 800 px / 16 px
)
def test_solo_cells_are_no_larger_than_the_smallest_objects(model: str, cells: int, particles: DataDescription) -> None:
    small = with_statistics(particles, object_size_px_p10=16.0, image_width_median=800.0, image_height_median=600.0)
    head = build_config(TrialConfig(ModelChoice(model)), small, seed=0)["model"]["mask_head"]
    assert head["num_grids"][0] == cells
    assert all(fine > coarse for fine, coarse in zip(head["num_grids"], head["num_grids"][1:], strict=False))
    # A disc of 16 px covers 12 px of a map of stride 4; the stock strides would drop masks of up to 8.
    assert min(head["strides"]) == (4 if model == "solov2" else 8)
    large = with_statistics(small, object_size_px_p10=64.0)
    stock = build_config(TrialConfig(ModelChoice(model)), large, seed=0)["model"]["mask_head"]
    assert (stock["num_grids"], stock["strides"]) == ([40, 36, 24, 16, 12], [8, 8, 16, 32, 32])


def test_yolact_anchors_fit_the_smallest_objects(particles: DataDescription) -> None:
    small = with_statistics(particles, object_size_px_p10=16.0, image_width_median=800.0, image_height_median=600.0)
    anchors = build_config(TrialConfig(ModelChoice("yolact")), small, seed=0)["model"]["bbox_head"]["anchor_generator"]
    assert anchors["octave_base_scale"] == 2.0  # 16 px in strides of 8 px
