"""What real tiny trainings measure: parameters, memory, training time, latency; and that measuring changes nothing."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.trial_config import TrialConfig
from trainables.costs import evaluating
from trainables.description import DataDescription
from trainables.fork_server import Ended, start_child
from trainables.limits import COSTS
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

TRAIN = "trainables.trial:train"
Messages = list[dict[str, Any]]
Train = Callable[[TrialRequest], Messages]
RequestOf = Callable[..., TrialRequest]
TrialOf = Callable[..., TrialConfig]


def parameters_in(path: Path) -> int:
    """Counts what an optimizer could change: buffers are those that batch norms and the like keep."""
    state = torch.load(path, weights_only=True)["state_dict"]
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return sum(tensor.numel() for name, tensor in state.items() if not name.endswith(buffers))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mask-rcnn", "segformer"])
def test_costs_are_measured_and_measuring_latency_changes_no_score(
    model: str,
    particles: DataDescription,
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    untimed: Callable[[Messages], str],
    tmp_path: Path,
) -> None:
    data = particles if model == "mask-rcnn" else litter
    trial = tiny_trial(model, epochs=2).with_value("optimization.ema", 0.2)
    plain = request_of(trial, data, tmp_path / "plain")
    unmeasured = train(plain)
    measured = train(replace(plain, directory=tmp_path / "measured", costs=("latency_ms",)))
    assert "latency_ms" not in unmeasured[0] and set(COSTS) <= set(measured[0])
    assert untimed(measured) == untimed(unmeasured)
    first, last = measured
    assert first["parameters_M"] == last["parameters_M"] == parameters_in(tmp_path / "measured" / "best.pth") / 1e6
    assert 0 < first["training_s"] < last["training_s"]
    assert 0 < first["peak_memory_MB"] <= last["peak_memory_MB"]
    assert first["latency_ms"] > 0 and last["latency_ms"] > 0


@pytest.mark.slow
def test_training_time_goes_on_over_a_kill(
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    untimed: Callable[[Messages], str],
    tmp_path: Path,
) -> None:
    whole = request_of(tiny_trial("segformer", epochs=3), litter, tmp_path / "whole", costs=("latency_ms",))
    unbroken = train(whole)
    broken = replace(whole, directory=tmp_path / "broken")
    child = start_child(TRAIN, broken, broken.directory / "train.log")
    try:
        first = child.receive(120)
        assert not isinstance(first, Ended) and first is not None and child.process.pid is not None
        os.kill(child.process.pid, signal.SIGKILL)
        assert isinstance(child.receive(10), Ended)
    finally:
        child.stop()
    files = TrialFiles(broken.directory)
    (row,) = files.read_history()
    # As if the killed process had trained for a thousand seconds and held a terabyte.
    files.history.write_text("")
    files.append_history(replace(row, scores={**row.scores, "training_s": 1000.0, "peak_memory_MB": 1e6}))
    resumed = train(broken)
    assert untimed(resumed) == untimed(unbroken[1:])
    assert 1000.0 < resumed[0]["training_s"] < resumed[1]["training_s"]
    assert [message["peak_memory_MB"] for message in resumed] == [1e6, 1e6]


@pytest.mark.slow
def test_the_size_of_a_network_is_told_before_it_trains(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, train: Train, tmp_path: Path
) -> None:
    built, epoch = train(request_of(tiny_trial("segformer", epochs=1), litter, tmp_path, costs=("parameters_M",)))
    assert built == {"parameters_M": epoch["parameters_M"]}


def test_evaluating_gives_each_module_its_mode_back() -> None:
    frozen, free = torch.nn.BatchNorm2d(1).eval(), torch.nn.BatchNorm2d(1)
    model = torch.nn.Sequential(frozen, free)
    with evaluating(model):
        assert not free.training and not model.training
    assert (model.training, frozen.training, free.training) == (True, False, True)
