"""Paths into nested configs: what they read and write, and the nearest key when they name nothing."""

from typing import Any

import pytest

from search_spaces.paths import check_path, get_path, path_exists, set_path, without_selectors
from segdata.errors import SpaceError


@pytest.fixture
def config() -> dict[str, Any]:
    return {
        "model": {
            "rcnn": [{"num": 1}, {"num": 2}, {"num": 3}],
            "head": {"num": 4},
            "scales": (4, 8),
            "milestones": [1, (2, 3)],
        },
        "pipeline": [
            {"type": "Resize", "scale": (64, 64)},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "RandomFlip"},
        ],
    }


def test_reading(config: dict[str, Any]) -> None:
    assert get_path(config, "model.head.num") == (4,)
    assert get_path(config, "model.rcnn[*].num") == (1, 2, 3)
    assert get_path(config, "model.rcnn[1].num") == (2,)
    assert get_path(config, "model.head[*].num") == (4,)
    assert get_path(config, "model.milestones[1][0]") == (2,)
    assert get_path(config, "pipeline[type=RandomFlip]") == tuple(config["pipeline"][1:])
    assert get_path(config, "+model.head.num") == (4,)


def test_writing(config: dict[str, Any]) -> None:
    set_path(config, "model.rcnn[*].num", 7)
    set_path(config, "model.rcnn[0].num", 8)
    set_path(config, "model.head[*].num", 9)
    set_path(config, "pipeline[type=Resize].scale[0]", 32)
    assert config["model"]["rcnn"] == [{"num": 8}, {"num": 7}, {"num": 7}]
    assert config["model"]["head"] == {"num": 9}
    assert config["pipeline"][0]["scale"] == (32, 64)


def test_writing_into_a_tuple_inside_a_list(config: dict[str, Any]) -> None:
    set_path(config, "model.scales[1]", 16)
    set_path(config, "model.milestones[1][0]", 5)
    assert config["model"]["scales"] == (4, 16)
    assert config["model"]["milestones"] == [1, (5, 3)]


def test_a_plus_makes_a_new_last_key_and_nothing_else(config: dict[str, Any]) -> None:
    set_path(config, "+model.rcnn[*].fresh", 1)
    assert [stage["fresh"] for stage in config["model"]["rcnn"]] == [1, 1, 1]
    with pytest.raises(SpaceError, match=r"got model.haed. The nearest is model.head"):
        set_path(config, "+model.haed.fresh", 1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("modle.head.num", "expected an existing key, but got modle. The nearest is model"),
        ("model.head.nmu", "but got model.head.nmu. The nearest is model.head.num"),
        ("model.head.other", "but got model.head.other. There are num"),
        ("model.rcnn[3].num", r"expected an element model.rcnn\[3\], but got none in 3"),
        ("model.rcnn.num", r"expected a dict that holds model.rcnn.num, but got a list. Name an element by \[0\]"),
        ("model.head.num.deep", "expected a dict that holds model.head.num.deep, but got int 4"),
        ("model.head[0]", r"expected a list before \[0\] of model.head\[0\], but got dict"),
        ("model.rcnn[x]", r"expected \[0\], \[\*\] or \[type=Name\], but got \[x\]"),
        ("pipeline[type=Flip].prob", r"expected an element pipeline\[type=Flip\], but got none in 3"),
        ("pipeline[*].prob", "got pipeline"),
    ],
)
def test_paths_that_name_nothing(config: dict[str, Any], path: str, message: str) -> None:
    before = repr(config)
    assert not path_exists(config, path)
    with pytest.raises(SpaceError, match="knob x of model y: .*" + message):
        get_path(config, path, what="knob x of model y")
    with pytest.raises(SpaceError, match=message):
        set_path(config, path, 1)
    assert repr(config) == before


@pytest.mark.parametrize("path", ["", "a..b", ".a", "a.", "a[", "a[]", "a]b", "a.[0]", "++a"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(SpaceError, match="expected a config path such as"):
        check_path(path)


def test_paths_without_selectors_compare() -> None:
    assert without_selectors("+model.rcnn[*].num") == without_selectors("model.rcnn[0].num") == "model.rcnn.num"
