"""Samples: every one of any valid space decodes, lies in it, and respects conditions and what is forbidden."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.knobs import KNOBS
from search_spaces.models import MODELS
from search_spaces.space import Space, parse_space
from search_spaces.trial_config import TrialConfig
from segdata.errors import SpaceError

LITTER: dict[str, Any] = {
    "space": {
        "model": {"choice": ["mask-rcnn", "cascade-mask-rcnn"]},
        "optimizer": {"choice": ["adamw", "sgd"]},
        "lr": [
            {"when": {"optimizer": "sgd"}, "float": [1e-3, 1e-2], "log": True},
            {"when": {"optimizer": "adamw"}, "float": [1e-5, 1e-3], "log": True},
        ],
        "epochs": {"int": [9, 11]},
        "cascade_iou_low": {"float": [0.2, 0.6], "when": {"model": "cascade-mask-rcnn"}},
    },
    "overrides": {"model.test_cfg.rcnn.mask_thr_binary": 0.4, "model.neck.num_outs": {"int": [4, 6]}},
    "forbid": [{"model": "cascade-mask-rcnn", "optimizer": "adamw"}],
    "fixed": {"image_width": 320, "init": "none"},
}

ALONE: dict[str, Any] = {"overrides": {}, "forbid": [], "fixed": {"model": "ms-rcnn"}}


def parse(sections: dict[str, Any], task: Any = "instance") -> Space:
    return parse_space(**sections, task=task, where="test")


@pytest.fixture
def litter() -> Space:
    return parse(LITTER)


SAMPLE = {"model": "mask-rcnn", "optimizer": "sgd", "lr": 0.005, "epochs": 10, "model.neck.num_outs": 5}


def test_a_sample_decodes_into_its_fields(litter: Space) -> None:
    trial = litter.decode(SAMPLE)
    assert trial.model.name == "mask-rcnn"
    assert trial.optimization.optimizer == "sgd"
    assert trial.optimization.lr == 0.005
    assert trial.schedule.epochs == 10
    assert trial.input.image_width == 320
    assert trial.thresholds.cascade_iou_low is None
    assert trial.overrides == (("model.test_cfg.rcnn.mask_thr_binary", 0.4), ("model.neck.num_outs", 5))
    assert TrialConfig.from_dict(trial.to_dict()) == trial


def test_a_sample_of_numpy_scalars_decodes_to_the_same_trial(litter: Space) -> None:
    numpy_sample = SAMPLE | {"lr": np.float64(0.005), "epochs": np.int64(10)}
    assert litter.decode(numpy_sample).hash() == litter.decode(SAMPLE).hash()


def test_complete_adds_the_fixed_knobs_and_takes_its_own_answer(litter: Space) -> None:
    complete = litter.complete(SAMPLE)
    assert complete == SAMPLE | {"image_width": 320, "init": "none"}
    assert litter.complete(complete) == complete


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": None}, "got None"),
        ({"lr": 0.5}, r"expected lr to be 0.001 to 0.01 \(log\), but got 0.5"),
        ({"epochs": 10.0}, "epochs to be 9 to 11, but got 10.0"),
        ({"optimizer": "adam"}, "but got 'adam'"),
        ({"cascade_iou_low": 0.3}, "expected no cascade_iou_low beside these values"),
        ({"epoch": 9}, r"'epoch'. Did you mean epochs\?"),
        ({"image_width": 640}, "image_width=320, which is fixed, but got 640"),
        (
            {"model": "cascade-mask-rcnn", "cascade_iou_low": 0.3, "optimizer": "adamw", "lr": 1e-4},
            "allowed combination, but got model=cascade-mask-rcnn, optimizer=adamw",
        ),
    ],
)
def test_samples_that_are_refused(litter: Space, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        litter.complete(SAMPLE | change)


def test_a_missing_value_is_refused(litter: Space) -> None:
    with pytest.raises(SpaceError, match=r"expected a value for lr \(0.001 to 0.01 \(log\)\), but got none"):
        litter.complete({name: value for name, value in SAMPLE.items() if name != "lr"})


def test_forbidden_speaks_of_partial_samples_and_fixed_knobs() -> None:
    space = parse(LITTER | {"forbid": [{"image_width": 320, "epochs": [10, 11]}]})
    assert space.forbidden({"optimizer": "sgd"}) is None
    assert space.forbidden({"epochs": 9}) is None
    assert space.forbidden({"epochs": 11}) == {"image_width": 320, "epochs": 11}


def test_an_rpn_whose_negative_threshold_exceeds_its_positive_one_is_forbidden() -> None:
    ranges = {"rpn_positive_iou": {"float": [0.2, 0.7]}, "rpn_negative_iou": {"float": [0.2, 0.7]}}
    space = parse({"space": ranges, **ALONE})
    wrong = {"rpn_positive_iou": 0.3, "rpn_negative_iou": 0.4}
    assert space.forbidden(wrong) == wrong
    assert space.forbidden({"rpn_positive_iou": 0.4, "rpn_negative_iou": 0.4}) is None
    rng = np.random.default_rng(0)
    samples = [space.sample(rng) for _ in range(100)]
    assert all(sample["rpn_negative_iou"] <= sample["rpn_positive_iou"] for sample in samples)  # type: ignore[operator]


def test_a_cascade_threshold_counts_against_the_stock_value_of_the_other() -> None:
    space = parse(LITTER | {"space": {**LITTER["space"], "cascade_iou_low": {
        "float": [0.2, 0.9], "when": {"model": "cascade-mask-rcnn"}}}})  # fmt: skip
    assert space.forbidden({"cascade_iou_low": 0.8}) == {"cascade_iou_low": 0.8, "cascade_iou_high": 0.7}


def test_the_baseline_is_the_first_model_with_stock_values(litter: Space) -> None:
    # SGD is the stock optimizer of Mask R-CNN; its stock rate 0.02 lies above the range, which ends at 0.01.
    assert litter.baseline() == {
        "model": "mask-rcnn",
        "optimizer": "sgd",
        "lr": 0.01,
        "epochs": 11,
        "model.neck.num_outs": 5,
    }


def test_the_baseline_takes_values_fitted_to_the_data() -> None:
    space = parse({"space": {"anchor_scale": {"float": [1.0, 8.0]}}, **ALONE})
    assert space.baseline() == {"anchor_scale": 8.0}
    assert space.baseline({"anchor_scale": 2.5}) == {"anchor_scale": 2.5}


def test_the_baseline_avoids_what_is_forbidden(litter: Space) -> None:
    space = parse(LITTER | {"forbid": [{"model": "mask-rcnn", "optimizer": "sgd"}]})
    assert space.baseline()["optimizer"] == "adamw"
    ranges = {"rpn_positive_iou": {"float": [0.1, 0.25]}, "rpn_negative_iou": {"float": [0.2, 0.6]}}
    ordered = parse({"space": ranges, **ALONE})
    assert ordered.baseline() == {"rpn_positive_iou": 0.25, "rpn_negative_iou": 0.2}


def test_size_counts_allowed_samples_and_is_none_for_continuous_ranges(litter: Space) -> None:
    assert litter.size() is None
    discrete = {
        "model": {"choice": ["mask-rcnn", "cascade-mask-rcnn"]},
        "optimizer": {"choice": ["adamw", "sgd"]},
        "momentum": {"choice": [0.8, 0.9, 0.95], "when": {"optimizer": "sgd"}},
        "epochs": {"int": [9, 15], "step": 2},
        "rpn_negative_iou": {"float": [0.6, 0.8], "step": 0.1},
    }
    space = parse(LITTER | {"space": discrete, "overrides": {}})
    # Models and optimizers: (mask, adamw) 1, (mask, sgd) 3, (cascade, sgd) 3; epochs 4; 0.6 and 0.7, but not 0.8 > 0.7.
    assert space.size() == 7 * 4 * 2


def _domain(draw: Any, name: str) -> dict[str, Any]:
    """Draws a domain inside the knob's own."""
    knob = KNOBS[name]
    low, high = (float(edge) for edge in knob.domain.edges()[:2])
    if draw(st.booleans()):
        return {"choice": [knob.domain.nearest(low + (high - low) * share) for share in (0.1, 0.5, 0.9)]}
    start, width = draw(st.floats(0.0, 0.4)), draw(st.floats(0.1, 0.5))
    ends = [knob.domain.nearest(low + (high - low) * share) for share in (start, start + width)]
    log = draw(st.booleans()) and ends[0] > 0  # type: ignore[operator]
    return {knob.kind(): ends, "log": log}


