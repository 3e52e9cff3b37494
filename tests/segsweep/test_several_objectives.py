"""The searcher with several objectives and with limits, on a real study and with Optuna's own samplers, without Ray."""

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.schedulers import TrialScheduler

from search_spaces.space import Space
from segdata.errors import InputError
from segsweep.leaderboard import rank
from segsweep.objectives import Objective
from segsweep.pareto import front_first, numbers_on_front, over_limits_line
from segsweep.search.schedulers import expect
from segsweep.search.study import read_study, trial_records
from trainables.limits import Limit
from trainables.trial_files import Outcome

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

Open = Callable[..., "Search"]
SpaceOf = Callable[..., Space]

METRIC = "segm_mAP"
SCORE = Objective(METRIC, "max")
LATENCY, TIME = Objective("latency_ms", "min"), Objective("training_s", "min")
FAST = Limit.parse("latency_ms <= 50")


def frozen(search: "Search", number: int) -> FrozenTrial:
    return search.study.get_trials(deepcopy=False)[number]


def run(search: "Search", name: str, scores: list[float], **values: float) -> int:
    number: int = search.searcher.suggest(name)["number"]
    search.finish(name, scores, **values)
    return number


def test_a_completed_trial_is_told_its_vector_at_the_best_epoch_and_growing_costs_at_the_last(search: Open) -> None:
    one = search(further=[LATENCY, TIME])
    one.searcher.suggest("a")
    for epoch, (score, latency, seconds) in enumerate([(0.1, 9.0, 10.0), (0.4, 8.0, 20.0), (0.3, 7.0, 30.0)], 1):
        one.report("a", epoch, score, latency_ms=latency, training_s=seconds)
    one.files(0).write_outcome(Outcome("completed"))
    one.searcher.on_trial_complete("a", {"epoch": 3, METRIC: 0.3, "latency_ms": 7.0, "training_s": 30.0})
    assert (frozen(one, 0).state, frozen(one, 0).values) == (TrialState.COMPLETE, [0.4, 8.0, 30.0])
    (record,) = trial_records(read_study(one.folder / "study.journal"))
    assert (record.best_epoch, record.best_score, record.values) == (2, 0.4, {"latency_ms": 8.0, "training_s": 30.0})
    assert record.scores == {1: 0.1, 2: 0.4, 3: 0.3} and record.broken == ()


def test_an_objective_that_is_missing_is_a_crash_that_names_it(search: Open) -> None:
    one = search(further=[LATENCY])
    run(one, "a", [0.1, 0.2, 0.3], latency_ms=math.nan)
    assert (one.records()[0].outcome, one.records()[0].reason) == ("crashed", "latency_ms was NaN at epoch 3")
    assert frozen(one, 0).state == TrialState.PRUNED and frozen(one, 0).constraints == {"crash": 1.0}


@pytest.mark.parametrize("further", [[], [LATENCY]], ids=["one", "two"])
def test_a_trial_over_a_limit_is_a_violated_constraint_and_is_never_best(search: Open, further: Any) -> None:
    one = search(further=further, limits=[FAST])
    run(one, "a", [0.9, 0.9, 0.9], latency_ms=75.0)
    run(one, "b", [0.1, 0.2, 0.3], latency_ms=40.0)
    over, within = one.records()
    assert (over.outcome, over.reason) == ("over-limit", "latency_ms 75 > 50 at epoch 1")
    assert (frozen(one, 0).state, frozen(one, 0).constraints) == (
        TrialState.PRUNED,
        {"crash": 0.0, "latency_ms <= 50": 0.5},
    )
    assert (frozen(one, 1).state, frozen(one, 1).constraints["latency_ms <= 50"]) == (TrialState.COMPLETE, -0.2)
    assert [record.number for record in rank(one.records(), "max")] == [within.number]
    assert [record.number for record in front_first(one.records(), [SCORE, *further])] == [within.number]
    assert over_limits_line(one.records()) == "1 trial was over a limit: latency_ms <= 50 (1)"


def test_a_network_that_is_too_large_ends_before_it_trains(search: Open) -> None:
    one = search(further=[LATENCY], limits=[Limit.parse("parameters_M <= 30")])
    one.searcher.suggest("a")
    reason = "parameters_M 45 > 30 before the training"
    one.files(0).write_outcome(Outcome("over-limit", reason, {"parameters_M": 45.0}))
    one.searcher.on_trial_complete("a", {"done": True})
    assert (one.records()[0].outcome, one.records()[0].reason) == ("over-limit", reason)
    assert frozen(one, 0).constraints == {"crash": 0.0, "parameters_M <= 30": 0.5}


def test_a_limit_on_a_score_is_judged_at_the_end(search: Open) -> None:
    one = search(limits=[Limit.parse("bbox_mAP >= 0.5")])
    one.searcher.suggest("a")
    for epoch, boxes in enumerate((0.1, 0.4, 0.6), start=1):
        one.report("a", epoch, epoch / 10, bbox_mAP=boxes)
        standing = [record.number for record in rank(one.records(), "max")]
        assert standing == ([0] if epoch == 3 else [])  # as it stands, it breaks the limit
    one.files(0).write_outcome(Outcome("completed"))
    one.searcher.on_trial_complete("a", {"epoch": 3, METRIC: 0.3, "bbox_mAP": 0.6})
    run(one, "b", [0.3, 0.2, 0.1], bbox_mAP=0.4)
    good, poor = one.records()
    assert good.outcome == "completed"
    assert (poor.outcome, poor.reason) == ("over-limit", "bbox_mAP 0.4 < 0.5 at epoch 1")


