"""A sweep file on top of a preset: its own entries win, and the preset's are narrowed to what is left."""

from typing import Any

import pytest

from search_spaces.preset import Preset
from search_spaces.preset_merge import Merged, merge_preset, preset_space
from search_spaces.space import Space, parse_space
from segdata.errors import SpaceError


def preset(space: dict[str, Any], fixed: dict[str, Any] | None = None, **more: Any) -> Preset:
    return Preset("ready", more.pop("task", "instance"), "what", "000", space, fixed or {}, {},
                  more.pop("overrides", {}), more.pop("forbid", ()), ())  # fmt: skip


def merge(of: Preset, **own: Any) -> Merged:
    sections: dict[str, Any] = {"space": {}, "fixed": {}, "overrides": {}, "forbid": (), **own}
    return merge_preset(of, **sections)


def parse(of: Preset, **own: Any) -> Space:
    merged = merge(of, **own)
    where = merged.locator(of.name, lambda key: "sweep.yaml:1: " + ".".join(map(str, key)))
    return parse_space(merged.space, merged.overrides, merged.forbid, merged.fixed, task=of.task, where=where)


DETECTORS = preset(
    {
        "model": {"choice": ["mask-rcnn", "cascade-mask-rcnn"]},
        "backbone": {"choice": ["r50", "r101"]},
        "optimizer": {"choice": ["sgd", "adamw"]},
        "momentum": {"choice": [0.8, 0.9]},
        "lr": [
            {"when": {"optimizer": "sgd"}, "float": [1e-3, 1e-1], "log": True},
            {"when": {"optimizer": "adamw"}, "float": [1e-5, 1e-3], "log": True},
        ],
        "cascade_iou_low": {"choice": [0.3, 0.5]},
    },
    {"image_width": 64, "rcnn_positive_iou": 0.5},
)


def test_a_knob_is_narrowed_to_the_models_that_take_it() -> None:
    merged = merge(DETECTORS)
    assert merged.space["cascade_iou_low"] == {"choice": [0.3, 0.5], "when": {"model": ["cascade-mask-rcnn"]}}
    # A fixed knob that only one of two models takes becomes a case of that model.
    assert merged.space["rcnn_positive_iou"] == {"choice": [0.5], "when": {"model": ["mask-rcnn"]}}
    assert merged.fixed == {"image_width": 64}
    assert merged.space["momentum"] == {"choice": [0.8, 0.9], "when": {"optimizer": ["sgd"]}}
    space = preset_space(DETECTORS)
    assert space.complete({"model": "mask-rcnn", "backbone": "r50", "optimizer": "adamw", "lr": 1e-4,
                           "rcnn_positive_iou": 0.5})  # fmt: skip


def test_own_entries_win_whether_searched_or_fixed() -> None:
    merged = merge(DETECTORS, space={"image_width": {"choice": [64, 128]}}, fixed={"backbone": "r18"})
    assert merged.space["image_width"] == {"choice": [64, 128]}
    assert merged.fixed == {"backbone": "r18"}
    assert "backbone" not in merged.space
    assert list(merged.space)[:2] == ["model", "optimizer"]


def test_what_the_own_entries_leave_no_place_for_is_left_out() -> None:
    merged = merge(DETECTORS, fixed={"model": "mask-rcnn", "optimizer": "adamw"})
    assert set(merged.space) == {"backbone", "lr"}
    assert merged.space["lr"] == {"when": {"optimizer": ["adamw"]}, "float": [1e-5, 1e-3], "log": True}
    assert merged.fixed == {"model": "mask-rcnn", "optimizer": "adamw", "image_width": 64, "rcnn_positive_iou": 0.5}
    assert parse(DETECTORS, fixed={"model": "mask-rcnn", "optimizer": "adamw"}).baseline() == {
        "backbone": "r50", "lr": 1e-4
    }  # fmt: skip


