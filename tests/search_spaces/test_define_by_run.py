"""Space functions: what they suggest becomes the space that a sweep file would have written, or is refused."""

import math
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.define_by_run import read_function, unrolled
from search_spaces.sections import Sections
from search_spaces.space import parse_space
from search_spaces.space_trial import SpaceTrial
from segdata.errors import SpaceError

HERE = Path(__file__)


def unroll(function: Callable[[SpaceTrial], object]) -> Sections:
    return unrolled(function, HERE, "sweep.yaml:3: space")


def read(folder: Path, code: str, name: str = "space") -> Sections:
    file = folder / "my_space.py"
    file.write_text(textwrap.dedent(code))
    return unrolled(read_function(file, name, "sweep.yaml:3: space"), file, "sweep.yaml:3: space")


def test_what_does_not_depend_on_a_choice_has_no_when() -> None:
    def space(trial: SpaceTrial) -> dict[str, Any]:
        for name in (
            "shear",
            "rotate",
            "flip",
            "hsv",
            "gamma",
            "clahe",
            "brightness",
            "contrast",
            "equalize",
            "gauss_noise",
        ):
            trial.suggest_categorical(name, [0.0, 0.5])  # 1024 combinations, one way through
        trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        trial.suggest_int("epochs", 9, 15, step=3)
        trial.suggest_float("model.test_cfg.rcnn.score_thr", 0.0, 0.5, step=0.1)
        return {"model": "mask-rcnn", "model.test_cfg.rcnn.mask_thr_binary": 0.4}

    found = unroll(space)
    assert len(found.space) == 12
    assert found.space["shear"] == {"choice": [0.0, 0.5]}
    assert found.space["lr"] == {"float": [1e-4, 1e-2], "log": True}
    assert found.space["epochs"] == {"int": [9, 15], "step": 3}
    assert found.fixed == {"model": "mask-rcnn"}
    assert found.overrides == {
        "model.test_cfg.rcnn.score_thr": {"float": [0.0, 0.5], "step": 0.1},
        "model.test_cfg.rcnn.mask_thr_binary": 0.4,
    }


def test_branches_become_cases_by_the_choices_that_matter() -> None:
    def space(trial: SpaceTrial) -> dict[str, Any]:
        model = trial.suggest_categorical("model", ["mask-rcnn", "cascade-mask-rcnn", "ms-rcnn"])
        optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw", "adam"])
        if model == "cascade-mask-rcnn":  # looked at before, and of no matter to the learning rate
            trial.suggest_float("cascade_iou_low", 0.2, 0.5)
        if optimizer == "sgd":
            trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        else:
            trial.suggest_float("lr", 1e-5, 1e-3, log=True)
        return {"batch_size": 2}

    found = unroll(space)
    assert found.space["cascade_iou_low"] == {"float": [0.2, 0.5], "when": {"model": ["cascade-mask-rcnn"]}}
    assert found.space["lr"] == [
        {"float": [1e-3, 1e-1], "log": True, "when": {"optimizer": ["sgd"]}},
        {"float": [1e-5, 1e-3], "log": True, "when": {"optimizer": ["adamw", "adam"]}},
    ]
    space_of = parse_space(found.space, {}, [], found.fixed, task="instance", where=found.locate)
    assert space_of.decode({"model": "ms-rcnn", "optimizer": "adam", "lr": 1e-4}).optimization.lr == 1e-4


def test_a_condition_on_several_choices() -> None:
    def space(trial: SpaceTrial) -> dict[str, Any]:
        width, flip = (
            trial.suggest_int("image_width", 320, 640, step=320),
            trial.suggest_categorical("flip", [0.0, 0.5]),
        )
        if width == 640 and flip:
            trial.suggest_float("shear", 0.0, 0.5)
        return {"model": "mask-rcnn"}

    assert unroll(space).space["shear"] == {"float": [0.0, 0.5], "when": {"image_width": [640], "flip": [0.5]}}


def test_returned_values_may_depend_on_choices() -> None:
    def space(trial: SpaceTrial) -> dict[str, Any]:
        batch = trial.suggest_categorical("batch_size", [2, 4])
        return {"model": "mask-rcnn", "lr": 0.001 * batch}

    assert unroll(space).space["lr"] == [
        {"choice": [0.002], "when": {"batch_size": [2]}},
        {"choice": [0.004], "when": {"batch_size": [4]}},
    ]


