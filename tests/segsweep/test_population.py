"""Who goes on from whom, with which values, and how a population waits, exchanges and survives kills. No Ray."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.search import Searcher

from search_spaces.in_flight import IN_FLIGHT
from search_spaces.knobs import KNOBS
from search_spaces.parameters import Choice, Float, Int
from search_spaces.space import Space
from segsweep.search.budget import Budget
from segsweep.search.generations import PopulationSearcher
from segsweep.search.mutations import Mutation
from segsweep.search.population import changed, exchanges, explored, perturbed_knobs
from segsweep.search.proposals import enqueue_baseline
from segsweep.search.schedulers import build_scheduler
from segsweep.search.study import Study, TrialRecord, open_study, trial_records
from segsweep.search_config import PbtConfig, SamplerConfig, SchedulerConfig
from trainables.trial_files import Outcome, TrialFiles

METRIC = "segm_mAP"
PBT = PbtConfig()
NO_RESAMPLING = PbtConfig(resample_probability=0.0)
RNG = np.random.default_rng(0)

SpaceOf = Callable[..., Space]


@pytest.fixture
def space(space_of: SpaceOf) -> Space:
    """Learning rates and the probability of a step, for trials of five epochs."""
    return space_of({"lr": {"float": [1e-5, 1e-1], "log": True}, "gamma": {"float": [0.0, 1.0]}}, epochs=5)


def standing(number: int, score: float | None, origin: str = "sampler", **values: float) -> TrialRecord:
    sample = values or {"lr": 0.01 * (number + 1), "gamma": 0.5}
    scores = {} if score is None else {2: score}
    return TrialRecord(number, origin, sample, {}, "running", "", scores, None, 0.0, 5, None, stands_at=2)


def test_the_worst_quarter_goes_on_from_the_best_quarter(space: Space) -> None:
    records = [standing(number, number / 10) for number in range(8)]
    found = exchanges(records, 2, NO_RESAMPLING, space, "max", 7)
    assert set(found) == {0, 1} and {mutation.donor for mutation in found.values()} <= {6, 7}
    for mutation in found.values():
        assert mutation.donor is not None and mutation.epoch == 2
        donor = records[mutation.donor]
        assert mutation.values["lr"] / donor.sample["lr"] == pytest.approx(1.0, rel=0.21)
        assert mutation.values["lr"] != donor.sample["lr"] and set(mutation.values) == {"lr", "gamma"}
    assert set(exchanges(records, 2, NO_RESAMPLING, space, "min", 7)) == {6, 7}


def test_decisions_depend_on_seed_epoch_and_scores_only(space: Space) -> None:
    records = [standing(number, number / 10) for number in range(8)]
    first = exchanges(records, 2, PBT, space, "max", 7)
    assert exchanges(list(reversed(records)), 2, PBT, space, "max", 7) == first
    assert exchanges(records, 2, PBT, space, "max", 8) != first


def test_the_baseline_keeps_its_values_and_may_be_gone_on_from(space: Space) -> None:
    worst = [standing(0, 0.0, "baseline"), *(standing(number, 0.1 * number) for number in range(1, 8))]
    assert set(exchanges(worst, 2, PBT, space, "max", 7)) == {1}
    best = [standing(0, 0.9, "baseline"), *(standing(number, 0.1 * number) for number in range(1, 4))]
    assert [mutation.donor for mutation in exchanges(best, 2, PBT, space, "max", 7).values()] == [0]


def test_without_a_score_a_trial_goes_on_from_others_and_nobody_from_it(space: Space) -> None:
    records = [standing(0, None), standing(1, 0.2), standing(2, 0.1), standing(3, None)]
    half = PbtConfig(quantile=0.5)
    assert {number: mutation.donor for number, mutation in exchanges(records, 2, half, space, "max", 7).items()}.keys()
    for mutation in exchanges(records, 2, half, space, "max", 7).values():
        assert mutation.donor in (1, 2)
    assert exchanges([standing(0, None), standing(1, None)], 2, half, space, "max", 7) == {}


def test_equal_scores_and_a_lone_trial_exchange_nothing(space: Space) -> None:
    assert exchanges([standing(number, 0.5) for number in range(8)], 2, PBT, space, "max", 7) == {}
    assert exchanges([standing(0, 0.5)], 2, PBT, space, "max", 7) == {}


def test_only_the_named_knobs_are_perturbed_and_the_others_come_with_the_state(space: Space) -> None:
    donor = standing(3, 0.9, lr=0.01, gamma=0.25)
    values = explored(donor, PbtConfig(perturb=("lr",)), space, RNG)
    assert values["gamma"] == 0.25 and values["lr"] != donor.sample["lr"]
    assert perturbed_knobs(PBT, space) == ("lr", "gamma")


def test_values_stay_in_their_domain_and_move_in_lists_and_on_grids() -> None:
    seen = {changed(Float(0.0, 1.0), 0.95, NO_RESAMPLING, RNG) for _ in range(20)}
    assert sorted(seen) == pytest.approx([0.76, 1.0])
    assert {changed(Choice((1e-3, 1e-2, 1e-1)), 1e-2, NO_RESAMPLING, RNG) for _ in range(20)} == {1e-3, 1e-1}
    assert {changed(Choice((1e-1, 1e-3, 1e-2)), 1e-3, NO_RESAMPLING, RNG) for _ in range(20)} == {1e-3, 1e-2}
    assert {changed(Float(0.0, 1.0, step=0.5), 0.5, NO_RESAMPLING, RNG) for _ in range(20)} == {0.0, 1.0}
    assert {changed(Int(0, 2), 1, NO_RESAMPLING, RNG) for _ in range(20)} == {0, 2}
    anew = {changed(Float(0.0, 1.0), 0.0, PbtConfig(resample_probability=1.0), RNG) for _ in range(20)}
    assert len(anew) == 20 and all(0 < float(value) < 1 for value in anew)  # a factor alone never leaves 0


def test_what_is_forbidden_together_is_not_explored_and_linked_values_follow(space_of: SpaceOf) -> None:
    space = space_of(
        {"lr": {"choice": [1e-3, 1e-2]}, "weight_decay": {"linked": "lr", "factor": 0.5}},
        forbid=[{"lr": 1e-2}],
    )
    donor = standing(0, 0.9, lr=1e-3, weight_decay=5e-4)
    assert all(explored(donor, PBT, space, RNG) == {"lr": 1e-3, "weight_decay": 5e-4} for _ in range(20))
    allowed = space_of({"lr": {"choice": [1e-3, 1e-2]}, "weight_decay": {"linked": "lr", "factor": 0.5}})
    other = {explored(donor, NO_RESAMPLING, allowed, RNG)["weight_decay"] for _ in range(20)}
    assert other == {5e-4, 5e-3}


def test_knobs_in_flight_are_numbers_of_optimizer_and_augmentation() -> None:
    assert IN_FLIGHT[:2] == ("lr", "weight_decay") and {"flip", "augmentation_strength"} <= set(IN_FLIGHT)
    assert all(isinstance(KNOBS[name].domain, Float) for name in IN_FLIGHT)
    assert {KNOBS[name].field.partition(".")[0] for name in IN_FLIGHT} == {"optimization", "augmentation"}


class Sweep:
    """A driver but for Tune: legs in any order, each epoch's score is the learning rate in force, a kill anywhere."""

    def __init__(self, folder: Path, space: Space, trials: int = 8, pbt: PbtConfig = PBT) -> None:
        self.folder = folder
        self.study: Study = open_study(folder / "study.journal", "max", SamplerConfig.model_validate("random"), 7)
        enqueue_baseline(self.study, space)
        self.searcher = PopulationSearcher(
            self.study,
            space,
            population=pbt,
            metric=METRIC,
            mode="max",
            budget=Budget(trials),
            files_of=self.files,
            scheduler=build_scheduler(SchedulerConfig(pbt=pbt), METRIC, "max", 5),
            seed=7,
            devices=2.0,
        )
        self.legs = 0
        self.validated: Sequence[int] = range(1, 6)  # the epochs after which there is a score
        self.running: dict[str, dict[str, Any]] = {}

    def files(self, number: int) -> TrialFiles:
        return TrialFiles(self.folder / "trials" / f"{number:04d}")

    def records(self) -> tuple[TrialRecord, ...]:
        return trial_records(self.study)

    def start(self) -> str | None:
        """Begins the next leg; None if there is none for now."""
        self.legs += 1
        suggested = self.searcher.suggest(f"leg-{self.legs}")
        if suggested in (None, Searcher.FINISHED):
            return None
        self.running[f"leg-{self.legs}"] = suggested
        return f"leg-{self.legs}"

    def run(self, name: str, until: int | None = None) -> None:
        """Trains a leg to its end, or to an epoch at which the driver is killed. The state is (lr, epochs)."""
        leg = self.running[name]
        files = self.files(leg["number"])
        files.directory.mkdir(parents=True, exist_ok=True)
        files.outcome.unlink(missing_ok=True)
        if leg["take_over"] is not None:
            files.take_handed(leg["take_over"])
        past = eval(files.last.read_text()) if files.last.is_file() else []
        end = next(epoch for epoch in self.validated if epoch >= (leg["until"] or 5))
        lr = leg["trial"]["optimization"]["lr"]
        for epoch in range(len(past) + 1, min(end, until or end) + 1):
            past.append(lr)
            files.last.with_suffix(".tmp").write_text(repr(past))
            files.last.with_suffix(".tmp").replace(files.last)
            if epoch in self.validated:
                self.searcher.on_trial_result(name, {"epoch": epoch, METRIC: lr})
        if until is None:
            files.keep_state(end)
            files.write_outcome(Outcome("completed" if end == 5 else "paused"))
            self.searcher.on_trial_complete(name, {"epoch": end, METRIC: lr, "done": True})
            del self.running[name]

    def run_all(self, places: int = 2, legs: int = 1000) -> None:
        """Runs so many legs, in a random order of their ends."""
        order = random.Random(0)
        while legs:
            while len(self.running) < places and self.start():
                pass
            if not self.running:
                return
            self.run(order.choice(sorted(self.running)))
            legs -= 1