_NUMERIC = [
    "weight_decay",
    "batch_size",
    "epochs",
    "flip",
    "lr",
    "nms_iou",
    "anchor_scale",
    "rois_per_image",
    "image_width",
]


@st.composite
def spaces(draw: Any) -> dict[str, Any]:
    """Draws the sections of a valid instance space with conditions, cases, overrides and forbidden combinations."""
    models = draw(st.lists(st.sampled_from(["mask-rcnn", "cascade-mask-rcnn", "ms-rcnn"]), min_size=2, unique=True))
    optimizers = draw(st.lists(st.sampled_from(["sgd", "adam", "adamw", "adadelta"]), min_size=2, unique=True))
    space: dict[str, Any] = {"model": {"choice": models}, "optimizer": {"choice": optimizers}}
    for name in draw(st.lists(st.sampled_from(_NUMERIC), unique=True, max_size=5)):
        form = draw(st.sampled_from(["plain", "when", "cases"]))
        if form == "plain":
            space[name] = _domain(draw, name)
        elif form == "when":
            space[name] = _domain(draw, name) | {"when": {"optimizer": draw(st.sampled_from(optimizers))}}
        else:
            space[name] = [_domain(draw, name) | {"when": {"optimizer": optimizer}} for optimizer in optimizers]
    if "cascade-mask-rcnn" in models:
        space["cascade_iou_low"] = {"float": [0.2, 0.9], "when": {"model": "cascade-mask-rcnn"}}
        space["cascade_iou_high"] = {
            "float": [0.5, 0.95],
            "when": {"model": "cascade-mask-rcnn", "optimizer": optimizers[0]},
        }
    if "sgd" in optimizers:
        space["momentum"] = {"float": [0.5, 0.95], "when": {"optimizer": "sgd"}}
    return {
        "space": dict(draw(st.permutations(list(space.items())))),
        "overrides": {"model.neck.num_outs": {"int": [4, 6]}, "model.test_cfg.rcnn.mask_thr_binary": 0.5},
        "forbid": [{"model": models[0], "optimizer": optimizers[-1]}],
        "fixed": {"init": "none"},
    }


