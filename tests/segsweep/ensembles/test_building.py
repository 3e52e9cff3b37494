"""Which ensembles are made of what, before anything is predicted."""

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ensembling.settings import FusionSettings
from segdata.errors import InputError
from segdata.views import View
from segsweep.ensembles.building import best_choice, folder_name, recipes
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.judge import Judge
from segsweep.ensembles.library import Entry, named_once, seen_through
from segsweep.ensembles.refusals import refuse_request
from segsweep.ensembles.rows import ScoreRow
from segsweep.ensembles.sources import Gathered
from segsweep.prediction_source import Network

PLAIN, FLIPPED = View(), View.parse("hflip")


def entry(name: str, networks: int = 1) -> Entry:
    return Entry(name, tuple(Network(Path(f"{name}/config.py"), Path(f"{name}/{n}.pth")) for n in range(networks)))


def judge() -> Judge:
    return Judge("val", None, lambda entry: Path(entry.name))  # type: ignore[arg-type]


TRIALS = (entry("0001"), entry("0000"))
TOOL = Entry("tool", given={"test": Path("tool-test")})


def test_an_entry_is_seen_through_each_view_and_another_tool_as_it_is() -> None:
    seen = seen_through((TRIALS[0], TOOL), (PLAIN, FLIPPED))
    assert [(one.name, str(one.view)) for one in seen] == [
        ("0001", "plain"),
        ("0001 hflip", "hflip"),
        ("tool", "plain"),
    ]
    assert seen[0].models == seen[1].models != TOOL.models  # one network through two views is one model


def test_folds_count_as_so_many_models() -> None:
    assert len(set(entry("0001 folds", networks=5).models)) == 5


def test_names_of_members_differ() -> None:
    with pytest.raises(InputError, match="--add: expected names that differ, but got '0001' for two members"):
        named_once((*TRIALS, Entry("0001", given={})))


def test_each_method_makes_views_of_the_best_all_and_the_chosen() -> None:
    config = EnsembleConfig(tta=("hflip",))
    made = list(recipes(("wbf", "nms"), config, Gathered(TRIALS, TRIALS, judge())))
    assert [one.name for one in made] == [
        *("wbf of views", "wbf of all", "wbf chosen"),
        *("nms of views", "nms of all", "nms chosen"),
    ]
    assert [one.name for one in made[0].entries] == ["0001", "0001 hflip"]
    assert [one.name for one in made[1].entries] == ["0001", "0000"]
    assert [one.name for one in made[2].entries] == ["0001", "0001 hflip", "0000", "0000 hflip"]
    assert [one.greedy for one in made[:3]] == [False, False, True]


def test_nothing_is_chosen_without_images_to_choose_on() -> None:
    found = Gathered(TRIALS, TRIALS, None)
    assert [one.name for one in recipes(("wbf",), EnsembleConfig(), found)] == ["wbf of all"]


def test_members_are_shown_once_singles_first() -> None:
    folds = (entry("0001 folds", 2), TOOL)
    found = Gathered((*TRIALS, TOOL), folds, None)
    assert [one.name for one in found.shown] == ["0001", "0000", "tool", "0001 folds"]


def test_the_folder_says_what_the_members_are_and_tells_requests_apart() -> None:
    assert folder_name(EnsembleConfig(top=2), "test") == "test-top2"
    assert folder_name(EnsembleConfig(top=2, select=("all",), methods=("nms",)), "test") == "test-top2"
    config = EnsembleConfig(top=5, tta=("hflip",), folds=4)
    assert re.fullmatch("select-top5-tta-folds-[0-9a-f]{6}", folder_name(config, "select"))
    others = [config.model_copy(update=more) for more in ({"folds": 5}, {"most_models": 2}, {"tta": ("vflip",)})]
    assert len({folder_name(one, "select") for one in (config, *others)}) == 4


def row(name: str, score: float, models: int = 1, milliseconds: float | None = None) -> ScoreRow:
    selection: Any = SimpleNamespace(score=score)
    return ScoreRow(name, Path(), {}, models=models, milliseconds=milliseconds, selection=selection)


def test_the_best_where_choices_were_made_within_the_limits_is_chosen() -> None:
    rows = [row("all", 0.6, 5, 90.0), row("few", 0.5, 2, 40.0), row("none", math.nan), ScoreRow("fused", Path(), {})]
    assert best_choice(rows, "max", EnsembleConfig()) == "all"
    assert best_choice(rows, "min", EnsembleConfig()) == "few"
    assert best_choice(rows, "max", EnsembleConfig(most_models=2)) == "few"
    assert best_choice(rows, "max", EnsembleConfig(most_milliseconds=50)) == "few"
    assert best_choice(rows, "max", EnsembleConfig(most_milliseconds=10)) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"folds": 2, "epochs": True}, "--epochs: expected folds alone"),
        ({"folds": 2, "averages": True}, "--averages: expected folds alone"),
        ({"folds": 4, "most_models": 3}, "--most-models: expected at least 4, the networks of one configuration"),
        ({"stride": 4}, "--stride: expected a stride with class probabilities, but got 4 for a sweep of instances"),
        ({"add": {"tool": "preds"}, "most_milliseconds": 9}, "--most-ms: expected members whose time is known, but"),
        ({"top": 1, "select": ("all",)}, "--select: expected two candidates or more, but got one"),
        ({"top": 1, "select": ("all",), "folds": 5}, "--select: expected two candidates or more, but got one"),
    ],
)
def test_requests_whose_parts_do_not_go_together(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        refuse_request(EnsembleConfig(**keys), "instance", "test", has_judge=True)


def test_requests_whose_images_do_not_go_together() -> None:
    with pytest.raises(InputError, match="--select: expected other images than the scored ones, but got none"):
        refuse_request(EnsembleConfig(select=("greedy",)), "instance", "val", has_judge=False)
    with pytest.raises(InputError, match="--on: expected a role that folds do not train on .*but got val"):
        refuse_request(EnsembleConfig(folds=2), "instance", "val", has_judge=False)


@pytest.mark.parametrize("keys", [{}, {"stride": 4}, {"top": 1}, {"top": 1, "select": ("all",), "tta": ("hflip",)}])
def test_requests_that_can_be_met(keys: dict[str, Any]) -> None:
    refuse_request(EnsembleConfig(**keys), "semantic", "test", has_judge=True)


def test_the_defaults_of_fusion_are_those_of_an_ensemble_without_a_choice() -> None:
    assert FusionSettings(**EnsembleConfig().settings.named()) == FusionSettings()
