"""How a budget is extended and recorded, and when a sweep counts as over."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from search_spaces.space import Space
from segdata.errors import InputError
from segsweep.ending import Extension, extended, over, record_end, record_extension
from segsweep.search.budget import Spent
from segsweep.search.study import read_study
from segsweep.search_config import BudgetConfig
from segsweep.sweep_config import SweepConfig
from segsweep.sweep_file import Sweep, SweepData

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

Open = Callable[..., "Search"]
WRITTEN = BudgetConfig(trials=40, hours=12, patience=5)


def sweep_of(space: Space, **keys: Any) -> Sweep:
    """A sweep whose data nobody looks at."""
    role = {"annotations": "a.json", "images": "a"}
    values = {"name": "a", "task": "instance", "data": {"train": role, "val": role}, "budget": {"trials": 4}} | keys
    config = SweepConfig.model_validate(values)
    here = Path("/nowhere")
    return Sweep(config, None, here, "a", SweepData({}), space, here, "sqlite:///a.db")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"trials": "+40"}, {"trials": 80}),
        ({"trials": "80", "patience": "+3"}, {"trials": 80, "patience": 8}),
        ({"hours": "+0.5"}, {"hours": 12.5}),
        ({"device_hours": "100"}, {"device_hours": 100.0}),
        ({}, {}),
    ],
)
def test_a_budget_is_extended_by_a_number_or_on_top(given: dict[str, str], expected: dict[str, float]) -> None:
    found = Extension(**given).applied(WRITTEN)
    assert found == WRITTEN.model_copy(update=expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trials": "many"}, r"--trials: expected a whole number, or \+ and a whole number, but got 'many'"),
        ({"trials": "1.5"}, "--trials: expected a whole number"),
        ({"hours": "soon"}, r"--hours: expected a number, or \+ and a number, but got 'soon'. Write 80 or \+40"),
        ({"device_hours": "+3"}, r"--device-hours: expected a number without \+, as the sweep has no budget.device_ho"),
        ({"trials": "0"}, "--trials: expected greater than or equal to 1, but got 0"),
        ({"patience": "-2"}, "--patience: expected greater than or equal to 1, but got -2"),
        ({"hours": "nan"}, "--hours: expected a finite number, but got nan"),
    ],
)
def test_extensions_that_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Extension(**given).applied(WRITTEN)


def test_the_study_remembers_an_extension_and_adds_the_next_to_it(tmp_path: Path, search: Open, space: Space) -> None:
    one, sweep = search(), sweep_of(space)
    for trials in (14, 24):
        larger = extended(sweep, one.study, Extension(trials="+10"))
        assert larger.config.budget.trials == trials
        record_extension(one.study, sweep.config.budget, larger.config.budget)
    study = read_study(tmp_path / "study.journal")
    assert study.user_attrs["budget"] == {"trials": 24}
    assert extended(sweep, study).config.budget.trials == 24
    assert sweep.config.budget.trials == 4


def test_without_an_extension_nothing_is_recorded(search: Open, space: Space) -> None:
    one, sweep = search(), sweep_of(space)
    record_extension(one.study, sweep.config.budget, extended(sweep, one.study).config.budget)
    assert one.study.user_attrs == {}


def test_a_sweep_is_over_when_its_budget_is_and_nothing_runs(search: Open, space: Space) -> None:
    one, sweep = search(patience=2), sweep_of(space, budget={"trials": 4, "patience": 2})
    for best in (0.3, 0.2):
        one.searcher.suggest("a")
        one.finish("a", [0.0, best, 0.0])
        assert over(sweep, one.study) is None
    one.searcher.suggest("b")
    one.searcher.suggest("c")
    one.finish("b", [0.1, 0.1, 0.1])
    assert over(sweep, one.study) is None  # c still runs
    one.searcher.end_unfinished("patience")
    spent = over(sweep, one.study)
    assert spent == Spent("finished", "all 4 trials have ended")
    more = replace(sweep, config=sweep.config.model_copy(update={"budget": BudgetConfig(trials=9, patience=2)}))
    again = over(more, one.study)
    assert again is not None and again.end == "out-of-patience"
    record_end(one.study, again)
    assert one.study.user_attrs["end"] == {"kind": "out-of-patience", "reason": again.reason}


def test_a_grid_is_over_when_all_combinations_have_been_tried(search: Open, space_of: Callable[..., Space]) -> None:
    space = space_of({"batch_size": {"choice": [1, 2]}})
    one = search(space=space, sampler="grid", budget=100)
    sweep = sweep_of(space, budget={"trials": 100}, search={"sampler": "grid"})
    for _ in range(2):
        assert over(sweep, one.study) is None
        one.searcher.suggest("a")
        one.finish("a", [0.1, 0.2, 0.3])
    assert over(sweep, one.study) == Spent("finished", "all 2 combinations of the grid have been tried")
