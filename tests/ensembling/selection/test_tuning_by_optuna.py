"""Settings and weights by Optuna: what is tried, what stays, that the same seed tries the same."""

from dataclasses import fields

import pytest

from ensembling import METHODS, FusionSettings
from ensembling.selection.blends import Weights
from ensembling.selection.tuning import KNOBS, settings_with, tuned
from segdata.errors import InputError

NAMES = {0: "a", 4: "b"}
START = {0: 2, 4: 1}


class Worth:
    """Remembers what was tried; the nearer the mask threshold to 0.3, the better."""

    def __init__(self, constant: bool = False) -> None:
        self.tried: list[tuple[dict[int, int], FusionSettings]] = []
        self.constant = constant

    def __call__(self, weights: Weights, settings: FusionSettings) -> float:
        self.tried.append((dict(weights), settings))
        return 0.5 if self.constant else -abs(settings.mask_threshold - 0.3)


def run(worth: Worth, method: str = "wbf", trials: int = 25, seed: int = 0, **fixed: object) -> object:
    return tuned(worth, method=method, names=NAMES, weights=START, fixed=fixed, trials=trials, seed=seed)


def test_each_method_has_a_row_of_knobs_whose_defaults_are_within_reach() -> None:
    assert set(KNOBS) == set(METHODS)
    assert {knob.name for row in KNOBS.values() for knob in row} <= {field.name for field in fields(FusionSettings)}
    for row in KNOBS.values():
        for knob in row:
            default = getattr(FusionSettings(), knob.name)
            assert default in knob.values or knob.values[0] <= default <= knob.values[1]


def test_the_first_trial_is_what_it_begins_with() -> None:
    worth = Worth()
    run(worth)
    assert worth.tried[0] == worth.tried[1] == (START, FusionSettings())  # known before, and told to Optuna
    assert len(worth.tried) == 26


def test_a_better_setting_is_found() -> None:
    weights, settings = run(Worth())
    assert abs(settings.mask_threshold - 0.3) < 0.05


def test_what_it_begins_with_stays_unless_something_is_better() -> None:
    assert run(Worth(constant=True)) == (START, FusionSettings())


def test_fixed_settings_are_in_every_trial_and_free_ones_differ() -> None:
    worth = Worth()
    run(worth, iou_threshold=0.61)
    assert {settings.iou_threshold for _, settings in worth.tried} == {0.61}
    assert len({settings.mask_threshold for _, settings in worth.tried}) > 5


@pytest.mark.parametrize(("decay", "idle"), [("linear", "sigma"), ("gaussian", "iou_threshold")])
def test_a_knob_without_effect_is_not_tried(decay: str, idle: str) -> None:
    worth = Worth(constant=True)
    run(worth, "soft-nms", decay=decay)
    assert {getattr(settings, idle) for _, settings in worth.tried} == {getattr(FusionSettings(), idle)}
    free = "iou_threshold" if decay == "linear" else "sigma"
    assert len({getattr(settings, free) for _, settings in worth.tried}) > 3


def test_weights_are_tried_from_a_quarter_to_four_times_of_theirs() -> None:
    worth = Worth(constant=True)
    run(worth, "hard-vote")
    ratios = [weights[0] / weights[4] / 2 for weights, _ in worth.tried]
    assert len({round(ratio, 3) for ratio in ratios}) > 5
    assert all(1 / 17 < ratio < 17 for ratio in ratios)  # one four times, the other a quarter
    assert all(sum(weights.values()) <= 101 for weights, _ in worth.tried)


def test_the_same_seed_tries_the_same() -> None:
    runs = []
    for seed in (3, 3, 4):
        worth = Worth()
        run(worth, "soft-nms", seed=seed)
        runs.append(worth.tried)
    assert runs[0] == runs[1] != runs[2]


def test_what_has_no_score_is_never_chosen() -> None:
    def worth(weights: Weights, settings: FusionSettings) -> float:
        return 0.5 if (weights, settings) == (START, FusionSettings()) else -float("inf")

    found = tuned(worth, method="nms", names=NAMES, weights=START, fixed={}, trials=10, seed=0)
    assert found == (START, FusionSettings())


def test_nothing_to_try_tries_nothing() -> None:
    tried = []

    def worth(weights: Weights, settings: FusionSettings) -> float:
        tried.append(weights)
        return 0.5

    tuned(worth, method="hard-vote", names={0: "a"}, weights={0: 1}, fixed={}, trials=10, seed=0)
    tuned(worth, method="wbf", names=NAMES, weights=START, fixed={}, trials=0, seed=0)
    assert len(tried) == 2


def test_a_setting_of_no_method_is_refused() -> None:
    with pytest.raises(InputError, match="expected a setting of fusion .*, but got 'threshold'"):
        settings_with({"threshold": 0.5})
