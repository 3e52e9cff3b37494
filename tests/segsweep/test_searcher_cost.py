"""What a trial costs the searcher does not grow with the number of trials (times: benchmarks/)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

Open = Callable[..., "Search"]


def test_no_step_of_a_trial_looks_through_all_others(search: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a trial costs must not grow with their number; the samplers' own looks are their business."""
    one = search(budget=5, sampler="random", patience=5)
    one.searcher.suggest("first")  # a launch looks once
    one.finish("first", [0.1, 0.2, 0.3])
    with monkeypatch.context() as patch:
        patch.setattr(one.study, "get_trials", lambda *args, **options: pytest.fail("it looked"))
        for name in "abc":
            one.searcher.suggest(name)
            one.finish(name, [0.1, 0.2, 0.3])
            assert one.searcher.spent() is None
    assert [record.outcome for record in one.records()] == ["completed"] * 4


def test_the_record_of_an_ended_trial_is_made_once(search: Open) -> None:
    one = search(budget=3)
    one.searcher.suggest("a")
    one.finish("a", [0.1, 0.2, 0.3])
    one.searcher.suggest("b")
    first, running = one.records()
    one.report("b", 1, 0.4)
    assert one.records()[0] is first
    assert running.scores == {} and one.records()[1].scores == {1: 0.4}
