"""Limits that end real trials under a real Ray Tune: before the training, after an epoch, and after a restart."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from rich.console import Console

from search_spaces.trial_config import TrialConfig
from segsweep.ray_session import ray_session
from trainables.description import DataDescription
from trainables.limits import Limit
from trainables.ray_trainable import TrialContext, train_trial, trial_files
from trainables.trial_files import TrialFiles

pytestmark = pytest.mark.slow

Trained = Callable[..., TrialFiles]


@pytest.fixture(scope="module")
def one_place() -> Iterator[None]:
    """A running Ray."""
    with ray_session(None, Console(quiet=True)):
        yield


@pytest.fixture
def train_within(
    one_place: None, litter: DataDescription, tiny_trial: Callable[..., TrialConfig], tmp_path: Path
) -> Trained:
    """Returns a function that runs a trial of two epochs within limits and gives its files."""

    def run(*texts: str) -> TrialFiles:
        limits = tuple(Limit.parse(text) for text in texts)
        names = tuple(limit.name for limit in limits)
        context = TrialContext(
            litter, tmp_path / "trials", "mIoU", "max", 7, 1, 0, max_failures=0, costs=names, limits=limits
        )
        places = ray.cluster_resources()["CPU"]
        config: dict[str, Any] = {"number": 0, "trial": tiny_trial("segformer", epochs=2).to_dict()}
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(train_trial, context=context), {"CPU": places}),
            param_space=config,
            run_config=tune.RunConfig(name=f"launch-{texts}", storage_path=str(tmp_path / "tune"), verbose=0),
        ).fit()
        assert not results.errors
        return trial_files(tmp_path / "trials", 0)

    return run


def test_a_network_that_is_too_large_is_not_trained(train_within: Trained) -> None:
    files = train_within("latency_ms <= 1e9", "parameters_M <= 0.1")
    outcome = files.read_outcome()
    assert outcome is not None and outcome.kind == "over-limit"
    assert set(outcome.values) == {"parameters_M"} and outcome.values["parameters_M"] > 0.1
    assert outcome.reason == f"parameters_M {outcome.values['parameters_M']:.6g} > 0.1 before the training"
    assert files.read_history() == () and not files.last.exists()


def test_a_trial_ends_with_the_first_epoch_over_a_limit_and_does_not_go_on_after_a_restart(
    train_within: Trained,
) -> None:
    limits = ("mIoU >= 2", "latency_ms <= 1e-6")  # no mIoU is that high, but only the end would tell
    files = train_within(*limits)
    first = files.read_outcome()
    assert first is not None and (first.kind, set(first.values)) == ("over-limit", {"mIoU", "latency_ms"})
    assert first.reason.startswith("latency_ms ") and first.reason.endswith(" > 1e-06 at epoch 1")
    assert [row.epoch for row in files.read_history()] == [1]
    log = files.log.read_text()
    assert train_within(*limits).read_outcome() == first
    assert files.log.read_text() == log and [row.epoch for row in files.read_history()] == [1]


def test_a_trial_within_its_limits_ends_as_any_other(train_within: Trained) -> None:
    files = train_within("latency_ms <= 1e9", "parameters_M <= 1e9", "training_s <= 1e9", "mIoU >= 0")
    outcome = files.read_outcome()
    assert outcome is not None and outcome.kind == "completed" and not outcome.values
    assert [row.epoch for row in files.read_history()] == [1, 2]
