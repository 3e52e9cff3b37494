"""A study over a space with linked values: the sampler draws what they are computed from, trials get them all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.space import Space


@pytest.fixture
def linked(space_of: Callable[..., Space]) -> Space:
    space = space_of({"batch_size": {"choice": [2, 4, 8]}, "lr": {"linked": "batch_size", "factor": 1e-3}})
    assert [parameter.knob for parameter in space.parameters] == ["batch_size"]
    return space


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_trials_get_the_linked_value_and_the_sampler_does_not_draw_it(
    search: Callable[..., Any], linked: Space, sampler: str
) -> None:
    running = search(space=linked, budget=6, sampler=sampler)
    for number in range(6):
        trial = running.searcher.suggest(f"t{number}")["trial"]["optimization"]
        assert trial["lr"] == 1e-3 * trial["batch_size"]
        running.finish(f"t{number}", [0.1, 0.2, 0.3])
    assert {name for trial in running.study.trials for name in trial.params} == {"batch_size"}


def test_a_resumed_study_takes_up_a_trial_with_its_linked_value(
    search: Callable[..., Any], linked: Space, tmp_path: Path
) -> None:
    first = search(space=linked, budget=2).searcher.suggest("a")
    again = search(space=linked, budget=2).searcher.suggest("b")
    assert again == first
    assert again["trial"]["optimization"]["lr"] == 0.002  # of the baseline's batch of two
