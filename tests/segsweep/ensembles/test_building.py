"""Which ensembles are made of what, before anything is predicted."""

from pathlib import Path

import pytest

from ensembling.settings import FusionSettings
from segdata.errors import InputError
from segdata.views import View
from segsweep.ensembles.building import folder_name, recipes, refuse_nothing_to_make, refuse_stride
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.judge import Judge
from segsweep.ensembles.library import Entry, named_once, seen_through
from segsweep.ensembles.sources import Gathered, refuse_seen_candidates
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
    with pytest.raises(InputError, match="--select: expected other images than the scored ones to choose on, but got"):
        refuse_nothing_to_make(tuple(recipes(("wbf",), EnsembleConfig(select=("greedy",)), found)), found)


def test_one_candidate_is_no_ensemble() -> None:
    found = Gathered(TRIALS[:1], TRIALS[:1], judge())
    with pytest.raises(InputError, match="--select: expected two candidates or more, but got one"):
        refuse_nothing_to_make(tuple(recipes(("wbf",), EnsembleConfig(select=("all",)), found)), found)


def test_members_are_shown_once_singles_first() -> None:
    folds = (entry("0001 folds", 2), TOOL)
    found = Gathered((*TRIALS, TOOL), folds, None)
    assert [one.name for one in found.shown] == ["0001", "0000", "tool", "0001 folds"]


def test_the_folder_says_what_the_members_are() -> None:
    assert folder_name(EnsembleConfig(top=2), "test") == "test-top2"
    config = EnsembleConfig(top=5, tta=("hflip",), folds=4)
    assert folder_name(config, "select") == "select-top5-tta-folds"


@pytest.mark.parametrize(("keys", "named"), [({"epochs": True}, "--epochs"), ({"averages": True}, "--averages")])
def test_folds_go_without_what_has_seen_their_images(keys: dict[str, bool], named: str) -> None:
    with pytest.raises(InputError, match=f"{named}: expected folds alone"):
        refuse_seen_candidates(EnsembleConfig(folds=2, **keys))
    refuse_seen_candidates(EnsembleConfig(**keys))


def test_a_stride_is_of_probabilities() -> None:
    refuse_stride(4, "semantic")
    with pytest.raises(InputError, match="--stride: expected a stride with class probabilities, but got 4"):
        refuse_stride(4, "instance")


def test_the_defaults_of_fusion_are_those_of_an_ensemble_without_a_choice() -> None:
    assert FusionSettings(**EnsembleConfig().settings.named()) == FusionSettings()