def test_own_models_of_other_encoders_leave_the_presets_encoders_out() -> None:
    merged = merge(DETECTORS, space={"model": {"choice": ["mask-rcnn", "rtmdet-ins"]}})
    assert merged.space["backbone"] == {"choice": ["r50", "r101"], "when": {"model": ["mask-rcnn"]}}
    assert "cascade_iou_low" not in merged.space


def test_values_are_split_by_the_models_that_can_take_them() -> None:
    mixed = preset(
        {"model": {"choice": ["deeplabv3plus", "segmenter"]}, "backbone": {"choice": ["vit-t", "r50", "vit-s"]}},
        task="semantic",
    )
    assert merge(mixed).space["backbone"] == [
        {"choice": ["r50"], "when": {"model": ["deeplabv3plus"]}},
        {"choice": ["vit-t", "vit-s"], "when": {"model": ["segmenter"]}},
    ]
    assert preset_space(mixed).size() == 3


def test_a_dropped_parent_takes_its_children_with_it() -> None:
    merged = merge(DETECTORS, drop=("optimizer",))
    assert set(merged.space) == {"model", "backbone", "cascade_iou_low", "rcnn_positive_iou"}


def test_an_own_knob_that_excludes_one_of_the_preset_replaces_it() -> None:
    by_steps = preset({"max_iters": {"choice": [100, 200]}}, {"model": "mask-rcnn", "validation_iters": 50})
    assert merge(by_steps, fixed={"epochs": 3}).fixed == {"model": "mask-rcnn", "epochs": 3}
    assert merge(by_steps, fixed={"epochs": 3}).space == {}


def test_combinations_that_can_no_longer_occur_are_left_out() -> None:
    forbidding = preset(
        {"model": {"choice": ["mask-rcnn", "ms-rcnn"]}, "optimizer": {"choice": ["sgd", "adamw", "adadelta"]}},
        forbid=({"model": "ms-rcnn", "optimizer": ["sgd", "adadelta"]}, {"model": "mask-rcnn", "optimizer": "adamw"}),
    )
    own = [{"model": "ms-rcnn", "optimizer": "adamw"}]
    merged = merge(forbidding, space={"optimizer": {"choice": ["sgd", "adamw"]}}, forbid=own)
    assert merged.forbid == [
        {"model": "ms-rcnn", "optimizer": "adamw"},
        {"model": ["ms-rcnn"], "optimizer": ["sgd"]},
        {"model": ["mask-rcnn"], "optimizer": ["adamw"]},
    ]
    assert merge(forbidding, fixed={"optimizer": "sgd"}).forbid == [{"model": ["ms-rcnn"], "optimizer": ["sgd"]}]


def test_a_path_of_the_preset_is_replaced_by_an_own_one() -> None:
    paths = preset({}, {"model": "mask-rcnn"}, overrides={"model.a": 1, "model.b": {"choice": [1, 2]}})
    assert merge(paths, overrides={"model.b": 3}).overrides == {"model.a": 1, "model.b": 3}


def test_messages_say_whose_entry_is_wrong() -> None:
    with pytest.raises(SpaceError, match=r"^sweep.yaml:1: space.lr.float: expected low < high"):
        parse(DETECTORS, space={"lr": {"float": [0.1, 0.1]}})
    broken = preset({"model": {"choice": ["mask-rcnn"]}, "lr": {"float": [0.1, 0.1]}})
    with pytest.raises(SpaceError, match=r"^preset ready: space.lr.float: expected low < high"):
        parse(broken)
    with pytest.raises(SpaceError, match=r"^sweep.yaml:1: forbid.0: expected a combination that can occur"):
        parse(DETECTORS, forbid=[{"cascade_iou_low": 0.3, "rcnn_positive_iou": 0.5}])


@pytest.mark.parametrize("spec", ["mask-rcnn", ["mask-rcnn"], 5, None])
def test_an_own_entry_of_no_known_form_is_refused_as_in_any_sweep_file(spec: object) -> None:
    with pytest.raises(SpaceError, match=r"^sweep.yaml:1: space.model"):
        parse(DETECTORS, space={"model": spec})
