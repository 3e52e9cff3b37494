"""What each rule stops, that a resume decides as an unbroken run, that plans compare by epoch, and who is exempt."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search_spaces.space import Space
from segsweep.preflight import longest_plan
from segsweep.search.schedulers import Halving, Median, SweepScheduler, bracket_of, bracket_sizes, build_scheduler
from segsweep.search.schedulers import expect as announce
from segsweep.search.study import TrialRecord
from segsweep.search_config import HyperbandConfig, SchedulerConfig

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

METRIC = "segm_mAP"
STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE
SCORES = {"a": [0.1, 0.2, 0.3], "b": [0.4, 0.5, 0.6], "c": [0.2, 0.25, 0.1]}
RULES: list[Any] = [{"asha": {}}, {"hyperband": {}}, {"median": {"min_trials": 2}}]
Open = Callable[..., "Search"]


def scheduler_of(written: Any, longest_epochs: int = 9) -> TrialScheduler:
    return build_scheduler(SchedulerConfig.model_validate(written), METRIC, "max", longest_epochs)


def record(number: int, scores: dict[int, float] | None = None, origin: str = "sampler", plan: int = 9) -> TrialRecord:
    return TrialRecord(number, origin, {}, {}, "running", "", scores or {}, None, 0.0, plan, None, place=number)


def feed(scheduler: TrialScheduler, tune_id: str, epoch: int, score: float) -> str:
    controller: Any = None
    trial: Any = SimpleNamespace(trial_id=tune_id)
    return scheduler.on_trial_result(controller, trial, {"epoch": epoch, METRIC: score})


def feed_all(scheduler: TrialScheduler, number: int, scores: list[float], origin: str = "sampler") -> list[str]:
    """Reports a trial's scores until it is stopped."""
    announce(scheduler, record(number, origin=origin), str(number))
    decisions: list[str] = []
    for epoch, score in enumerate(scores, start=1):
        decisions.append(feed(scheduler, str(number), epoch, score))
        if decisions[-1] == STOP:
            break
    return decisions


def rungs(scheduler: TrialScheduler) -> list[list[tuple[int, list[float]]]]:
    """(milestone, scores in it) of each rung of each bracket; Tune offers no public reader."""
    assert isinstance(scheduler, SweepScheduler) and isinstance(scheduler.rule, Halving)
    brackets = [bracket for inner in scheduler.rule.brackets for bracket in inner._brackets]
    return [
        sorted((int(milestone), sorted(recorded.values())) for milestone, recorded in bracket._rungs)
        for bracket in brackets
    ]


def seen(scheduler: TrialScheduler) -> Any:
    """All that a rule remembers of scores."""
    assert isinstance(scheduler, SweepScheduler)
    if isinstance(scheduler.rule, Halving):
        return rungs(scheduler)
    assert isinstance(scheduler.rule, Median)
    return sorted([row[METRIC] for row in rows] for rows in scheduler.rule.rule._results.values())


def resumed_from(search: "Search", written: Any) -> TrialScheduler:
    scheduler = scheduler_of(written)
    for known in search.records():
        announce(scheduler, known, f"study-{known.number}")
    return scheduler


def run_three(search: "Search", unbroken: TrialScheduler | None = None) -> None:
    for name, scores in SCORES.items():
        number = search.searcher.suggest(name)["number"]
        if unbroken is not None:
            announce(unbroken, record(number), name)
            for epoch, score in enumerate(scores, start=1):
                feed(unbroken, name, epoch, score)
        search.finish(name, scores)


def test_replayed_rungs_equal_those_of_an_unbroken_run(search: Open) -> None:
    unbroken = scheduler_of("asha")
    one = search(budget=3)
    run_three(one, unbroken)
    expected = [[(1, [0.1, 0.2, 0.4]), (3, [0.1, 0.3, 0.6]), (9, [])]]
    assert rungs(resumed_from(one, "asha")) == rungs(unbroken) == expected


def test_replayed_brackets_equal_those_of_an_unbroken_run(search: Open) -> None:
    unbroken = scheduler_of("hyperband")
    one = search(budget=3)
    run_three(one, unbroken)
    assert rungs(resumed_from(one, "hyperband")) == rungs(unbroken)
    assert sum(len(scores) for bracket in rungs(unbroken) for _, scores in bracket) >= 3


def test_a_replayed_median_equals_that_of_an_unbroken_run(search: Open) -> None:
    one = search(budget=3)
    run_three(one)
    assert seen(resumed_from(one, "median")) == sorted(SCORES.values())