def what_happened(sweep: Sweep) -> list[object]:
    return [
        (one.origin, one.sample, one.outcome, one.scores, one.mutations, sweep.files(one.number).last.read_text())
        for one in sweep.records()
    ]


def assert_lines_agree(sweep: Sweep) -> None:
    """The values that a trial's state was trained with are those that the study says, its donors' before a takeover."""
    for record in sweep.records():
        expected, rates = [], {mutation.epoch: mutation for mutation in record.mutations}
        for epoch in range(5):
            if epoch in rates:
                current = rates[epoch]
            expected.append(current.values["lr"])
        assert [record.scores[epoch] for epoch in range(1, 6)] == expected
        last = eval(sweep.files(record.number).last.read_text())
        since = record.mutations[-1].epoch
        assert last[since:] == expected[since:]
        if record.mutations[-1].donor is not None:
            donor = sweep.records()[record.mutations[-1].donor]
            assert last[since - 1] == donor.scores[since]


def test_a_population_larger_than_its_places_exchanges_and_ends(tmp_path: Path, space: Space) -> None:
    sweep = Sweep(tmp_path, space)
    sweep.run_all()
    records = sweep.records()
    assert [record.outcome for record in records] == ["completed"] * 8
    assert [record.number for record in records] == list(range(8))
    assert [len(record.scores) for record in records] == [5] * 8
    assert len(records[0].mutations) == 1 and records[0].origin == "baseline"
    takeovers = [mutation for record in records for mutation in record.mutations[1:]]
    assert {mutation.epoch for mutation in takeovers} == {1, 2, 3, 4} and len(takeovers) >= 4
    assert_lines_agree(sweep)
    assert sweep.searcher.left == 0 and sweep.start() is None


