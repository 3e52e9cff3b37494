"""Trials that a scheduler of Ray Tune pauses and resumes in place, as HyperBand does."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, HyperBandScheduler, TrialScheduler
from rich.console import Console

from search_spaces.trial_config import TrialConfig
from segsweep.ray_session import ray_session
from trainables.description import DataDescription
from trainables.ray_trainable import TrialContext, train_trial, trial_files
from trainables.requests import TrialRequest
from trainables.trial_files import EpochScores, Outcome

pytestmark = pytest.mark.slow

EPOCHS = 2
History = tuple[tuple[int, str], ...]
Histories = list[History]
Search = Callable[[TrialScheduler, Sequence[TrialConfig]], "Swept"]


def comparable(rows: Iterable[EpochScores]) -> History:
    """Returns (epoch, all scores to the last bit, no timings); NaN, of a class that is nowhere, equals NaN then."""
    timings = ("training_s", "peak_memory_MB")
    return tuple(
        (row.epoch, repr(sorted((name, row.scores[name]) for name in row.scores if name not in timings)))
        for row in rows
    )


class PausesEachEpoch(FIFOScheduler):
    """Pauses a trial at each report, so that with one place all trials take turns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.turns: list[tuple[int, int]] = []
        self.actors: set[int] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.turns.append((trial.config["number"], result["epoch"]))
        self.actors.add(result["pid"])
        return TrialScheduler.PAUSE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        waiting = [trial for trial in tune_controller.get_trials() if trial.status in ("PENDING", "PAUSED")]
        return min(waiting, key=lambda trial: (trial.last_result or {}).get("epoch", 0), default=None)


class CountsPauses(HyperBandScheduler):
    """Notes which trials it pauses at which epoch."""

    def __init__(self) -> None:
        super().__init__(time_attr="epoch", metric="train_loss", mode="min", max_t=EPOCHS, reduction_factor=2)
        self.pauses: list[tuple[int, int]] = []

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.PAUSE:
            self.pauses.append((trial.config["number"], result["epoch"]))
        return decision


class Swept:
    """What trials that ran under a scheduler left."""

    def __init__(self, folder: Path, trials: int) -> None:
        files = [trial_files(folder, number) for number in range(trials)]
        self.histories: Histories = [comparable(each.read_history()) for each in files]
        self.lines = [len(each.history.read_text().splitlines()) for each in files]
        self.outcomes = [each.read_outcome() for each in files]


@pytest.fixture(scope="module")
def one_place() -> Iterator[None]:
    """A running Ray."""
    with ray_session(None, Console(quiet=True)):
        yield


@pytest.fixture
def search(one_place: None, litter: DataDescription, tmp_path: Path) -> Search:
    """Returns a function that runs trials one at a time under a scheduler."""

    def run(scheduler: TrialScheduler, trials: Sequence[TrialConfig]) -> Swept:
        context = TrialContext(
            litter, tmp_path / "trials", "mIoU", "max", 7, threads=1, loader_workers=0, max_failures=0
        )
        places = ray.cluster_resources()["CPU"]  # all of them for each trial: one at a time
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(train_trial, context=context), {"CPU": places}),
            param_space=tune.grid_search(
                [{"number": number, "trial": trial.to_dict()} for number, trial in enumerate(trials)]
            ),
            tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
            run_config=tune.RunConfig(name="launch", storage_path=str(tmp_path / "tune"), verbose=0),
        ).fit()
        assert not results.errors
        return Swept(tmp_path / "trials", len(trials))

    return run


@pytest.fixture(scope="module")
def unbroken(
    litter: DataDescription,
    request_of: Callable[..., TrialRequest],
    train: Callable[[TrialRequest], list[dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[TrialConfig], History]:
    """Returns a function that trains a trial in one go and gives its history."""

    def run(trial: TrialConfig) -> History:
        request = request_of(trial, litter, tmp_path_factory.mktemp("unbroken") / "0000")
        return comparable(EpochScores(message.pop("epoch"), message) for message in train(request))

    return run


def trials_of(tiny_trial: Callable[..., TrialConfig], rates: Sequence[float]) -> list[TrialConfig]:
    trial = tiny_trial("segformer", epochs=EPOCHS)
    return [replace(trial, optimization=replace(trial.optimization, lr=rate)) for rate in rates]


def test_a_trial_paused_at_each_epoch_equals_an_unbroken_one(
    search: Search, tiny_trial: Callable[..., TrialConfig], unbroken: Callable[..., History]
) -> None:
    trials, scheduler = trials_of(tiny_trial, [2e-3, 1e-3]), PausesEachEpoch()
    swept = search(scheduler, trials)
    assert scheduler.turns == [(number, epoch) for epoch in range(1, EPOCHS + 1) for number in (0, 1)]
    assert swept.outcomes == [Outcome("completed")] * 2
    assert swept.histories == [unbroken(trial) for trial in trials]
    assert swept.lines == [EPOCHS] * 2  # no epoch twice
    assert len(scheduler.actors) == 1


def test_synchronous_hyperband_pauses_all_and_resumes_the_best(
    search: Search, tiny_trial: Callable[..., TrialConfig], unbroken: Callable[..., History]
) -> None:
    trials, scheduler = trials_of(tiny_trial, [1e-8, 1e-8, 2e-3, 1e-8]), CountsPauses()
    swept = search(scheduler, trials)
    assert scheduler.pauses == [(0, 2), (2, 1)]  # two brackets: one of whole plans, one that halves
    assert [len(history) for history in swept.histories] == swept.lines == [2, 2, 2, 1]
    assert swept.histories[2] == unbroken(trials[2])