def test_a_trial_that_the_scheduler_stops_is_judged_too(search: Open) -> None:
    one = search(limits=[Limit.parse("bbox_mAP >= 0.5")])
    one.searcher.suggest("a")
    one.searcher.on_trial_complete("a", {"epoch": 1, METRIC: 0.2, "bbox_mAP": 0.1, "done": True})
    assert one.records()[0].outcome == "over-limit"


@pytest.mark.parametrize("sampler", ["tpe", {"tpe": {"group": True}}, {"nsga2": {"population_size": 8}}, "random"])
def test_crashed_stopped_and_over_limit_trials_never_end_the_search(
    search: Open, space_of: SpaceOf, sampler: Any
) -> None:
    space = space_of({"lr": {"float": [0.01, 1.0]}, "optimizer": {"choice": ["sgd", "adamw"]}})
    one = search(space=space, budget=40, sampler=sampler, further=[LATENCY], limits=[FAST])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in range(40):
            number = one.searcher.suggest(f"t{index}")["number"]
            if index % 4 == 1:
                one.crash(f"t{index}", "ended by SIGSEGV")
            elif index % 4 == 2:
                one.report(f"t{index}", 1, 0.5, latency_ms=20.0)
                one.files(number).write_outcome(Outcome("asked-to-stop", "ended by `segsweep stop-trial`"))
                one.searcher.on_trial_complete(f"t{index}", {"epoch": 1, METRIC: 0.5, "latency_ms": 20.0})
            else:
                lr = one.records()[-1].sample["lr"]
                one.finish(f"t{index}", [lr, lr, lr], latency_ms=100 * lr)
    assert {record.outcome for record in one.records()} == {"completed", "crashed", "stopped", "over-limit"}
    assert all(record.ended for record in one.records())


def test_tpe_keeps_away_from_what_breaks_a_limit(search: Open, space_of: SpaceOf) -> None:
    def over(sampler: str) -> int:
        one = search(folder=search().folder / sampler, space=space, budget=60, sampler=sampler, further=[LATENCY],
                     limits=[FAST])  # fmt: skip
        for index in range(60):
            one.searcher.suggest(f"t{index}")
            lr = one.records()[-1].sample["lr"]
            one.finish(f"t{index}", [lr] * 3, latency_ms=100 * lr)  # above 0.5 the limit is broken
        return sum(record.outcome == "over-limit" for record in one.records()[-30:])

    space = space_of({"lr": {"float": [0.01, 1.0]}})
    assert over("random") >= 10
    assert over("tpe") <= 7


def test_patience_counts_what_no_earlier_trial_matches_or_beats(search: Open) -> None:
    one = search(budget=100, patience=2, further=[LATENCY], limits=[FAST])
    for score, latency in ((0.5, 20.0), (0.4, 10.0), (0.4, 10.0), (0.6, 30.0), (0.5, 25.0)):
        run(one, "a", [score] * 3, latency_ms=latency)
        assert one.searcher.spent() is None
    run(one, "a", [0.9] * 3, latency_ms=90.0)  # over the limit: no improvement
    spent = one.searcher.spent()
    assert spent is not None and spent.end == "out-of-patience"
    assert spent.reason == "2 trials ended without one that no earlier trial matches or beats (patience)"
    assert numbers_on_front(one.records(), [SCORE, LATENCY]) == {0, 1, 2, 3}
    two = search(budget=100, patience=2, further=[LATENCY], limits=[FAST])
    assert two.searcher.spent() == spent


def test_a_journal_of_other_objectives_is_refused(search: Open) -> None:
    search(further=[LATENCY])
    with pytest.raises(InputError, match="expected a study with the directions maximize, but got maximize, minimize"):
        search()


def test_an_epoch_over_a_limit_is_no_measure_for_other_trials(search: Open, space_of: SpaceOf) -> None:
    """Large networks that break a limit would raise the bar for those that keep it, before and after a resume."""
    space = space_of({"lr": {"float": [0.01, 1.0]}}, epochs=9)
    asha = {"asha": {"grace_epochs": 1, "reduction_factor": 3}}
    settings: dict[str, Any] = {"space": space, "budget": 40, "limits": [FAST], "scheduler_name": asha}

    def decided(one: "Search", name: str, score: float, latency: float) -> str:
        number = one.searcher.suggest(name)["number"]
        result = {"epoch": 1, METRIC: score, "latency_ms": latency}
        decision: str = one.scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), result)  # type: ignore[arg-type]
        if decision == TrialScheduler.STOP:
            one.searcher.on_trial_complete(name, {**result, "done": True})
        else:
            one.finish(name, [score] * 9, latency_ms=latency)
        assert one.records()[number].ended
        return decision

    one = search(**settings)
    for index, score in enumerate((0.9, 0.8, 0.7)):
        assert decided(one, f"over-{index}", score, 90.0) == TrialScheduler.CONTINUE  # its actor ends it
    assert decided(one, "first", 0.1, 10.0) == TrialScheduler.CONTINUE
    again = search(**settings)
    for record in again.records():
        expect(again.scheduler, record, f"study-{record.number}")
    assert decided(again, "better", 0.15, 10.0) == TrialScheduler.CONTINUE
    assert decided(again, "worse", 0.05, 10.0) == TrialScheduler.STOP
