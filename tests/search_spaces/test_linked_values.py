"""Values that are computed from others: in samples, in trials, and every refusal before anything starts."""

import json
import math
from typing import Any

import numpy as np
import pytest

from search_spaces.conditions import Parameter
from search_spaces.landing import apply_landings, assert_landed
from search_spaces.space import Space, parse_space
from search_spaces.trial_config import Scalar, TrialConfig
from segdata.errors import SpaceError

BATCH = {"batch_size": {"choice": [2, 4, 8]}}
TWO_OPTIMIZERS = {"optimizer": {"choice": ["sgd", "adamw"]}}
RATIOS = "model.rpn_head.anchor_generator.ratios"


def parse(space: dict[str, Any], **sections: Any) -> Space:
    """Parses a space beside a fixed Mask R-CNN."""
    fixed = {"model": "mask-rcnn"} | sections.pop("fixed", {})
    given: dict[str, Any] = {"overrides": {}, "forbid": [], **sections}
    return parse_space(space, fixed=fixed, task="instance", where="sweep.yaml", **given)


def link(**more: Any) -> dict[str, Any]:
    return {"linked": "batch_size", **more}


def test_a_learning_rate_grows_with_the_batch() -> None:
    space = parse({**BATCH, "lr": link(factor=1e-3)})
    assert [parameter.knob for parameter in space.parameters] == ["batch_size"]
    assert space.complete({"batch_size": 8}) == {"model": "mask-rcnn", "batch_size": 8, "lr": 0.008}
    assert space.decode({"batch_size": 4}).optimization.lr == 0.004
    assert space.size() == 3


def test_it_may_be_linked_to_several_and_raised_to_a_power() -> None:
    rule = {"linked": ["batch_size", "accumulate"], "power": 0.5, "factor": 0.1}
    space = parse({**BATCH, "accumulate": {"choice": [1, 2]}, "lr": rule})
    lr = space.decode({"batch_size": 8, "accumulate": 2}).optimization.lr
    assert lr == pytest.approx(0.1 * math.sqrt(16))


def test_it_may_be_linked_to_what_is_fixed() -> None:
    assert parse({"lr": link(factor=0.01)}, fixed={"batch_size": 3}).decode({}).optimization.lr == 0.03


def test_a_variable_is_searched_and_is_no_knob() -> None:
    space = parse(
        {**BATCH, "lr": {"linked": ["rate", "batch_size"]}}, variables={"rate": {"float": [1e-4, 1e-2], "log": True}}
    )
    assert [parameter.id for parameter in space.parameters] == ["rate", "batch_size"]
    trial = space.decode({"rate": 0.002, "batch_size": 4})
    assert trial.optimization.lr == 0.008
    assert trial.overrides == ()
    assert space.baseline() == {"rate": pytest.approx(1e-3), "batch_size": 2, "lr": pytest.approx(2e-3)}


def test_a_variable_may_switch_knobs_on() -> None:
    space = parse(
        {"flip": {"choice": [0.1, 0.2], "when": {"heavy": True}}, "shear": {"choice": [0.3], "when": {"heavy": True}}},
        variables={"heavy": {"choice": [False, True]}},
    )
    assert space.size() == 3
    assert space.decode({"heavy": False}) == space.decode({"heavy": False})
    assert dict(space.decode({"heavy": True, "flip": 0.2, "shear": 0.3}).augmentation) == {"flip": 0.2, "shear": 0.3}


def test_linked_and_searched_cases_stand_side_by_side() -> None:
    space = parse(
        {
            **BATCH,
            **TWO_OPTIMIZERS,
            "lr": [
                {"when": {"optimizer": "sgd"}, "linked": "batch_size", "factor": 0.01},
                {"when": {"optimizer": "adamw"}, "float": [1e-5, 1e-3]},
            ],
        }
    )
    assert space.complete({"batch_size": 2, "optimizer": "sgd"})["lr"] == 0.02
    assert space.complete({"batch_size": 2, "optimizer": "adamw", "lr": 1e-4})["lr"] == 1e-4
    with pytest.raises(SpaceError, match="expected a value for lr"):
        space.complete({"batch_size": 2, "optimizer": "adamw"})


