"""The searcher on a real study, without Ray: what is told about each end of a trial, and what a resume does."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search_spaces.space import Space
from segdata.errors import SpaceError
from segsweep.search.proposals import enqueue_baseline
from segsweep.search.study import (
    best_epoch_of,
    live_trial,
    mend_journal,
    open_study,
    read_study,
    record_of,
    trial_records,
)
from segsweep.search_config import SamplerConfig
from trainables.trial_files import EpochScores, Outcome

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

METRIC = "segm_mAP"
TPE = SamplerConfig.model_validate("tpe")
Open = Callable[..., "Search"]
SpaceOf = Callable[..., Space]


def frozen(search: "Search", number: int) -> FrozenTrial:
    return search.study.get_trials(deepcopy=False)[number]


def constraint(trial: FrozenTrial) -> float:
    found = [value for key, value in trial.system_attrs.items() if "crash" in key]
    assert len(found) == 1
    return float(found[0])


def test_a_completed_trial_is_told_its_best_epoch(search: Open) -> None:
    one = search()
    suggested = one.searcher.suggest("a")
    assert suggested["number"] == 0 and suggested["trial"]["schedule"]["epochs"] == 3
    one.finish("a", [0.1, 0.4, 0.3])
    trial = frozen(one, 0)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.4)
    assert trial.intermediate_values == {1: 0.1, 2: 0.4, 3: 0.3}
    assert constraint(trial) == 0.0
    record = one.witness.ended[0]
    assert (record.outcome, record.best_epoch, record.best_score) == ("completed", 2, 0.4)


def test_a_stopped_trial_is_pruned_with_all_its_scores_the_last_one_too(search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    one.report("a", 1, 0.1)
    one.searcher.on_trial_complete("a", {"epoch": 2, METRIC: 0.05, "done": True})  # reaches no on_trial_result
    trial = frozen(one, 0)
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.1, 2: 0.05}
    assert one.witness.ended[0].outcome == "stopped"
    assert one.witness.ended[0].reason == "stopped by the scheduler after epoch 2 of 3"
    assert [(number, epoch) for number, epoch, _ in one.witness.epochs] == [(0, 1), (0, 2)]


def test_a_crash_is_a_violated_constraint_with_its_reason(search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    one.report("a", 1, 0.2)
    one.crash("a", "ended by SIGSEGV")
    trial = frozen(one, 0)
    assert (trial.state, constraint(trial)) == (TrialState.PRUNED, 1.0)
    assert (one.records()[0].outcome, one.records()[0].reason) == ("crashed", "ended by SIGSEGV")


@pytest.mark.parametrize("ending", ["killed", "error"])
def test_trouble_of_the_infrastructure_is_a_failure(search: Open, ending: str) -> None:
    one = search()
    one.searcher.suggest("a")
    if ending == "killed":
        one.files(0).write_outcome(Outcome("killed", "ended by SIGKILL"))
        one.searcher.on_trial_complete("a", {"done": True})
    else:
        one.searcher.on_trial_complete("a", None, error=True)
    trial = frozen(one, 0)
    assert (trial.state, constraint(trial)) == (TrialState.FAIL, 0.0)
    assert one.records()[0].outcome == "failed"
    assert ("SIGKILL" if ending == "killed" else "max_failures") in one.records()[0].reason


@pytest.mark.parametrize(("kind", "outcome"), [("failed", "failed"), ("out-of-time", "stopped")])
def test_an_epoch_written_down_that_tune_never_heard_of_is_not_lost(search: Open, kind: str, outcome: str) -> None:
    one = search()
    one.searcher.suggest("a")
    one.report("a", 1, 0.1)
    files = one.files(0)
    files.directory.mkdir(parents=True)
    for epoch, score in [(1, 0.1), (2, 0.4)]:
        files.append_history(EpochScores(epoch, {METRIC: score}))
    files.write_outcome(Outcome(kind, "No space left on device"))
    one.searcher.on_trial_complete("a", {"epoch": 1, METRIC: 0.1, "done": True})
    record = one.records()[0]
    assert (record.outcome, record.scores, record.best_epoch) == (outcome, {1: 0.1, 2: 0.4}, 2)
    assert (0, 2) in [(number, epoch) for number, epoch, _ in one.witness.epochs]


def test_neither_is_one_of_a_trial_that_ends_with_its_sweep(search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    one.files(0).directory.mkdir(parents=True)
    one.files(0).append_history(EpochScores(1, {METRIC: 0.3}))
    one.searcher.end_unfinished("the sweep ended: 2 h are over")
    assert (one.records()[0].outcome, one.records()[0].scores) == ("stopped", {1: 0.3})


def test_a_second_call_for_the_same_trial_changes_nothing(search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    one.finish("a", [0.1, 0.2, 0.3])
    one.searcher.on_trial_complete("a", None, error=True)  # Tune does so after an exception
    assert frozen(one, 0).state == TrialState.COMPLETE and len(one.witness.ended) == 1


def test_nan_never_reaches_the_sampler(search: Open) -> None:
    one = search(budget=12)
    one.searcher.suggest("a")
    one.finish("a", [math.nan, 0.2, math.nan])
    assert frozen(one, 0).intermediate_values == {2: 0.2}
    assert frozen(one, 0).value == 0.2
    one.searcher.suggest("b")
    one.finish("b", [math.nan] * 3)
    assert (frozen(one, 1).state, one.records()[1].outcome) == (TrialState.PRUNED, "crashed")
    assert one.records()[1].reason == "segm_mAP was NaN at every epoch"
    for name in "cdefghijkl":  # beyond TPE's random start, so that the sampler looks at all of this
        one.searcher.suggest(name)
        one.finish(name, [0.1, 0.2, 0.3])
    assert len(one.records()) == 12


def test_the_budget_ends_the_search(search: Open) -> None:
    one = search(budget=2)
    assert one.searcher.left == 2
    for name in "ab":
        one.searcher.suggest(name)
        one.finish(name, [0.1, 0.2, 0.3])
    assert one.searcher.left == 0
    assert one.searcher.suggest("c") == Searcher.FINISHED


def test_after_the_deadline_nothing_is_suggested(search: Open) -> None:
    one = search()
    one.searcher.deadline_unix_s = 0.0
    assert one.searcher.suggest("a") == Searcher.FINISHED
    assert one.records() == ()


def test_the_baseline_comes_first(search: Open) -> None:
    one = search()
    first, second = one.searcher.suggest("a"), one.searcher.suggest("b")
    assert [record.origin for record in one.records()] == ["baseline", "sampler"]
    assert first["trial"]["optimization"]["lr"] == one.space.baseline()["lr"]
    assert second["trial"]["optimization"]["lr"] != first["trial"]["optimization"]["lr"]


def test_the_baseline_takes_fitted_values(tmp_path: Path, space_of: SpaceOf) -> None:
    space = space_of({"detections_per_image": {"int": [50, 500]}})
    study = open_study(tmp_path / "j", "max", TPE, 0)
    enqueue_baseline(study, space, {"detections_per_image": 250})
    assert study.ask().suggest_int("detections_per_image", 50, 500) == 250


def test_forbidden_combinations_are_rejected_and_not_counted(search: Open, space_of: SpaceOf) -> None:
    space = space_of(
        {"optimizer": {"choice": ["sgd", "adamw"]}, "batch_size": {"choice": [1, 2]}},
        forbid=[{"optimizer": "adamw", "batch_size": 2}, {"optimizer": "sgd", "batch_size": 1}],
    )
    one = search(space=space, budget=8)
    for name in "abcdefgh":
        one.searcher.suggest(name)
        one.finish(name, [0.1, 0.2, 0.3])
    samples = [tuple(record.sample.values()) for record in one.records()]
    assert len(samples) == 8 and set(samples) <= {("sgd", 2), ("adamw", 1)}
    rejected = [trial for trial in one.study.get_trials() if trial.user_attrs.get("outcome") == "rejected"]
    assert rejected and all((trial.state, constraint(trial)) == (TrialState.PRUNED, 1.0) for trial in rejected)
    assert one.searcher.suggest("i") == Searcher.FINISHED


def test_a_space_without_an_allowed_point_is_an_error_not_an_endless_search(
    search: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segsweep.search.proposals.REJECTED_IN_A_ROW", 5)
    monkeypatch.setattr(Space, "forbidden", lambda self, sample: dict(sample))
    monkeypatch.setattr(Space, "baseline", lambda self, fitted=None: {"lr": 0.01})
    with pytest.raises(SpaceError, match="forbid: expected room for trials, but got 5 forbidden ones"):
        search().searcher.suggest("a")


def test_a_resume_suggests_unfinished_trials_under_their_own_number(search: Open) -> None:
    one = search()
    configs = [one.searcher.suggest(name)["trial"] for name in "abc"]
    one.finish("b", [0.1, 0.2, 0.3])
    one.report("c", 1, 0.25)

    two = search()
    assert two.searcher.left == 3  # trials 0 and 2, and a new one
    resumed = [two.searcher.suggest(name) for name in "xy"]
    assert [trial["number"] for trial in resumed] == [0, 2]
    assert [trial["trial"] for trial in resumed] == [configs[0], configs[2]]
    two.searcher.on_trial_result("y", {"epoch": 1, METRIC: 0.25})  # a resumed trial reports its last epoch again
    two.report("y", 2, 0.3)
    assert frozen(two, 2).intermediate_values == {1: 0.25, 2: 0.3}
    assert two.searcher.suggest("z")["number"] == 3
    assert two.searcher.suggest("end") == Searcher.FINISHED


def test_a_resumed_search_does_not_draw_its_first_points_again(search: Open) -> None:
    drawn = []
    for launch in range(3):
        one = search(budget=4 * (launch + 1), sampler="random")
        for index in range(4):
            one.searcher.suggest(f"{launch}{index}")
            one.finish(f"{launch}{index}", [0.1, 0.2, 0.3])
        drawn = [record.sample["lr"] for record in one.records()]
    assert len(set(drawn)) == len(drawn) == 12


def test_the_same_seed_draws_the_same_points(tmp_path: Path, space: Space) -> None:
    def draws(folder: str, seed: int) -> list[Any]:
        study = open_study(tmp_path / folder / "j", "max", TPE, seed)
        return [study.ask().suggest_float("lr", 0, 1) for _ in range(3)]

    assert draws("a", 1) == draws("b", 1) != draws("c", 2)


def test_a_trial_killed_before_it_was_written_whole_never_ran(search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    one.study.ask()  # the driver dies here: no sample, no config
    two = search()
    assert frozen(two, 1).state == TrialState.FAIL
    assert [record.number for record in two.records()] == [0]
    assert two.searcher.left == 4
    assert [two.searcher.suggest(name)["number"] for name in "wxyz"] == [0, 2, 3, 4]
    assert two.searcher.suggest("end") == Searcher.FINISHED


def test_a_baseline_killed_before_it_was_written_whole_is_tried_again(search: Open) -> None:
    one = search()
    assert one.study.ask().user_attrs["origin"] == "baseline"  # the driver dies here
    two = search()
    assert two.searcher.suggest("a")["number"] == 1
    assert [record.origin for record in two.records()] == ["baseline"]
    search()
    assert sum(trial.user_attrs.get("origin") == "baseline" for trial in two.study.get_trials()) == 2  # no third one


def test_a_kill_while_the_journal_was_written_delays_nobody(tmp_path: Path, search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "worker')
    (tmp_path / "study.journal.lock").symlink_to(journal)
    mend_journal(journal)
    assert journal.read_bytes() == whole and not (tmp_path / "study.journal.lock").is_symlink()
    two = search()
    assert two.searcher.suggest("b")["number"] == 0


def test_reading_a_study_writes_nothing(tmp_path: Path, search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    before = (tmp_path / "study.journal").read_bytes()
    assert len(trial_records(read_study(tmp_path / "study.journal"))) == 1
    assert (tmp_path / "study.journal").read_bytes() == before


@pytest.mark.parametrize("written", [None, b""], ids=["no journal", "journal without a study"])
def test_a_reader_that_comes_before_the_study_creates_none(tmp_path: Path, search: Open, written: bytes | None) -> None:
    journal = tmp_path / "study.journal"
    if written is not None:
        journal.write_bytes(written)
    assert trial_records(read_study(journal)) == ()
    assert (journal.read_bytes() if journal.exists() else None) == written
    assert search().searcher.suggest("a")["number"] == 0


def test_the_assumption_about_optunas_storage_ids_holds(search: Open) -> None:
    """`live_trial` builds a Trial from FrozenTrial._trial_id; numbers and ids need not be the same."""
    one = search()
    one.searcher.suggest("a")
    asked = one.study.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        live = live_trial(one.study, asked.number)
    assert isinstance(live, optuna.Trial) and (live.number, live._trial_id) == (asked.number, asked._trial_id)
    live.report(0.5, 1)
    one.study.tell(live, state=TrialState.PRUNED)
    assert frozen(one, asked.number).intermediate_values == {1: 0.5}


def test_scores_of_others_do_not_pass_for_ours(search: Open) -> None:
    one = search()
    one.searcher.suggest("a")
    result = {
        "epoch": 1,
        METRIC: 0.5,
        "bbox_mAP": math.nan,
        "time_this_iter_s": 1.0,
        "time_total_s": 1.0,
        "time_since_restore": 1.0,
        "timestamp": 1,
        "done": False,
        "training_iteration": 1,
        "pid": 7,
        "config/lr": 0.1,
    }
    one.searcher.on_trial_result("a", result)
    ((number, epoch, scores),) = one.witness.epochs
    assert (number, epoch, set(scores)) == (0, 1, {METRIC, "bbox_mAP"})


def test_a_trial_that_keeps_weights_by_loss_is_scored_at_that_epoch(search: Open, space_of: SpaceOf) -> None:
    one = search(space=space_of({"lr": {"float": [1e-5, 1e-1], "log": True}}, best_by="loss"))
    one.searcher.suggest("a")
    for epoch, (score, loss) in enumerate([(0.1, 0.9), (0.4, 0.5), (0.3, 0.2)], start=1):
        one.searcher.on_trial_result("a", {"epoch": epoch, METRIC: score, "train_loss": loss})
    one.files(0).write_outcome(Outcome("completed"))
    one.searcher.on_trial_complete("a", {"epoch": 3, METRIC: 0.3, "train_loss": 0.2, "done": True})
    record = one.witness.ended[0]
    assert (record.best_epoch, record.best_score) == (3, 0.3)
    assert frozen(one, 0).value == 0.3
    resumed = search(space=one.space)
    assert resumed.records()[0].best_epoch == 3


@pytest.mark.parametrize(
    ("scores", "maximize", "losses", "best"),
    [
        ({1: 0.5, 2: 0.5}, True, None, 1),  # of equal ones the first, whose weights are on disk
        ({1: 0.5, 2: 0.5}, False, None, 1),
        ({1: 0.4, 2: 0.5}, False, None, 1),
        ({}, True, None, None),
        ({1: 0.1, 3: 0.9}, True, {"1": 0.5, "2": 0.1, "3": 0.5}, 1),  # epoch 2 has no score, so it keeps no weights
        ({1: 0.1}, True, {"1": math.nan}, None),
    ],
)
def test_the_best_epoch_is_the_one_whose_weights_are_kept(
    scores: dict[int, float], maximize: bool, losses: dict[str, float] | None, best: int | None
) -> None:
    assert best_epoch_of(scores, maximize, losses) == best


def test_a_plan_in_iterations_counts_its_validations(search: Open, space_of: SpaceOf) -> None:
    space = space_of({"lr": {"float": [1e-5, 1e-1], "log": True}}, max_iters=250, validation_iters=100)
    one = search(space=space)
    one.searcher.suggest("a")
    one.finish("a", [0.1, 0.2, 0.3])  # after 100, 200 and 250 iterations
    assert (one.witness.ended[0].outcome, one.witness.ended[0].planned_epochs) == ("completed", 3)


def test_a_record_waits_for_its_config(search: Open) -> None:
    one = search()
    waiting = frozen(one, 0)
    assert waiting.state == TrialState.WAITING and record_of(one.study, waiting) is None
    assert one.records() == ()


def test_tune_pickles_no_study(search: Open) -> None:
    one = search()
    assert json.dumps(one.searcher.__getstate__()) == "{}"


@pytest.mark.parametrize("reported", [False, True])
def test_a_stop_that_a_kill_cut_short_is_told_on_resume(search: Open, reported: bool) -> None:
    one = search()
    one.searcher.suggest("a")
    one.report("a", 1, 0.1)
    live_trial(one.study, 0).set_user_attr("stopping", {"epoch": 2, METRIC: 0.05})
    if reported:
        live_trial(one.study, 0).report(0.05, 2)  # the driver dies here, or just before
    two = search()
    record = two.records()[0]
    assert (record.outcome, dict(record.scores)) == ("stopped", {1: 0.1, 2: 0.05})
    assert two.witness.started == [0] and two.witness.ended == [record]
    assert two.searcher.suggest("b")["number"] == 1
