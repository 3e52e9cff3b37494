"""Patience and device hours: counted over all launches, and what still runs when they are over is ended."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

Open = Callable[..., "Search"]


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(search: "Search", best: float, name: str = "a") -> None:
    search.searcher.suggest(name)
    search.finish(name, [0.0, best, 0.0])


def test_patience_ends_a_search_after_so_many_trials_without_a_better_score(search: Open) -> None:
    one = search(budget=100, patience=3)
    for best in (0.3, 0.2, 0.4, 0.4, 0.1):  # equal is not better
        run(one, best)
    assert one.searcher.spent() is None
    run(one, 0.2)
    spent = one.searcher.spent()
    assert spent is not None and (spent.end, spent.reason) == (
        "out-of-patience",
        "3 trials ended without a better score (patience)",
    )
    assert one.searcher.left == 0 and one.searcher.suggest("b") == Searcher.FINISHED
    assert len(one.records()) == 6


def test_patience_is_counted_over_launches_and_can_be_raised(search: Open) -> None:
    one = search(budget=100, patience=3)
    for best in (0.3, 0.2, 0.1):
        run(one, best)
    two = search(budget=100, patience=3)
    assert two.searcher.spent() is None
    run(two, 0.1)
    assert search(budget=100, patience=3).searcher.spent() is not None
    three = search(budget=100, patience=5)
    assert three.searcher.spent() is None and three.searcher.left == 96


def test_stopped_and_crashed_trials_count_but_not_those_that_the_machines_failed(search: Open) -> None:
    one = search(budget=100, patience=2)
    run(one, 0.3)
    one.searcher.suggest("lost")
    one.searcher.on_trial_complete("lost", None, error=True)
    one.searcher.suggest("crashed")
    one.crash("crashed", "ended by SIGSEGV")
    assert one.searcher.spent() is None
    one.searcher.suggest("stopped")
    one.searcher.on_trial_complete("stopped", {"epoch": 1, "segm_mAP": 0.1, "done": True})
    assert one.searcher.spent() is not None


def test_a_better_score_of_a_stopped_trial_is_a_better_score(search: Open) -> None:
    one = search(budget=100, patience=1)
    run(one, 0.3)
    one.searcher.suggest("stopped")
    one.searcher.on_trial_complete("stopped", {"epoch": 1, "segm_mAP": 0.4, "done": True})
    assert one.searcher.spent() is None


def test_what_still_runs_is_ended_with_the_reason_and_keeps_its_scores(search: Open) -> None:
    one = search(budget=100, patience=1)
    run(one, 0.3)
    for name in "bcd":
        one.searcher.suggest(name)
    one.report("c", 1, 0.9)  # a running trial's score is not counted: it may yet be beaten by its own end
    one.finish("b", [0.1, 0.1, 0.1])
    spent = one.searcher.spent()
    assert spent is not None
    one.searcher.end_unfinished(spent.reason)
    ends = [(record.outcome, record.reason, dict(record.scores)) for record in one.records()[2:]]
    assert ends == [("stopped", spent.reason, {1: 0.9}), ("failed", spent.reason, {})]
    assert [trial.state for trial in one.study.get_trials()[2:]] == [TrialState.PRUNED, TrialState.FAIL]
    assert [record.number for record in one.witness.ended] == [0, 1, 2, 3]


def test_what_a_killed_driver_left_running_is_ended_too(search: Open) -> None:
    one = search(budget=100, patience=1)
    for name in "abc":
        one.searcher.suggest(name)
    one.report("c", 1, 0.1)
    one.finish("a", [0.1, 0.2, 0.3])
    one.finish("b", [0.1, 0.2, 0.3])
    two = search(budget=100, patience=1)
    assert two.searcher.suggest("x") == Searcher.FINISHED
    two.searcher.end_unfinished("over")
    assert [record.outcome for record in two.records()] == ["completed", "completed", "stopped"]


def test_device_hours_add_up_over_running_and_ended_trials(search: Open) -> None:
    clock = Clock()
    one = search(budget=100, device_hours=3, clock=clock)  # two devices a trial
    one.searcher.suggest("a")
    clock.now = 1800.0
    one.finish("a", [0.1, 0.2, 0.3])  # half an hour on two: 1
    assert one.records()[0].device_s == 3600.0
    one.searcher.suggest("b")
    one.searcher.suggest("c")
    clock.now = 1800.0 + 1799.0
    assert one.searcher.spent() is None
    clock.now = 1800.0 + 1800.0  # twice half an hour on two: 2
    spent = one.searcher.spent()
    assert spent is not None and (spent.end, spent.reason) == (
        "out-of-device-hours",
        "the trials took 3 of 3 device hours",
    )


def test_device_hours_survive_a_kill_up_to_the_last_epoch_and_leave_out_the_time_between(search: Open) -> None:
    clock = Clock()
    one = search(budget=100, device_hours=10, clock=clock)
    one.searcher.suggest("a")
    clock.now = 3600.0
    one.report("a", 1, 0.1)
    clock.now = 4000.0  # killed here; taken up again much later
    two = search(budget=100, device_hours=10, clock=clock)
    clock.now = 1e6
    two.searcher.suggest("a")
    clock.now = 1e6 + 3600.0
    two.finish("a", [0.1, 0.2, 0.3])
    assert two.records()[0].device_s == 2 * 7200.0


@pytest.mark.parametrize("patience", [None, 1000])
def test_without_a_limit_nothing_is_spent(search: Open, patience: int | None) -> None:
    one = search(budget=3, patience=patience)
    for _ in range(3):
        run(one, math.nan)
    assert one.searcher.spent() is None and one.searcher.suggest("x") == Searcher.FINISHED


def test_waiting_for_a_node_is_not_counted_and_a_second_node_goes_on_counting(search: Open) -> None:
    clock = Clock()
    one = search(budget=100, device_hours=10, clock=clock)
    one.searcher.suggest("a")
    clock.now = 3600.0
    one.searcher.trial_placed("a")  # an hour until the autoscaler had a node
    clock.now = 5400.0
    one.searcher.trial_placed("a")  # its node was lost, it went on elsewhere
    clock.now = 7200.0
    one.finish("a", [0.1, 0.2, 0.3])
    assert one.records()[0].device_s == 7200.0  # an hour on two devices


def test_device_hours_of_models_with_other_devices(search: Open) -> None:
    clock = Clock()
    one = search(budget=100, device_hours=10, clock=clock)
    one.searcher.devices_by_model = {"mask-rcnn": 8.0}
    one.searcher.suggest("a")
    clock.now = 1800.0
    one.finish("a", [0.1, 0.2, 0.3])
    assert one.records()[0].device_s == 4 * 3600.0