def test_the_order_in_which_legs_end_changes_nothing(tmp_path: Path, space: Space) -> None:
    found = []
    for places in (1, 2, 8):
        sweep = Sweep(tmp_path / str(places), space)
        sweep.run_all(places)
        found.append(what_happened(sweep))
    assert found[0] == found[1] == found[2]


def test_nobody_goes_on_before_the_last_one_has_come_as_far(tmp_path: Path, space: Space) -> None:
    sweep = Sweep(tmp_path, space, trials=4)
    assert sweep.searcher.left == 2 * 4 * 5  # four trials of five legs
    names = [sweep.start() for _ in range(4)]
    assert None not in names and sweep.start() is None
    for name in names[:3]:
        sweep.run(str(name))
        assert sweep.searcher.suggest("too-early") is None
    sweep.run(str(names[3]))
    assert {sweep.running[str(sweep.start())]["until"] for _ in range(4)} == {2}


def test_an_interval_that_does_not_divide_the_plan(tmp_path: Path, space: Space) -> None:
    sweep = Sweep(tmp_path, space, trials=4, pbt=PbtConfig(interval_epochs=2))
    assert sweep.searcher.left == 2 * 4 * 3  # to epochs 2, 4 and 5
    sweep.run_all()
    assert {mutation.epoch for record in sweep.records() for mutation in record.mutations[1:]} <= {2, 4}
    assert all(record.outcome == "completed" for record in sweep.records())


def test_trials_that_are_validated_now_and_then_exchange_when_they_are(tmp_path: Path, space: Space) -> None:
    sweep = Sweep(tmp_path, space, trials=8)
    sweep.validated = [2, 4, 5]
    sweep.run_all()
    assert {mutation.epoch for record in sweep.records() for mutation in record.mutations[1:]} == {2, 4}
    assert all(record.outcome == "completed" and len(record.scores) == 3 for record in sweep.records())


