"""ASHA's rungs after a resume are those of an unbroken run, and what it then decides is the same."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search_spaces.space import Space
from segsweep.preflight import longest_plan
from segsweep.search.schedulers import build_scheduler, replay, replay_as

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

METRIC = "segm_mAP"
SCORES = {"a": [0.1, 0.2, 0.3], "b": [0.4, 0.5, 0.6], "c": [0.2, 0.25, 0.1]}
Open = Callable[..., "Search"]


def rungs(scheduler: TrialScheduler) -> list[tuple[int, list[float]]]:
    """(milestone, scores in it) of each rung; Tune offers no public reader."""
    assert isinstance(scheduler, AsyncHyperBandScheduler)
    (bracket,) = scheduler._brackets
    return sorted((int(milestone), sorted(recorded.values())) for milestone, recorded in bracket._rungs)


def feed(scheduler: TrialScheduler, tune_id: str, epoch: int, score: float) -> str:
    controller: Any = None
    trial: Any = SimpleNamespace(trial_id=tune_id)
    if epoch == 1:
        scheduler.on_trial_add(controller, trial)
    return scheduler.on_trial_result(controller, trial, {"epoch": epoch, METRIC: score})


def asha() -> TrialScheduler:
    return build_scheduler((1, 3), METRIC, "max", 9)


def test_replayed_rungs_equal_those_of_an_unbroken_run(search: Open) -> None:
    unbroken = asha()
    one = search(budget=3)
    for name, scores in SCORES.items():
        one.searcher.suggest(name)
        for epoch, score in enumerate(scores, start=1):
            feed(unbroken, name, epoch, score)
        one.finish(name, scores)
    resumed = asha()
    for record in one.records():
        replay(resumed, METRIC, record)
    assert rungs(resumed) == rungs(unbroken) == [(1, [0.1, 0.2, 0.4]), (3, [0.1, 0.3, 0.6]), (9, [])]


def test_a_resumed_scheduler_stops_what_an_unbroken_one_stops(search: Open) -> None:
    one = search(budget=3)
    for name, scores in SCORES.items():
        one.searcher.suggest(name)
        one.finish(name, scores)
    resumed = asha()
    for record in one.records():
        replay(resumed, METRIC, record)
    assert feed(resumed, "new", 1, 0.01) == TrialScheduler.STOP
    assert feed(resumed, "better", 1, 0.9) == TrialScheduler.CONTINUE


def test_a_trial_taken_up_again_is_in_its_rungs_once(search: Open) -> None:
    one = search(budget=3)
    one.searcher.suggest("a")
    one.report("a", 1, 0.1)
    two = search(budget=3, asha=(1, 3))
    two.searcher.suggest("x")  # replays under the id that Tune now knows the trial by
    assert rungs(two.scheduler) == [(1, [0.1]), (3, []), (9, [])]
    assert feed(two.scheduler, "x", 1, 0.1) == TrialScheduler.CONTINUE  # it reports its last epoch again
    assert rungs(two.scheduler) == [(1, [0.1]), (3, []), (9, [])]


def test_without_a_scheduler_nothing_stops_and_nothing_is_replayed(search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    one.finish("a", [0.1, 0.2, 0.3])
    scheduler = build_scheduler(None, METRIC, "max", 9)
    assert isinstance(scheduler, FIFOScheduler) and not isinstance(scheduler, AsyncHyperBandScheduler)
    replay_as(scheduler, METRIC, one.records()[0], "a")
    assert feed(scheduler, "b", 1, 0.0) == TrialScheduler.CONTINUE


def test_a_trial_that_reaches_its_end_is_not_stopped() -> None:
    scheduler = asha()
    assert [feed(scheduler, "a", epoch, 0.5) for epoch in range(1, 10)] == [TrialScheduler.CONTINUE] * 9


@pytest.mark.parametrize(
    ("space", "fixed", "longest"),
    [
        ({"lr": {"float": [0.1, 0.2]}}, {"epochs": 5}, 5),
        ({"epochs": {"int": [2, 4]}}, {}, 4),
        ({"epochs": {"choice": [3, 30, 12]}}, {}, 30),
        (
            {
                "optimizer": {"choice": ["sgd", "adamw"]},
                "epochs": [
                    {"int": [2, 4], "when": {"optimizer": "sgd"}},
                    {"int": [5, 7], "when": {"optimizer": "adamw"}},
                ],
            },
            {},
            12,  # the default counts too, where no case may apply
        ),
        # Plans in iterations count validations: 900 / 100, at most 1000 / 200 rounded up, and ten if nothing is said.
        ({"lr": {"float": [0.1, 0.2]}}, {"max_iters": 900, "validation_iters": 100}, 9),
        ({"max_iters": {"int": [500, 1001]}}, {"validation_iters": 200}, 6),
        ({"validation_iters": {"choice": [300, 30]}}, {"max_iters": 900}, 30),
        ({"lr": {"float": [0.1, 0.2]}}, {"max_iters": 900}, 10),
    ],
)
def test_the_last_rung_fits_the_longest_plan(
    space_of: Callable[..., Space], space: dict[str, Any], fixed: dict[str, int], longest: int
) -> None:
    assert longest_plan(space_of(space, **fixed)) == longest