def test_knobs_of_whole_numbers_are_rounded() -> None:
    space = parse({"image_width": {"choice": [641]}, "image_height": {"linked": "image_width", "factor": 0.75}})
    assert space.decode({"image_width": 641}).input.image_height == 481  # 480.75


def test_samples_and_draws_hold_what_is_linked() -> None:
    space = parse({**BATCH, "lr": link(factor=1e-3)})
    generator = np.random.default_rng(0)
    for sample in [space.sample(generator) for _ in range(10)]:
        assert sample["lr"] == 1e-3 * float(sample["batch_size"])
    asked: list[str] = []

    def suggest(parameter: Parameter) -> Scalar:
        asked.append(parameter.id)
        return 8

    assert space.draw(suggest) == {"batch_size": 8, "lr": 0.008}
    assert asked == ["batch_size"]


def test_a_sample_may_repeat_what_is_linked_but_not_change_it() -> None:
    space = parse({**BATCH, "lr": link(factor=1e-3)})
    assert space.complete({"batch_size": 8, "lr": 0.008 * (1 + 1e-12)})["lr"] == 0.008
    with pytest.raises(SpaceError, match=r"sample: expected lr=0.008, which is computed .*but got 0.01. Leave it out"):
        space.complete({"batch_size": 8, "lr": 0.01})


def test_draws_in_which_linked_thresholds_are_out_of_order_are_forbidden() -> None:
    spec = {"rpn_positive_iou": {"choice": [0.5, 0.8]}, "rpn_negative_iou": {"linked": "cut", "factor": 1}}
    space = parse(spec, variables={"cut": {"choice": [0.4, 0.6]}})
    assert space.forbidden({"rpn_positive_iou": 0.5, "cut": 0.6}) == {"rpn_negative_iou": 0.6, "rpn_positive_iou": 0.5}
    assert space.size() == 3


def test_a_list_is_built_from_its_ends() -> None:
    space = parse(
        {},
        overrides={RATIOS: {"spread": [0.5, "widest"], "count": 3, "log": True}},
        variables={"widest": {"float": [1.0, 4.0]}},
    )
    assert space.decode({"widest": 2.0}).overrides == ((RATIOS, (0.5, 1.0, 2.0)),)


def test_a_list_is_evenly_spaced_unless_it_says_log() -> None:
    space = parse({}, overrides={RATIOS: {"spread": [1, 0.25], "count": 4}})
    assert space.decode({}).overrides == ((RATIOS, (1.0, 0.75, 0.5, 0.25)),)