@pytest.mark.parametrize("written", RULES)
def test_a_resumed_scheduler_stops_what_an_unbroken_one_stops(search: Open, written: Any) -> None:
    one = search(budget=3)
    run_three(one)
    resumed = resumed_from(one, written)
    announce(resumed, record(17), "new")  # 17 trials are a round of Hyperband here: the strictest bracket again
    announce(resumed, record(34), "better")
    assert feed(resumed, "new", 1, 0.01) == STOP
    assert feed(resumed, "better", 1, 0.9) == CONTINUE


@pytest.mark.parametrize("written", RULES)
def test_a_trial_taken_up_again_is_counted_once(search: Open, written: Any) -> None:
    one = search(budget=3)
    one.searcher.suggest("a")
    one.report("a", 1, 0.1)
    two = search(budget=3, scheduler_name=written)
    two.searcher.suggest("x")  # announces it under the id that Tune now knows it by
    before = seen(two.scheduler)
    assert feed(two.scheduler, "x", 1, 0.1) == CONTINUE  # it reports its last epoch again
    assert seen(two.scheduler) == before
    assert feed(two.scheduler, "x", 2, 0.2) == CONTINUE


@pytest.mark.parametrize("written", RULES)
def test_a_trial_that_still_waits_to_be_taken_up_is_compared_with(search: Open, written: Any) -> None:
    """A resume with fewer trials at a time takes up the second only when the first has ended."""
    one = search(budget=2)
    for name, score in (("a", 0.1), ("b", 0.4)):
        one.searcher.suggest(name)
        one.report(name, 1, score)
    resumed = resumed_from(one, written)
    before = seen(resumed)
    assert "0.4" in str(before) or written == {"hyperband": {}}  # there it is in another bracket
    for known in one.records():
        announce(resumed, known, f"tune-{known.number}")
    assert seen(resumed) == before
    assert feed(resumed, "tune-1", 1, 0.4) == CONTINUE


@pytest.mark.parametrize("kill", [0, 1, 5])
def test_brackets_take_turns_as_in_an_unbroken_sweep_after_a_kill_while_a_trial_was_asked_for(
    search: Open, kill: int
) -> None:
    """What such a kill leaves is a trial without a config, whose number is lost."""
    one = search(budget=8, scheduler_name="hyperband")
    for name in "abcdefgh"[:kill]:
        one.searcher.suggest(name)
        one.finish(name, [0.1, 0.2, 0.3])
    one.study.ask()
    two = search(budget=8, scheduler_name="hyperband")
    for name in "abcdefgh"[kill:]:
        two.searcher.suggest(name)
    records = two.records()
    assert [known.number for known in records] == [n for n in range(9) if n != kill]
    assert [known.place for known in records] == list(range(8))
    assert isinstance(two.scheduler, SweepScheduler) and isinstance(two.scheduler.rule, Halving)
    rule = two.scheduler.rule
    for known in records[kill:]:
        assert rule.bracket[f"trial-{known.number}"] is rule.brackets[bracket_of(known.place, rule.sizes)]


@pytest.mark.parametrize("written", ["none", "pbt"])
def test_without_a_rule_nothing_stops(search: Open, written: str) -> None:
    one = search()
    one.searcher.suggest("a")
    one.finish("a", [0.1, 0.2, 0.3])
    scheduler = scheduler_of(written)
    assert type(scheduler) is FIFOScheduler
    announce(scheduler, one.records()[0], "a")
    assert feed(scheduler, "b", 1, 0.0) == CONTINUE


@pytest.mark.parametrize("written", RULES)
def test_a_trial_alone_is_not_stopped(written: Any) -> None:
    assert feed_all(scheduler_of(written), 0, [0.5] * 9) == [CONTINUE] * 9


@pytest.mark.parametrize("written", RULES)
def test_the_baseline_is_never_stopped_and_is_compared_with(written: Any) -> None:
    scheduler = scheduler_of(written)
    for number in (17, 34, 51):
        assert STOP not in feed_all(scheduler, number, [0.5 + number / 100] * 9)
    assert feed_all(scheduler, 0, [0.1 + epoch / 1000 for epoch in range(9)], origin="baseline") == [CONTINUE] * 9
    assert "0.1" in str(seen(scheduler))
    assert STOP in feed_all(scheduler, 68, [0.05] * 9)


