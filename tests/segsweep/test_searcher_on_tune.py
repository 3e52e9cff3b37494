"""Whole sweeps on a real Ray Tune with a stand-in for training: every trial ends once, rules stop, budgets end."""

import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from search_spaces.define_by_run import read_function, unrolled
from search_spaces.space import Space, parse_space
from segsweep import tuning
from segsweep.objectives import Objective
from segsweep.pareto import numbers_on_front
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder
from trainables.limits import Limit

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

pytestmark = pytest.mark.slow

Open = Callable[..., "Search"]
Fit = Callable[..., None]
CONCURRENT = 3


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with ray_session(None, Console(file=io.StringIO())):
        yield


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Hands a search to Tune, with trials that end within moments or, those with a number in `endless`, never."""

    def stand_in(config: Mapping[str, Any], context: Any) -> None:
        import time

        from ray import tune

        from trainables.limits import broken_at_once
        from trainables.trial_files import Outcome, TrialFiles

        files = TrialFiles(context.trials / f"{config['number']:04d}")
        files.directory.mkdir(parents=True, exist_ok=True)
        lr, epochs = config["trial"]["optimization"]["lr"], config["trial"]["schedule"]["epochs"]
        for epoch in range(1, epochs + 1):
            row = {"epoch": epoch, "segm_mAP": lr * epoch, "latency_ms": 1000 * lr}
            tune.report(row)
            if (limit := broken_at_once(context.limits, row)) is not None:
                files.write_outcome(Outcome("over-limit", limit.reason(row, f"at epoch {epoch}"), row))
                return
            while epoch == 1 and config["number"] in context.endless:
                time.sleep(0.1)
        files.write_outcome(Outcome("completed"))

    monkeypatch.setattr(tuning, "train_trial", stand_in)

    def run(search: "Search", endless: Collection[int] = ()) -> None:
        context: Any = SimpleNamespace(
            trials=tmp_path / "trials", max_failures=0, endless=endless, limits=search.limits
        )
        tuning.fit(search.searcher, context, TrialResources(0.5, 0, CONCURRENT), RunFolder(tmp_path))

    return run


@pytest.fixture
def nine(space_of: Callable[..., Space]) -> Space:
    """A space of trials that plan nine epochs."""
    return space_of({"lr": {"float": [1e-5, 1e-1], "log": True}}, epochs=9)


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [
        ("tpe", "none"),
        ("random", "asha"),
        ({"tpe": {"n_startup_trials": 5}}, "hyperband"),
        ({"nsga2": {"population_size": 5}}, "median"),
        ({"cmaes": {"popsize": 4}}, "asha"),
        ({"gp": {"n_startup_trials": 8}}, "none"),
    ],
)
def test_every_trial_ends_once(search: Open, nine: Space, fit: Fit, sampler: Any, scheduler: Any) -> None:
    settings = {"space": nine, "budget": 24, "sampler": sampler, "scheduler_name": scheduler}
    one = search(**settings)
    fit(one)
    outcomes = Counter(record.outcome for record in one.records())
    assert len(one.records()) == 24 and set(outcomes) <= {"completed", "stopped"}
    assert [record.number for record in sorted(one.witness.ended, key=lambda record: record.number)] == list(range(24))
    assert one.records()[0].outcome == "completed"  # the baseline, whatever the others do
    for record in one.records():
        assert (len(record.scores) == 9) == (record.outcome == "completed")
    if scheduler == "none":
        assert outcomes == {"completed": 24}
    else:
        assert outcomes["stopped"] >= 4  # of 24 random learning rates whose order no epoch changes
    assert search(**settings).searcher.left == 0


@pytest.mark.parametrize(
    "sampler",
    ["tpe", "random", {"nsga2": {"population_size": 5}}, {"gp": {"n_startup_trials": 8}}],
    ids=["tpe", "random", "nsga2", "gp"],
)
def test_two_objectives_and_a_limit(search: Open, nine: Space, fit: Fit, sampler: Any) -> None:
    weighed = {"further": [Objective("latency_ms", "min")], "limits": [Limit.parse("latency_ms <= 20")]}
    settings = {"space": nine, "budget": 24, "sampler": sampler, **weighed}
    one = search(**settings)
    one.study.enqueue_trial({"lr": 0.05})
    fit(one)
    over = {record.number for record in one.records() if record.outcome == "over-limit"}
    assert over == {record.number for record in one.records() if 1000 * record.sample["lr"] > 20} and len(over) >= 1
    within = [record for record in one.records() if record.number not in over]
    assert {record.outcome for record in within} == {"completed"} and len(one.records()) == 24
    for record in one.records():
        assert len(record.scores) == (1 if record.number in over else 9)
    # More learning rate scores more and costs more, so nobody within the limit beats anybody.
    objectives = [Objective("segm_mAP", "max"), *weighed["further"]]
    assert numbers_on_front(one.records(), objectives) == {record.number for record in within}
    assert search(**settings).searcher.left == 0


SPACE_FUNCTION = """
def space(trial):
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
    trial.suggest_categorical("batch_size", [2, 4])
    if optimizer == "sgd":
        trial.suggest_float("momentum", 0.8, 0.9)
        trial.suggest_float("lr", 1e-2, 1e-1, log=True)
    else:
        trial.suggest_float("lr", 1e-4, 1e-3, log=True)
    return {"model": "mask-rcnn", "epochs": 3}