def test_where_a_donors_state_is_gone_a_trial_goes_on_as_it_is(
    tmp_path: Path, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = Sweep(tmp_path, space)
    sweep.run_all(legs=8)
    for number in range(8):
        (sweep.files(number).directory / "states" / "0001.pth").unlink()
    sweep.run_all()
    assert "goes on from its own state" in caplog.text
    assert {mutation.epoch for record in sweep.records() for mutation in record.mutations[1:]} == {2, 3, 4}
    assert_lines_agree(sweep)


def test_a_trial_that_crashes_holds_nobody_up(tmp_path: Path, space: Space) -> None:
    sweep = Sweep(tmp_path, space, trials=4)
    names = [str(sweep.start()) for _ in range(4)]
    for name in names[1:]:
        sweep.run(name)
    sweep.files(0).directory.mkdir(parents=True)
    sweep.files(0).write_outcome(Outcome("crashed", "it broke"))
    sweep.searcher.on_trial_complete(names[0], {"done": True})
    del sweep.running[names[0]]
    sweep.run_all()
    assert [record.outcome for record in sweep.records()] == ["crashed", *["completed"] * 3]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Space], list[object]]:
    """Returns a function that gives what happens in a sweep that nobody kills."""
    found: list[object] = []

    def run(space: Space) -> list[object]:
        if not found:
            sweep = Sweep(tmp_path_factory.mktemp("unbroken"), space)
            sweep.run_all(places=1)
            found.extend(what_happened(sweep))
        return found

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kills", range(4))
def test_killed_and_resumed_it_does_what_an_unbroken_one_does(
    tmp_path: Path, space: Space, kills: int, unbroken: Callable[[Space], list[object]]
) -> None:
    moments = random.Random(kills)
    for _ in range(6):
        sweep = Sweep(tmp_path, space)
        sweep.run_all(places=1, legs=moments.randint(1, 8))
        name = sweep.start()
        if name is not None and sweep.running[name]["until"] is None:
            sweep.run(name, until=5)  # killed between the last epoch and its end; else before a leg's first epoch
    resumed = Sweep(tmp_path, space)
    resumed.run_all(places=1)
    assert what_happened(resumed) == unbroken(space)
    assert_lines_agree(resumed)


@pytest.mark.slow
@pytest.mark.parametrize("writes", range(1, 12))
def test_a_kill_within_an_exchange_leaves_it_to_be_made_again(
    tmp_path: Path,
    space: Space,
    writes: int,
    monkeypatch: pytest.MonkeyPatch,
    unbroken: Callable[[Space], list[object]],
) -> None:
    """Before each of its writes to the study, of which there are ten: eight that it was decided, two takeovers."""

    class KilledError(Exception):
        pass

    class Killed:
        left = writes

        def __init__(self, searcher: PopulationSearcher, number: int) -> None:
            self.trial = live(searcher, number)

        def __getattr__(self, name: str) -> object:
            return getattr(self.trial, name)

        def set_user_attr(self, name: str, value: object) -> None:
            Killed.left -= 1
            if not Killed.left:
                raise KilledError
            self.trial.set_user_attr(name, value)

    live = PopulationSearcher._live
    sweep = Sweep(tmp_path, space)
    sweep.run_all(places=1, legs=8)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(PopulationSearcher, "_live", lambda searcher, number: Killed(searcher, number))
        sweep.run_all(places=1)
    exchanged = sum(record.exchanged_at == 1 for record in sweep.records())
    assert 0 <= exchanged <= 8 and (exchanged == 8) == (writes == 11)
    resumed = Sweep(tmp_path, space)
    resumed.run_all(places=1)
    assert what_happened(resumed) == unbroken(space)


def test_a_larger_budget_is_a_population_of_its_own(tmp_path: Path, space: Space) -> None:
    Sweep(tmp_path, space, trials=4).run_all()
    before = Sweep(tmp_path, space, trials=4).records()
    sweep = Sweep(tmp_path, space, trials=8)
    sweep.run_all()
    assert sweep.records()[:4] == before
    assert [record.outcome for record in sweep.records()] == ["completed"] * 8
    donors = {mutation.donor for record in sweep.records()[4:] for mutation in record.mutations[1:]}
    assert donors and donors <= {4, 5, 6, 7}


def test_a_budget_that_is_over_ends_those_that_wait(tmp_path: Path, space: Space) -> None:
    sweep = Sweep(tmp_path, space, trials=4)
    sweep.run_all(legs=5)
    sweep.searcher.end_unfinished("the sweep ended: no more")
    assert {record.outcome for record in sweep.records()} == {"stopped"}
    assert {record.reason for record in sweep.records()} == {"the sweep ended: no more"}


def test_a_record_says_what_was_drawn_and_what_is_in_force(tmp_path: Path, space: Space) -> None:
    sweep = Sweep(tmp_path, space)
    sweep.run_all()
    record = next(record for record in sweep.records() if len(record.mutations) > 1)
    first, last = record.mutations[0], record.mutations[-1]
    assert first == Mutation(0, None, dict(record.sample))
    assert record.in_force == {**record.sample, **last.values} != record.sample
    assert record.config["optimization"]["lr"] == last.values["lr"]
    assert dict(map(tuple, record.config["augmentation"]))["gamma"] == last.values["gamma"]
    assert last.text().startswith(f"epoch {last.epoch} from {last.donor:04d}: lr=")