def test_a_list_lands_whole_and_comes_back_from_json() -> None:
    trial = parse({}, overrides={"model.head.ratios": {"spread": [0, 1], "count": 3}}).decode({})
    assert TrialConfig.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial
    config: dict[str, Any] = {"model": {"head": {"ratios": [1.0]}}}
    apply_landings(config, trial)
    assert config["model"]["head"]["ratios"] == [0.0, 0.5, 1.0]
    assert_landed(config, trial)
    config["model"]["head"]["ratios"] = [0.0]
    with pytest.raises(SpaceError, match=r"expected \(0.0, 0.5, 1.0\) at model.head.ratios, but got \[0.0\]"):
        assert_landed(config, trial)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({**BATCH, "lr": link(factor=3)}, "lr.linked: expected lr to be .*but got 12 beside"),
        ({**BATCH, "lr": link(power=9e9)}, "expected lr to be .*but got inf beside batch_size=2"),
        ({"lr": link()}, "which is not in it. Add batch_size to `space` or `fixed`"),
        ({**BATCH, "lr": {"linked": "batch_sise"}}, r"lr.linked: .*Did you mean batch_size\?"),
        ({**BATCH, "lr": {"linked": "lr"}}, "lr.linked: expected another name than its own"),
        ({**BATCH, "lr": {"linked": 5}}, "lr.linked: expected the name of a knob or a list of names, but got 5"),
        ({**BATCH, "lr": {"linked": []}}, r"lr.linked: expected the name of a knob or a list of names, but got \[\]"),
        ({**BATCH, "lr": link(factor=0)}, "lr.factor: expected a number other than 0, but got 0"),
        ({**BATCH, "lr": link(facter=2)}, r"lr.facter: .*Did you mean factor\?"),
        ({**BATCH, "lr": link(float=[0, 1])}, "lr.float: .*but got 'float'. Drop it or linked"),
        ({**BATCH, "epochs": link()}, "epochs.linked: .* but got epochs, which is known"),
        ({**BATCH, "optimizer": link()}, "optimizer.linked: .* but got optimizer, which is one of"),
        ({**BATCH, "lr": {"spread": [1, 2], "count": 2}}, "lr.spread: expected one value for lr, but got a list"),
        ({**TWO_OPTIMIZERS, "lr": {"linked": "optimizer"}}, "expected a name of numbers, but got optimizer, .*'sgd'"),
        ({"flip": {"float": [0, 1]}, "lr": {"linked": "flip", "power": -1}}, "values of more than 0, but got flip=0"),
        (
            {**BATCH, "lr": link(factor=1e-3), "weight_decay": {"linked": "lr"}},
            "weight_decay.linked: .* but got lr, which is computed from others. Name what that is computed from",
        ),
        (
            {**BATCH, "lr": link(factor=1e-3), "flip": {"choice": [0.5], "when": {"lr": 0.002}}},
            "flip.when.lr: .* but got lr, which is computed from others",
        ),
        (
            {**TWO_OPTIMIZERS, "batch_size": {"choice": [2], "when": {"optimizer": "sgd"}}, "lr": link()},
            r"lr.linked: expected batch_size in every trial that has lr, .*without it \(optimizer=adamw\)",
        ),
        (
            {**BATCH, **TWO_OPTIMIZERS, "momentum": link(factor=0.1)},
            "momentum: .* but got momentum with optimizer adamw",
        ),
        (
            {
                **BATCH,
                **TWO_OPTIMIZERS,
                "lr": [
                    {"when": {"optimizer": "sgd"}, "linked": "batch_size", "factor": 1e-3},
                    {"when": {"batch_size": 2}, "float": [0.1, 1]},
                ],
            },
            "expected cases that exclude each other, but got",
        ),
        (
            {**BATCH, **TWO_OPTIMIZERS, "lr": link(factor=1e-3, when={"optimizer": "adam"})},
            "lr.when.optimizer: expected a value that optimizer can take",
        ),
    ],
)
def test_links_that_are_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^sweep.yaml: space.*{message}"):
        parse(space)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"spread": [1, 2]}, "count: expected how many values the list has, at least 2, but got None"),
        ({"spread": [1, 2], "count": 1}, "count: .*but got 1"),
        ({"spread": 5, "count": 3}, r"spread: expected \[first, last\], each a number or a name, but got 5"),
        ({"spread": [True, 2], "count": 3}, "spread: expected a number, but got True"),
        ({"spread": [0, 2], "count": 3, "log": True}, "spread: expected ends above 0 for equal ratios, but got 0"),
        ({"spread": [0, 2], "count": 3, "log": 1}, "log: expected true or false, but got 1"),
        ({"spread": [0, "wide"], "count": 3}, "spread: .* but got 'wide', which is not in it"),
    ],
)
def test_lists_that_are_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^sweep.yaml: overrides.{RATIOS}.{message}"):
        parse({}, overrides={RATIOS: spec})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"rate": {"float": [0, 1]}}, "rate: expected a variable that a `linked`, .*but got rate, which none does"),
        ({"lr": {"float": [0, 1]}}, "lr: expected a name of your own, but got lr, which is a knob"),
        ({"a.b": {"float": [0, 1]}}, "a.b: expected letters, digits and _, but got 'a.b'"),
        ({"a": link()}, "a: expected a variable with values of its own"),
        ({"a": 5}, "a: expected {choice: "),
    ],
)
def test_variables_that_are_refused(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^sweep.yaml: variables.{message}"):
        parse(BATCH, variables=variables)


def test_a_forbidden_combination_names_no_linked_value() -> None:
    with pytest.raises(SpaceError, match=r"forbid.0.lr: .* but got lr, which is computed from others"):
        parse({**BATCH, "lr": link(factor=1e-3)}, forbid=[{"lr": 0.002}])


def test_an_override_of_the_path_of_a_linked_knob_is_refused() -> None:
    with pytest.raises(SpaceError, match="expected a path that no knob of this space writes"):
        parse({**BATCH, "lr": link(factor=1e-3)}, overrides={"optim_wrapper.optimizer.lr": 0.1})
