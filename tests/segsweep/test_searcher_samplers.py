"""Samplers by name: their options reach Optuna, a resumed sweep goes on as an unbroken one, a grid tries all once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from pydantic import ValidationError
from ray.tune.search import Searcher

from search_spaces.space import Space
from segdata.errors import InputError
from segsweep.search.grid import MOST_COMBINATIONS, check_grid, combinations
from segsweep.search.samplers import build_sampler
from segsweep.search_config import SamplerConfig

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

Open = Callable[..., "Search"]
SpaceOf = Callable[..., Space]
MODELS: list[tuple[Any, type[BaseSampler]]] = [
    ({"tpe": {"n_startup_trials": 2}}, TPESampler),
    ("random", RandomSampler),
    ({"cmaes": {"popsize": 4}}, CmaEsSampler),
    ({"gp": {"n_startup_trials": 2}}, GPSampler),
    ({"nsga2": {"population_size": 4}}, NSGAIISampler),
]
GRID = {
    "optimizer": {"choice": ["sgd", "adamw"]},
    "lr": [
        {"choice": [0.01, 0.1], "when": {"optimizer": "sgd"}},
        {"choice": [1e-4, 2e-4, 3e-4], "when": {"optimizer": "adamw"}},
    ],
    "batch_size": {"int": [1, 2]},
}  # (2 + 3) * 2 combinations


@pytest.fixture
def mixed(space_of: SpaceOf) -> Space:
    """Numbers, a choice, and a number that exists beside one of its values only."""
    return space_of(
        {
            "lr": {"float": [1e-5, 1e-1], "log": True},
            "weight_decay": {"float": [1e-6, 1e-2], "log": True},
            "optimizer": {"choice": ["sgd", "adamw"]},
            "momentum": {"float": [0.5, 0.95], "when": {"optimizer": "sgd"}},
        }
    )


def take(search: "Search", trials: int) -> None:
    """Runs trials one at a time; the score depends on the learning rate alone."""
    for index in range(trials):
        name = f"{len(search.records())}-{index}"
        suggested = search.searcher.suggest(name)
        lr = suggested["trial"]["optimization"]["lr"]
        search.finish(name, [0.0, 0.0, lr])


@pytest.mark.parametrize(("sampler", "kind"), MODELS, ids=[kind.__name__ for _, kind in MODELS])
def test_a_search_that_is_killed_again_and_again_suggests_what_an_unbroken_one_does(
    tmp_path: Path, search: Open, mixed: Space, sampler: Any, kind: type[BaseSampler]
) -> None:
    trials = 12
    unbroken = search(folder=tmp_path / "unbroken", space=mixed, budget=trials, sampler=sampler)
    assert isinstance(unbroken.study.sampler.sampler, kind)  # type: ignore[attr-defined]
    take(unbroken, trials)
    for launch in range(4):
        broken = search(folder=tmp_path / "broken", space=mixed, budget=trials, sampler=sampler)
        take(broken, trials // 4)
        if launch % 2 and kind is not CmaEsSampler:  # which seeds itself by the trial's number, and that one is gone
            broken.study.ask()  # the driver dies while it asks
    assert [record.sample for record in broken.records()] == [record.sample for record in unbroken.records()]
    if kind in (TPESampler, RandomSampler):  # the others may come back to a point
        assert len({record.sample["lr"] for record in unbroken.records()}) == trials


def test_another_seed_suggests_something_else(tmp_path: Path, search: Open) -> None:
    drawn = []
    for seed in (1, 2):
        one = search(folder=tmp_path / str(seed), seed=seed)
        take(one, 3)
        drawn.append([record.sample["lr"] for record in one.records()])
    assert drawn[0][0] == drawn[1][0]  # the baseline
    assert drawn[0][1:] != drawn[1][1:]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("grit", r"expected one of tpe, random, grid, cmaes, gp, nsga2, but got 'grit'. Did you mean grid\?"),
        ({"tpe": {}, "gp": {}}, "expected one of .*, but got .* Name one"),
        (["tpe"], r"expected one of .*, but got \['tpe'\]. Name one"),
        ({"tpe": {"group": True, "multivariate": False}}, "expected multivariate: true beside group: true"),
        ({"cmaes": {"with_margin": True, "lr_adapt": True}}, "expected with_margin or lr_adapt, but got both"),
        ({"nsga2": {"population_size": 1}}, "greater than or equal to 2"),
        ({"tpe": {"n_startup": 3}}, "tpe.n_startup"),
    ],
)
def test_samplers_that_are_refused(written: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SamplerConfig.model_validate(written)


@pytest.mark.parametrize("written", ["tpe", {"tpe": None}, {"tpe": {"group": True}}, {"cmaes": {"lr_adapt": True}}])
def test_what_a_sweep_file_may_name_can_be_built(written: Any) -> None:
    config = SamplerConfig.model_validate(written)
    assert SamplerConfig.model_validate(config) == config
    assert SamplerConfig.model_validate_json(config.model_dump_json(exclude_unset=True)) == config
    assert build_sampler(config, 0).sampler is not None


@pytest.mark.parametrize("name", [name for name in SamplerConfig.model_fields if name != "grid"])
def test_our_defaults_are_optunas(name: str) -> None:
    """An option that is written out with its default changes nothing: the sampler equals Optuna's own."""
    ours = build_sampler(SamplerConfig.model_validate(name), 0).sampler
    stock = type(ours)()
    plain = (bool, int, float, str, type(None))
    found, expected = (
        {key: value for key, value in vars(sampler).items() if isinstance(value, plain)} for sampler in (ours, stock)
    )
    found.pop("_warn_independent_sampling", None), expected.pop("_warn_independent_sampling", None)
    assert found == expected