@settings(max_examples=60, deadline=None)
@given(spaces(), st.integers(0, 2**32 - 1))
def test_every_sample_of_a_valid_space_decodes_and_respects_it(sections: dict[str, Any], seed: int) -> None:
    space = parse(sections)
    rng = np.random.default_rng(seed)
    for sample in [space.baseline(), *(space.sample(rng) for _ in range(5))]:
        assert not (
            sample["model"] == sections["forbid"][0]["model"]
            and sample["optimizer"] == sections["forbid"][0]["optimizer"]
        )
        assert ("momentum" in sample) == (sample["optimizer"] == "sgd")
        assert ("cascade_iou_low" in sample) == (sample["model"] == "cascade-mask-rcnn")
        assert set(sample) == {item.knob for item in space.parameters if space.active(item, sample)}
        trial = space.decode(sample)
        for parameter in space.parameters:
            if space.active(parameter, sample):
                assert parameter.domain.contains(sample[parameter.knob])
                if parameter.knob in KNOBS:
                    assert trial.get(KNOBS[parameter.knob].field) == sample[parameter.knob]
        assert TrialConfig.from_dict(trial.to_dict()).hash() == trial.hash()
        if sample["model"] == "cascade-mask-rcnn":
            assert sample["cascade_iou_low"] <= sample.get("cascade_iou_high", 0.7)  # type: ignore[operator]


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_alone_makes_a_space_with_a_baseline(model: str) -> None:
    task = MODELS[model].task
    backbones = MODELS[model].backbones
    searched = {"backbone": {"choice": list(backbones)}} if backbones else {}
    space = parse({"space": searched, "overrides": {}, "forbid": [], "fixed": {"model": model}}, task)
    assert space.decode(space.baseline()).model.backbone == (backbones[0] if backbones else None)


def test_a_space_survives_pickling(litter: Space) -> None:
    assert pickle.loads(pickle.dumps(litter)) == litter