LOOKS: dict[str, Callable[[Any], object]] = {
    "sum": lambda value: 0.5 + value,
    "product": lambda value: value * 2,
    "power": lambda value: 2.0**value,
    "root": math.sqrt,
    "list": lambda value: [0, 1, 2, 3, 4][value],
    "range": lambda value: list(range(value)),
    "text": lambda value: f"{value:03d}",
    "printed": str,
    "rounded": round,
    "largest": lambda value: max(3, value),
    "set": lambda value: value in {2},
    "tuple": lambda value: value in (2, 3),
    "mapping": lambda value: {2: "a"}.get(value),
    "method": lambda value: value.bit_length(),
    "array": lambda value: np.zeros(value).sum(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_whatever_is_done_with_a_choice_is_a_look(look: Callable[[Any], object]) -> None:
    def space(trial: SpaceTrial) -> dict[str, Any]:
        found = look(trial.suggest_categorical("batch_size", [2, 4]))
        return {"init": str(found)}

    plain = [str(look(2)), str(look(4))]
    found = unroll(space)
    if plain[0] == plain[1]:
        assert found.fixed == {"init": plain[0]}
    else:
        assert found.space["init"] == [
            {"choice": [plain[0]], "when": {"batch_size": [2]}},
            {"choice": [plain[1]], "when": {"batch_size": [4]}},
        ]


TEXTS: dict[str, Callable[[Any], object]] = {
    "equal": lambda value: value == "sgd",
    "other way round": lambda value: "sgd" != value,  # noqa: SIM300
    "list": lambda value: value in ["sgd"],
    "mapping": lambda value: {"sgd": 1, "adamw": 2}[value],
    "start": lambda value: value.startswith("s"),
    "written": lambda value: f"an {value}",
    "joined": lambda value: "an " + value,
    "letters": lambda value: "s" in value,
    "first": lambda value: value[0],
}


@pytest.mark.parametrize("look", TEXTS.values(), ids=TEXTS)
def test_whatever_is_done_with_a_text_is_a_look(look: Callable[[Any], object]) -> None:
    def space(trial: SpaceTrial) -> dict[str, Any]:
        return {"init": str(look(trial.suggest_categorical("optimizer", ["sgd", "adamw"])))}

    assert [case["choice"][0] for case in unroll(space).space["init"]] == [str(look("sgd")), str(look("adamw"))]


def test_a_value_has_the_class_that_it_stands_for() -> None:
    def space(trial: SpaceTrial) -> None:
        assert isinstance(trial.suggest_float("lr", 0.1, 1.0), float)
        assert isinstance(trial.suggest_categorical("optimizer", ["sgd", "adamw"]), str)

    assert len(unroll(space).space) == 2


def test_true_and_one_are_different_branches() -> None:
    def space(trial: SpaceTrial) -> dict[str, Any]:
        keep = trial.suggest_categorical("keep_ratio", [True, False])
        return {"model": "mask-rcnn", **({"image_width": 64} if keep else {"image_width": 32})}

    assert unroll(space).space["image_width"] == [
        {"choice": [64], "when": {"keep_ratio": [True]}},
        {"choice": [32], "when": {"keep_ratio": [False]}},
    ]


def test_a_name_that_is_suggested_twice_alike_is_one() -> None:
    def space(trial: SpaceTrial) -> None:
        assert trial.suggest_float("lr", 0.1, 1.0) is trial.suggest_float("lr", 0.1, 1.0)

    assert unroll(space).space == {"lr": {"float": [0.1, 1.0]}}


def test_showing_a_value_in_an_error_message_is_no_look() -> None:
    def space(trial: SpaceTrial) -> None:
        assert repr(trial.suggest_float("lr", 0.1, 1.0)) == "0.1"

    assert set(unroll(space).space) == {"lr"}


def test_messages_of_the_space_name_the_line_that_suggests(tmp_path: Path) -> None:
    code = """\
        def space(trial):
            if trial.suggest_categorical("flip", [0.0, 0.5]):
                trial.suggest_float("lr", 0.1, 1.0)
            else:
                trial.suggest_float("lr", 0.1, 100.0)
            return {"model": "mask-rcn"}
        """
    found = read(tmp_path, code)
    with pytest.raises(SpaceError, match=f"^{re.escape(str(tmp_path))}/my_space.py:5: lr: expected lr to be"):
        parse_space(found.space, {}, [], {"model": "mask-rcnn"}, task="instance", where=found.locate)
    with pytest.raises(SpaceError, match=r"^sweep.yaml:3: space: model: expected model to be .*Did you mean mask-rcnn"):
        parse_space({}, {}, [], found.fixed, task="instance", where=found.locate)


def test_the_file_may_use_its_neighbours_and_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_space.py").write_text("RATE = 0.5\n")
    code = """\
        from __future__ import annotations
        import dataclasses
        from neighbour_of_space import RATE

        @dataclasses.dataclass
        class Plan:
            rate: float = RATE

        def space(trial):
            return {"lr": Plan().rate}
        """
    assert read(tmp_path, code).fixed == {"lr": 0.5}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def spac(trial): ...",
            r"^sweep.yaml:3: space: expected a function space in .*but got none. Write def space\(tr",
        ),
        ("space = 5", "expected a function space in .*but got 5"),
        ("x = 1\ndef space(trial:", "my_space.py:2: expected a Python file that runs, but got SyntaxError"),
        ("import no_such_module_here", "my_space.py:1: .* but got ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit(3)", "my_space.py:2: expected a Python file that runs, but got SystemExit: 3"),
        (
            "def space(trial):\n    return {}['a']",
            "my_space.py:2: expected a function that returns, but got KeyError: 'a'",
        ),
        ("def space():\n    return {}", "expected a function that returns, but got TypeError"),
        ("def space(trial):\n    return [1]", r"expected fixed values {knob: value}, but it returned \[1\]"),
        ("def space(trial):\n    return {'lr': [1]}", r"expected one number, text or true/false, but got \[1\]"),
        (
            "def space(trial):\n    lr = trial.suggest_float('lr', 0.1, 1)\n    if lr > 0.5:\n        pass",
            "my_space.py:3: expected nothing to depend on the value of lr, which is a range, but it is looked at",
        ),
        (
            "def space(trial):\n    trial.suggest_float('lr', trial.suggest_float('momentum', 0.1, 0.9), 1)",
            "my_space.py:2: expected nothing to depend on the value of momentum",
        ),
        (
            "def space(trial):\n    return {'init': f'{trial.suggest_float(\"lr\", 0.1, 1)}.pth'}",
            "expected nothing to depend on the value of lr",
        ),
        (
            "def space(trial):\n    if trial.suggest_int('epochs', 1, 900) == 3: pass",
            "expected nothing to depend on the value of epochs",
        ),
        (
            "def space(trial):\n    trial.suggest_categorical('lr', [])",
            "my_space.py:2: expected choices for lr, but got non",
        ),
        (
            "def space(trial):\n    trial.suggest_categorical('lr', [None])",
            "expected one number, text or true/false, but got",
        ),
        (
            "def space(trial):\n    trial.suggest_float('lr', 0.1, 1)\n    trial.suggest_float('lr', 0.1, 2)",
            "my_space.py:3: expected one domain for lr in a run",
        ),
        (
            "def space(trial):\n    trial.suggest_float('lr', 0.1, 1)\n    return {'lr': 1}",
            "expected lr to be suggested or returned, but got both",
        ),
        (
            "def space(trial):\n    return {'lr': trial.suggest_float('momentum', 0.1, 1)}",
            "expected a value for lr, but got one that is suggested. Suggest lr itself",
        ),
        (
            "def space(trial):\n    return {'seed': sum(trial.suggest_int(f'a{i}', 0, 9) for i in range(5))}",
            "expected at most 5,000 ways through it, but got more",
        ),
        (
            "calls = []\ndef space(trial):\n    calls.append(1)\n    if len(calls) == 1:\n"
            "        trial.suggest_categorical('lr', [0.1, 0.2]) + 1",
            "expected the same way through it for the same choices, but got another",
        ),
    ],
)
def test_functions_that_are_refused(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        read(tmp_path, code)
    assert "\n" not in str(caught.value)