"""
CASES: dict[str, Any] = {
    "optimizer": {"choice": ["sgd", "adamw"]},
    "batch_size": {"choice": [2, 4]},
    "momentum": {"float": [0.8, 0.9], "when": {"optimizer": "sgd"}},
    "lr": [
        {"when": {"optimizer": "sgd"}, "linked": ["rate", "batch_size"]},
        {"when": {"optimizer": "adamw", "batch_size": [2, 4]}, "float": [1e-4, 1e-3], "log": True},
    ],
}


def written_space(tmp_path: Path) -> Space:
    variables = {"rate": {"float": [5e-3, 2.5e-2]}}
    fixed = {"model": "mask-rcnn", "epochs": 3}
    forbid = [{"optimizer": "adamw", "batch_size": 4}]
    return parse_space(CASES, {}, forbid, fixed, task="instance", where="space", variables=variables)


def programmed_space(tmp_path: Path) -> Space:
    file = tmp_path / "my_space.py"
    file.write_text(SPACE_FUNCTION)
    found = unrolled(read_function(file, "space", "space"), file, "space")
    forbid = [{"optimizer": "adamw", "batch_size": 4}]
    return parse_space(found.space, found.overrides, forbid, found.fixed, task="instance", where="space")


@pytest.mark.parametrize("sampler", ["tpe", {"tpe": {"group": True}}, {"nsga2": {"population_size": 5}}])
@pytest.mark.parametrize("space", [written_space, programmed_space])
def test_conditions_of_a_space_hold_in_every_trial(
    search: Open, fit: Fit, space: Callable[[Path], Space], sampler: Any, tmp_path: Path
) -> None:
    one = search(space=space(tmp_path), budget=30, sampler=sampler)
    fit(one)
    assert len(one.records()) == 30 and all(record.outcome == "completed" for record in one.records())
    for record in one.records():
        sample, optimization = record.sample, record.config["optimization"]
        assert (sample["optimizer"], sample["batch_size"]) != ("adamw", 4)
        assert ("momentum" in sample) == (sample["optimizer"] == "sgd")
        low, high = (1e-2, 1e-1) if sample["optimizer"] == "sgd" else (1e-4, 1e-3)
        assert low <= sample["lr"] <= high and optimization["lr"] == sample["lr"]
        if "rate" in sample and sample["optimizer"] == "sgd":
            assert sample["lr"] == pytest.approx(sample["rate"] * sample["batch_size"])
    assert {record.sample["optimizer"] for record in one.records()} == {"sgd", "adamw"}


def test_a_grid_on_tune_ends_when_it_is_exhausted(search: Open, space_of: Callable[..., Space], fit: Fit) -> None:
    space = space_of({"lr": {"choice": [0.1, 0.2, 0.3]}, "batch_size": {"choice": [1, 2]}})
    one = search(space=space, budget=100, sampler="grid")
    fit(one)
    assert len({(record.sample["lr"], record.sample["batch_size"]) for record in one.records()}) == 6
    assert len(one.records()) == 6


def test_patience_ends_what_runs(search: Open, nine: Space, fit: Fit) -> None:
    one = search(space=nine, budget=100, patience=3, sampler="random")
    one.study.enqueue_trial({"lr": 0.1})  # the best there is, after the baseline
    for _ in range(20):
        one.study.enqueue_trial({"lr": 1e-5})
    fit(one, endless=[2])  # holds one of three places; which of the others ends first does not matter
    spent = one.searcher.spent()
    assert spent is not None and spent.end == "out-of-patience"
    one.searcher.end_unfinished(spent.reason)
    ended = [record for record in one.records() if record.outcome != "completed"]
    assert 2 in {record.number for record in ended} and {record.reason for record in ended} == {spent.reason}
    assert len(one.records()) - len(ended) >= 3 and len(ended) <= CONCURRENT
    assert all(record.ended for record in one.records())


def test_device_hours_end_what_runs(search: Open, nine: Space, fit: Fit) -> None:
    one = search(space=nine, budget=100, device_hours=60 / 3600)  # on two devices each
    fit(one, endless=range(1, 100))
    spent = one.searcher.spent()
    assert spent is not None and spent.end == "out-of-device-hours"
    one.searcher.end_unfinished(spent.reason)
    assert 1 <= len(one.records()) <= 1 + CONCURRENT
    assert all(record.ended for record in one.records())
    assert sum(record.device_s or 0 for record in one.records()) >= 60


def test_a_larger_budget_goes_on_with_the_same_study(search: Open, nine: Space, fit: Fit) -> None:
    fit(search(space=nine, budget=3))
    two = search(space=nine, budget=5, scheduler_name="asha")
    assert two.searcher.left == 2
    fit(two)
    assert [record.number for record in two.records()] == [0, 1, 2, 3, 4]
    assert [record.outcome for record in two.records()[:3]] == ["completed"] * 3
