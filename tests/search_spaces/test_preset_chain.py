"""Several presets as one: the later one wins, and the notes say over what."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from search_spaces.preset import PRESETS, Preset, read_preset
from search_spaces.preset_chain import chain_presets
from search_spaces.preset_merge import preset_space


def preset(name: str, space: dict[str, Any], fixed: dict[str, Any] | None = None, **more: Any) -> Preset:
    return Preset(name, "instance", f"what of {name}", f"report of {name}", space, fixed or {},
                  more.pop("rows", {}), {}, more.pop("forbid", ()), (f"beyond {name}",))  # fmt: skip


FIRST = preset(
    "first",
    {
        "model": {"choice": ["mask-rcnn", "cascade-mask-rcnn"]},
        "lr": {"float": [0.01, 0.1]},
        "cascade_iou_low": {"float": [0.3, 0.5]},
        "epochs": {"int": [9, 12]},
    },
    {"batch_size": 2},
    rows={"lr": "lr of first", "epochs": "epochs of first", "cascade_iou_low": "low of first"},
)
SECOND = preset(
    "second",
    {"lr": {"float": [0.001, 0.02]}, "max_iters": {"choice": [100, 200]}},
    {"model": "mask-rcnn", "batch_size": 2},
    rows={"lr": "lr of second"},
)


def test_what_the_later_one_says_wins_and_what_it_leaves_no_place_for_goes() -> None:
    whole, _ = chain_presets([FIRST, SECOND])
    assert whole.fixed == {"model": "mask-rcnn", "batch_size": 2}
    assert whole.space == {"lr": {"float": [0.001, 0.02]}, "max_iters": {"choice": [100, 200]}}
    assert whole.rows == {"lr": "lr of second"}
    assert whole.beyond == ("beyond first", "beyond second")


def test_the_notes_name_what_was_won_and_what_went_but_not_what_both_say() -> None:
    _, notes = chain_presets([FIRST, SECOND])
    assert notes == ("preset second wins over first on model, lr and leaves no place for its cascade_iou_low, epochs",)


def test_one_preset_is_itself_without_notes() -> None:
    assert chain_presets([FIRST]) == (FIRST, ())


def test_presets_that_say_the_same_have_no_notes() -> None:
    whole, notes = chain_presets([SECOND, preset("third", {}, {"batch_size": 2})])
    assert notes == ()
    assert whole.name == "second + third"


def test_the_last_of_three_wins() -> None:
    third = preset("third", {}, {"lr": 0.5})
    whole, notes = chain_presets([FIRST, SECOND, third])
    assert whole.fixed["lr"] == 0.5 and "lr" not in whole.space
    assert notes[1] == "preset third wins over first + second on lr"


@pytest.mark.parametrize(
    "names",
    [pair for pair in permutations(PRESETS, 2) if len({read_preset(name).task for name in pair}) == 1],
)
def test_the_ready_presets_can_be_put_together_in_any_order(names: tuple[str, str]) -> None:
    whole, _ = chain_presets([read_preset(name) for name in names])
    space = preset_space(whole)
    later = read_preset(names[1])
    assert set(later.space) <= {parameter.knob for parameter in space.parameters} | set(space.fixed)
    generator = np.random.default_rng(0)
    for sample in [space.baseline(), *(space.sample(generator) for _ in range(20))]:
        space.decode(sample)
