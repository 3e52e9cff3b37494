"""Which detector takes which threshold and limit, and what counts as stock for it."""

import pytest

from search_spaces.iou_thresholds import IOU_THRESHOLD_KNOBS
from search_spaces.knobs import KNOBS, takes, unordered
from search_spaces.models import MODELS
from search_spaces.space import parse_space
from segdata.errors import SpaceError

ONE_STAGE = {"yolact", "solo", "solov2", "rtmdet-ins", "condinst"}
QUERIES = {"queryinst", "mask2former"}
CASCADES = {"cascade-mask-rcnn", "htc", "detectors", "scnet"}
TWO_STAGE = {"mask-rcnn", "ms-rcnn", "point-rend"} | CASCADES
ALL = TWO_STAGE | ONE_STAGE | QUERIES

TAKEN_BY = {
    "rpn_positive_iou": TWO_STAGE | {"yolact"},
    "rpn_negative_iou": TWO_STAGE | {"yolact"},
    "rcnn_positive_iou": TWO_STAGE - CASCADES,
    "cascade_iou_low": CASCADES,
    "cascade_iou_high": CASCADES,
    "nms_iou": TWO_STAGE | ONE_STAGE - {"solo", "solov2"},  # SOLO's matrix NMS has no threshold
    "rpn_nms_iou": TWO_STAGE,
    "detections_per_image": ALL,
    "minimum_confidence": ALL,
    "anchor_scale": TWO_STAGE | {"yolact"},
    "rois_per_image": TWO_STAGE,
}


@pytest.mark.parametrize("knob", IOU_THRESHOLD_KNOBS, ids=lambda knob: knob.name)
def test_a_threshold_serves_the_models_that_have_it(knob: object) -> None:
    name = getattr(knob, "name", "")
    assert {model for model in MODELS if takes(model, KNOBS[name])} == TAKEN_BY[name]


def test_every_instance_model_is_in_one_of_the_groups() -> None:
    assert {model.name for model in MODELS.values() if model.task == "instance"} == ALL


@pytest.mark.parametrize(
    ("model", "negative", "contradicts"),
    [("mask-rcnn", 0.6, False), ("mask-rcnn", 0.75, True), ("yolact", 0.45, False), ("yolact", 0.6, True)],
)
def test_a_negative_threshold_alone_is_held_against_the_models_own_positive_one(
    model: str, negative: float, contradicts: bool
) -> None:
    # Stock positive thresholds: 0.7 of a region proposal network, 0.5 of YOLACT.
    assert (unordered({"model": model, "rpn_negative_iou": negative}) is not None) == contradicts


def test_a_range_that_always_contradicts_the_models_own_threshold_is_refused() -> None:
    space = {"rpn_negative_iou": {"float": [0.55, 0.65]}}
    parse_space(space, {}, (), {"model": "mask-rcnn"}, task="instance", where="sweep.yaml")
    with pytest.raises(
        SpaceError, match="expected rpn_negative_iou <= rpn_positive_iou, but got at least 0.55 against"
    ):
        parse_space(space, {}, (), {"model": "yolact"}, task="instance", where="sweep.yaml")


def test_a_threshold_of_another_family_is_refused() -> None:
    with pytest.raises(SpaceError, match="but got cascade_iou_low, which solov2 can't take"):
        parse_space(
            {"cascade_iou_low": {"float": [0.2, 0.5]}},
            {},
            (),
            {"model": "solov2"},
            task="instance",
            where="sweep.yaml",
        )