def test_the_median_stops_below_the_others_mean_scores_up_to_that_epoch() -> None:
    scheduler = scheduler_of({"median": {"grace_epochs": 2, "min_trials": 3}})
    for number, scores in enumerate([[0.1, 0.4, 0.6], [0.1, 0.2, 0.4], [0.1, 0.6, 0.8]]):
        assert STOP not in feed_all(scheduler, number, scores)  # too few to compare with
    # At epoch 3 the others' means from epoch 2 on are 0.5, 0.3 and 0.7: the median is 0.5.
    assert feed_all(scheduler, 3, [0.0, 0.41, 0.49]) == [CONTINUE, CONTINUE, STOP]
    assert feed_all(scheduler, 4, [0.0, 0.41, 0.55])[-1] == CONTINUE


def test_plans_of_different_lengths_are_compared_at_the_same_epoch() -> None:
    """Of ADR 015: rungs are epochs, not shares of a plan."""
    scheduler = scheduler_of("asha")
    announce(scheduler, record(1, plan=3), "short")
    announce(scheduler, record(2, plan=9), "long")
    for epoch, score in enumerate([0.3, 0.4, 0.5], start=1):
        assert feed(scheduler, "short", epoch, score) == CONTINUE
    for epoch, score in enumerate([0.3, 0.35], start=1):
        assert feed(scheduler, "long", epoch, score) == CONTINUE
    assert feed(scheduler, "long", 3, 0.45) == STOP  # a third of its plan, but the same epochs as the other's end
    assert rungs(scheduler) == [[(1, [0.3, 0.3]), (3, [0.45, 0.5]), (9, [])]]  # the short one is in no later rung


def test_nan_is_compared_with_nothing() -> None:
    for written in RULES:
        scheduler = scheduler_of(written)
        for number in (17, 34):
            feed_all(scheduler, number, [0.5] * 3)
        assert feed_all(scheduler, 0, [float("nan")] * 2) == [CONTINUE] * 2
        assert feed(scheduler, "0", 3, 0.1) == STOP  # at its first score


@pytest.mark.parametrize(
    ("factor", "grace", "longest", "sizes"),
    [
        (3, 1, 9, [9, 5, 3]),  # 3/3*9, 3/2*3, 3/1*1: Hyperband's n for R = 9
        (3, 1, 81, [81, 34, 15, 8, 5]),  # the table of the paper
        (3, 1, 2, [1]),
        (3, 2, 12, [3, 2]),
        (2, 1, 4, [4, 3, 3]),
    ],
)
def test_brackets_are_those_of_the_paper(factor: float, grace: int, longest: int, sizes: list[int]) -> None:
    assert bracket_sizes(HyperbandConfig(grace_epochs=grace, reduction_factor=factor), longest) == sizes


def test_each_round_fills_all_brackets_and_spreads_them() -> None:
    sizes = [9, 5, 3]
    brackets = [bracket_of(number, sizes) for number in range(34)]
    assert [brackets[:17].count(index) for index in range(3)] == sizes
    assert brackets[:17] == brackets[17:]
    assert set(brackets[:4]) >= {0, 1} and 2 in brackets[:6]


def test_hyperbands_later_brackets_stop_later() -> None:
    scheduler = scheduler_of("hyperband")
    sizes = [9, 5, 3]
    of = {index: [n for n in range(51) if bracket_of(n, sizes) == index] for index in range(3)}
    for index, expected in ((0, 1), (1, 3), (2, 9)):
        good, bad = of[index][:2]
        assert STOP not in feed_all(scheduler, good, [0.9] * 9)
        decisions = feed_all(scheduler, bad, [0.1] * 9)
        assert len(decisions) == expected and decisions[-1] == STOP
    assert isinstance(scheduler, SweepScheduler) and isinstance(scheduler.rule, Halving)
    one = scheduler_of({"hyperband": {"brackets": 1}})
    assert len(rungs(one)) == 1


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("ahsa", r"expected one of none, asha, hyperband, median, pbt, but got 'ahsa'. Did you mean asha\?"),
        ({"none": {}}, "but got 'none'"),
        ({"asha": {}, "median": {}}, "Name one"),
        ({"pbt": {"quantile": 0.6}}, "less than or equal to 0.5"),
        ({"median": {"grace": 1}}, "median.grace"),
        ({"hyperband": {"brackets": 0}}, "greater than or equal to 1"),
    ],
)
def test_schedulers_that_are_refused(written: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SchedulerConfig.model_validate(written)


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
