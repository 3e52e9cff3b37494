"""Methods and settings of fusion as sweep files and the command line name them."""

import dataclasses
import re
from typing import get_args, get_type_hints

import pytest

from ensembling import METHODS, FusionSettings
from segdata.errors import InputError
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.fusion_config import FusionConfig, read_settings
from segsweep.sweep_config import ENSEMBLE_METHODS


def test_sweep_files_know_the_methods_that_there_are() -> None:
    for task, known in ENSEMBLE_METHODS.items():
        assert known == tuple(name for name, method in METHODS.items() if method.task == task)


def test_sweep_files_know_the_settings_that_there_are() -> None:
    assert list(FusionConfig.model_fields) == [field.name for field in dataclasses.fields(FusionSettings)]
    for name, kind in get_type_hints(FusionSettings).items():
        if words := get_args(kind):  # a Literal; ours adds None
            assert get_args(get_args(get_type_hints(FusionConfig)[name])[0]) == words


def test_only_settings_that_are_named_are_fixed() -> None:
    config = EnsembleConfig.model_validate({"settings": {"overlap": "box", "iou_threshold": 0}})
    assert FusionSettings(**config.settings.named()) == FusionSettings(overlap="box", iou_threshold=0.0)


def test_settings_of_the_command_line() -> None:
    pairs = ["overlap=box", "sigma=0.3", "merge_own=true"]
    assert read_settings(pairs).named() == {"overlap": "box", "sigma": 0.3, "merge_own": True}


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("overlap", "--setting: expected NAME=VALUE with a setting of fusion, but got 'overlap'"),
        ("ovrlap=box", "--setting: expected NAME=VALUE with a setting of fusion, but got 'ovrlap=box'. .*overlap"),
        ("overlap=area", "--setting overlap: expected 'mask' or 'box', but got 'area'"),
        ("iou_threshold=1", "--setting iou_threshold: expected less than 1, but got 1"),
        ("merge_own=perhaps", "--setting merge_own: expected a valid boolean, but got 'perhaps'"),
    ],
)
def test_wrong_settings_of_the_command_line_are_refused(pair: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings([pair])


@pytest.mark.parametrize("value", [{"iou_threshold": 1.0}, {"mask_threshold": 0}, {"sigma": 0}, {"mean": "harmonic"}])
def test_what_a_sweep_file_refuses_the_settings_refuse(value: dict[str, object]) -> None:
    name = next(iter(value))
    with pytest.raises(ValueError, match=re.escape(name)):
        FusionConfig.model_validate(value)
    with pytest.raises(InputError, match=f"fusion setting {name}"):
        FusionSettings(**value)  # type: ignore[arg-type]
