"""The section `ensemble` of a sweep file, and the command line's options in its place."""

from typing import Any

import pytest

from segdata.errors import InputError
from segsweep.cli.ensemble import OPTIONS
from segsweep.ensembles.ensemble_config import EnsembleConfig, with_options


def test_views_are_named_in_their_one_form_beside_the_plain_one() -> None:
    config = EnsembleConfig.model_validate({"tta": ["hflip+vflip", "scale1.50"]})
    assert config.tta == ("rot180", "scale1.5")
    assert [str(view) for view in config.views] == ["plain", "rot180", "scale1.5"]


def test_top_is_what_all_was_called() -> None:
    assert EnsembleConfig.model_validate({"select": "top"}).select == ("all",)
    assert EnsembleConfig().select == ("all", "greedy")


def test_options_win_over_the_sweep_file() -> None:
    config = EnsembleConfig.model_validate({"top": 5, "tta": ["hflip"], "settings": {"sigma": 0.3}})
    found = with_options(config, {"top": 2, "tta": None, "folds": 4}, OPTIONS)
    assert (found.top, found.tta, found.folds) == (2, ("hflip",), 4)
    assert found.settings.named() == {"sigma": 0.3}


def test_every_option_is_a_key_of_the_section() -> None:
    assert set(OPTIONS) == set(EnsembleConfig.model_fields) - {"settings"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta": ("rot180", "hflip+vflip")}, "--tta: expected each view beside the plain one once, but got 'rot180'"),
        ({"tta": ("plain",)}, "--tta: expected each view beside the plain one once, but got 'plain'"),
        ({"tta": ("scale9",)}, "--tta: expected a scale from 0.125 to 8, but got 'scale9'"),
        ({"folds": 1}, "--folds: expected two folds or more"),
        ({"folds": -2}, "--folds: expected greater than or equal to 0, but got -2"),
        ({"select": ("best",)}, "--select: expected 'all' or 'greedy', but got best"),
        ({"most_models": 0}, "--most-models: expected greater than or equal to 1, but got 0"),
        ({"most_milliseconds": float("nan")}, "--most-ms: expected a finite number, but got nan"),
        ({"stride": 65}, "--stride: expected less than or equal to 64, but got 65"),
        ({"add": {"../x": "preds"}}, "--add: expected a name of letters, digits"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        with_options(EnsembleConfig(), options, OPTIONS)
    assert "\n" not in str(caught.value)
