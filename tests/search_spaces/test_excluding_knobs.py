"""Plans in epochs and in iterations exclude each other; options of one shape or one loss need that shape or loss."""

from typing import Any

import pytest

from search_spaces.space import Space, parse_space
from search_spaces.trial_config import TrialConfig
from segdata.errors import SpaceError

BY_OPTIMIZER = {"optimizer": {"choice": ["sgd", "adamw"]}}


def semantic(space: dict[str, Any], **fixed: Any) -> Space:
    return parse_space(space, {}, [], {"model": "segformer"} | fixed, task="semantic", where="test")


@pytest.mark.parametrize(
    ("space", "fixed", "message"),
    [
        ({}, {"epochs": 3, "max_iters": 100}, r"fixed.epochs: expected epochs or max_iters in a trial, but got both"),
        (
            {"max_iters": {"int": [50, 100]}},
            {"epochs": 3},
            "space.max_iters: expected max_iters or epochs in a trial, but got both. Remove one, or give .* its `when`",
        ),
        (
            {**BY_OPTIMIZER, "max_iters": {"int": [50, 100], "when": {"optimizer": "sgd"}}},
            {"validation_interval": 2},
            "space.max_iters: expected max_iters or validation_interval in a trial",
        ),
        ({"validation_iters": {"choice": [10, 20]}}, {}, "expected max_iters beside validation_iters, but got none"),
        ({"step_1": {"float": [0.5, 0.9]}}, {}, "step_1 with schedule left to the model .*fix schedule: step"),
        ({"poly_power": {"float": [0.5, 0.9]}}, {"schedule": "cosine"}, "poly_power with schedule cosine"),
        ({"plateau_patience": {"int": [1, 3]}}, {"schedule": "step"}, "plateau_patience with schedule step"),
        ({"focal_gamma": {"float": [1, 3]}}, {"loss": "ce+dice"}, "focal_gamma with loss ce.dice"),
        ({"loss_mix": {"float": [0, 1]}}, {}, "loss_mix with loss ce "),
        ({"class_balance": {"choice": ["none", "median"]}}, {"loss": "dice"}, "class_balance with loss dice"),
        ({"momentum": {"float": [0.5, 0.9]}}, {"optimizer": "adamp"}, "momentum with optimizer adamp"),
        ({"loss_class_weight": {"float": [0, 2]}}, {}, "a knob of the task semantic, .*loss_class_weight"),
        (
            {"step_1": {"float": [0.95, 0.99]}},
            {"schedule": "step"},
            "expected step_1 <= step_2, but got at least 0.95 against at most 0.91",
        ),
    ],
)
def test_a_knob_that_would_have_no_effect_is_refused(
    space: dict[str, Any], fixed: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        semantic(space, **fixed)


def test_a_space_may_hold_plans_of_both_kinds_in_different_trials() -> None:
    space = semantic(
        {
            **BY_OPTIMIZER,
            "max_iters": {"int": [50, 100], "when": {"optimizer": "sgd"}},
            "epochs": {"int": [3, 5], "when": {"optimizer": "adamw"}},
        }
    )
    in_iterations = space.decode({"optimizer": "sgd", "max_iters": 95}).schedule
    in_epochs = space.decode({"optimizer": "adamw", "epochs": 4}).schedule
    assert (in_iterations.planned_epochs, in_iterations.iterations_an_epoch, in_iterations.epochs) == (10, 10, None)
    assert (in_epochs.planned_epochs, in_epochs.max_iters) == (4, None)


def test_a_trial_says_how_many_epochs_it_plans_if_nothing_was_chosen() -> None:
    assert TrialConfig().schedule.planned_epochs == 12
    with pytest.raises(ValueError, match="as many iterations an epoch as there are batches"):
        _ = TrialConfig().schedule.iterations_an_epoch


def test_the_reports_mixes_are_the_stock_ones() -> None:
    """002: (1 - IoU)*0.4 + CE*0.6; 004: CE*0.8 + Focal*0.2."""
    space = semantic({"loss": {"choice": ["ce+soft-iou", "ce+focal"]}, "loss_mix": {"float": [0.1, 0.5]}})
    assert space.baseline() == {"loss": "ce+soft-iou", "loss_mix": 0.4}
    assert semantic({"loss_mix": {"float": [0.1, 0.5]}}, loss="ce+focal").baseline() == {"loss_mix": 0.2}