def test_a_grid_tries_every_combination_once_and_ends(search: Open, space_of: SpaceOf) -> None:
    one = search(space=space_of(GRID), budget=100, sampler="grid")
    assert one.searcher.left >= 10
    take(one, 10)
    assert one.searcher.suggest("end") == Searcher.FINISHED and one.searcher.left == 0
    samples = [tuple(sorted(record.sample.items())) for record in one.records()]
    assert len(samples) == len(set(samples)) == 10 == one.space.size()
    assert one.records()[0].origin == "baseline"  # one of the combinations, and not tried again


def test_a_grid_that_was_killed_goes_on_where_it_was(search: Open, space_of: SpaceOf) -> None:
    space = space_of(GRID)
    one = search(space=space, budget=100, sampler="grid")
    take(one, 3)
    one.searcher.suggest("running")
    one.study.enqueue_trial({"optimizer": "sgd", "lr[optimizer=sgd]": 0.1, "batch_size": 2})
    one.study.ask()  # the driver dies while it asks: that combination was not tried
    two = search(space=space, budget=100, sampler="grid")
    take(two, 7)
    assert two.searcher.suggest("end") == Searcher.FINISHED
    samples = {tuple(sorted(record.sample.items())) for record in two.records()}
    assert len(two.records()) == len(samples) == 10


def test_a_grid_leaves_out_what_is_forbidden(search: Open, space_of: SpaceOf) -> None:
    space = space_of(GRID, forbid=[{"optimizer": "adamw", "batch_size": 2}])
    one = search(space=space, budget=100, sampler="grid")
    take(one, 7)
    assert one.searcher.suggest("end") == Searcher.FINISHED
    assert all(trial.state == TrialState.COMPLETE for trial in one.study.get_trials())  # none was asked in vain


def test_a_grid_stops_at_the_budget_and_its_first_trials_are_spread(search: Open, space_of: SpaceOf) -> None:
    one = search(space=space_of(GRID), budget=4, sampler="grid")
    take(one, 4)
    assert one.searcher.suggest("end") == Searcher.FINISHED
    assert combinations(one.space, 7) == combinations(one.space, 7) != combinations(one.space, 8)


def test_a_grid_of_ranges_of_steps(search: Open, space_of: SpaceOf) -> None:
    space = space_of({"weight_decay": {"float": [0.5, 0.9], "step": 0.1}, "batch_size": {"int": [1, 5], "step": 2}})
    one = search(space=space, budget=100, sampler="grid")
    take_plain(one, 15)
    assert one.searcher.suggest("end") == Searcher.FINISHED
    assert {round(record.sample["weight_decay"], 6) for record in one.records()} == {0.5, 0.6, 0.7, 0.8, 0.9}


def take_plain(search: "Search", trials: int) -> None:
    for index in range(trials):
        search.searcher.suggest(str(index))
        search.finish(str(index), [0.1, 0.2, 0.3])


def test_a_grid_of_real_numbers_is_refused_by_name(mixed: Space) -> None:
    grid = SamplerConfig.model_validate("grid")
    with pytest.raises(
        InputError,
        match=r"a.yaml: search.sampler: expected a list of values for every knob.*lr, weight_decay, momentum.*step or",
    ):
        check_grid(grid, mixed, "a.yaml")
    check_grid(SamplerConfig.model_validate("tpe"), mixed, "a.yaml")


def test_a_grid_that_is_too_large_is_refused_with_its_size(space_of: SpaceOf) -> None:
    space = space_of({"batch_size": {"int": [1, 1000]}, "max_iters": {"int": [1, 1000]}}, validation_iters=1)
    with pytest.raises(InputError, match=f"at most {MOST_COMBINATIONS} combinations for grid, but got 1000000"):
        check_grid(SamplerConfig.model_validate("grid"), space, None)
