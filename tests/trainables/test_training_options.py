"""Real tiny trainings with the options of optimization and schedule: exact resume, what is kept, what is refused."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.trial_config import LossChoice, OptimizationChoice, ScheduleChoice, TrialConfig
from trainables.description import DataDescription
from trainables.fork_server import Ended, start_child
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

pytestmark = pytest.mark.slow

TRAIN = "trainables.trial:train"

Messages = list[dict[str, Any]]
Train = Callable[[TrialRequest], Messages]
Follow = Callable[..., tuple[Messages, Ended]]
RequestOf = Callable[..., TrialRequest]
TrialOf = Callable[..., TrialConfig]

# Two trials of many options each, since a training costs seconds. 8 images, batches of 4: 2 batches an epoch.
IN_ITERATIONS = (
    "segformer",
    OptimizationChoice("adamp", 2e-3, batch_size=4, accumulate=2, ema=0.2, norm_decay=False, backbone_lr_factor=0.5),
    ScheduleChoice(max_iters=7, validation_iters=3, shape="one-cycle"),  # 3 + 3 + 1; a step after 2, 4, 6 and 7
    LossChoice(kind="ce+lovasz"),
)
IN_EPOCHS = (
    "mask-rcnn",
    OptimizationChoice("radam", 2e-3, batch_size=4, layer_decay=0.75, gradient_clip=5.0, precision="bf16"),
    ScheduleChoice(3, shape="plateau", plateau_patience=0, step_gamma=0.5, warm_up=0.0, best_by="loss"),
    LossChoice(),
)


def request_for(
    options: tuple[str, OptimizationChoice, ScheduleChoice, LossChoice],
    data: DataDescription,
    directory: Path,
    tiny_trial: TrialOf,
    request_of: RequestOf,
) -> TrialRequest:
    model, optimization, schedule, loss = options
    trial = replace(tiny_trial(model), optimization=optimization, schedule=schedule, loss=loss)
    return request_of(trial, data, directory)


def kill_after_first_report(request: TrialRequest) -> None:
    """Trains until the first validation is reported, and kills the process while it waits for the word."""
    child = start_child(TRAIN, request, request.directory / "train.log")
    try:
        first = child.receive(120)
        assert not isinstance(first, Ended) and first is not None and first[1]["epoch"] == 1, child.log.read_text()
        assert child.process.pid is not None
        os.kill(child.process.pid, signal.SIGKILL)
        ended = child.receive(10)
        assert isinstance(ended, Ended) and ended.kind == "killed"
    finally:
        child.stop()


def state_of(path: Path) -> dict[str, Any]:
    """Returns what a checkpoint of this test's own trial holds; MMEngine's message hub is no plain value."""
    found: dict[str, Any] = torch.load(path, weights_only=False)
    return found


@pytest.mark.parametrize("options", [IN_ITERATIONS, IN_EPOCHS], ids=["iterations", "epochs"])
def test_killed_and_resumed_equals_unbroken_with_every_option(
    options: tuple[str, OptimizationChoice, ScheduleChoice, LossChoice],
    particles: DataDescription,
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    untimed: Callable[[Messages], str],
    tmp_path: Path,
) -> None:
    data = particles if options[0] == "mask-rcnn" else litter
    whole = request_for(options, data, tmp_path / "whole", tiny_trial, request_of)
    broken = replace(whole, directory=tmp_path / "broken")
    unbroken = train(whole)
    assert [message["epoch"] for message in unbroken] == [1, 2, 3]
    kill_after_first_report(broken)
    resumed = train(broken)
    assert untimed(resumed) == untimed(unbroken[1:])
    for name in ("best", "last"):
        states = (state_of(getattr(TrialFiles(request.directory), name)) for request in (whole, broken))
        first, second = (state["state_dict"] for state in states)
        assert first.keys() == second.keys()
        assert max(float((first[key].double() - second[key].double()).abs().max()) for key in first) == 0.0, name


@pytest.fixture(scope="module")
def averaged(
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrialRequest, Messages]:
    """A trial of one epoch whose weights are averaged, and its report."""
    schedule = ScheduleChoice(1, shape="constant")
    options = ("segformer", OptimizationChoice("adamw", 2e-3, batch_size=4, ema=0.1), schedule, LossChoice())
    request = request_for(options, litter, tmp_path_factory.mktemp("trials") / "ema", tiny_trial, request_of)
    return request, train(request)


def test_best_weights_are_the_averaged_ones(averaged: tuple[TrialRequest, Messages]) -> None:
    files = TrialFiles(averaged[0].directory)
    state = state_of(files.last)
    # MMEngine swaps the two in a checkpoint: `state_dict` holds the average, `ema_state_dict` the learning weights.
    learning = {name.removeprefix("module."): value for name, value in state["ema_state_dict"].items()}
    best = state_of(files.best)["state_dict"]
    assert all(torch.equal(best[name], state["state_dict"][name]) for name in best)
    assert any(not torch.equal(best[name], learning[name]) for name in best)


def test_the_score_is_that_of_the_averaged_weights(
    averaged: tuple[TrialRequest, Messages], litter: DataDescription
) -> None:
    """The stock evaluator, on best.pth loaded as stock tools load it, finds the reported score."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    from trainables.evaluators import evaluator_config
    from trainables.trial import prepare_process

    request, messages = averaged
    prepare_process(1, (), None)
    files = TrialFiles(request.directory)
    config = Config.fromfile(files.config)
    config.work_dir = str(files.directory / "again")
    config.test_evaluator = evaluator_config(litter, config.model)
    config.load_from = str(files.best)
    config.pop("custom_hooks")
    config.visualizer = {"type": "Visualizer", "vis_backends": None}
    config.experiment_name = "again"
    assert Runner.from_cfg(config).test()["mIoU"] == messages[-1]["mIoU"]


def test_best_by_loss_keeps_the_epoch_of_the_lowest_training_loss(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, train: Train, tmp_path: Path
) -> None:
    schedule = ScheduleChoice(3, shape="constant", best_by="loss")
    options = ("segformer", OptimizationChoice("adamw", 2e-3, batch_size=4), schedule, LossChoice())
    request = request_for(options, litter, tmp_path, tiny_trial, request_of)
    messages = train(request)
    lowest = min(messages, key=lambda message: message["train_loss"])
    best = torch.load(TrialFiles(tmp_path).best, weights_only=True)
    assert best["meta"]["epoch"] == lowest["epoch"]
    assert best["meta"]["scores"]["mIoU"] == lowest["mIoU"]


def test_the_last_epoch_is_kept_where_that_is_asked_for(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, train: Train, tmp_path: Path
) -> None:
    """Whichever of two epochs scores better, the first one would be the best in one of the directions."""
    for mode in ("max", "min"):
        request = request_of(tiny_trial("segformer"), litter, tmp_path / mode, keep_last=True)
        assert len(train(replace(request, mode=mode))) == 2
        assert torch.load(TrialFiles(tmp_path / mode).best, weights_only=True)["meta"]["epoch"] == 2


def test_the_training_loss_is_the_mean_since_the_last_validation(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, train: Train, tmp_path: Path
) -> None:
    """With a learning rate of nothing, two epochs of two batches have the mean of the same four."""
    optimization = OptimizationChoice("sgd", 1e-8, batch_size=4)
    losses = {}
    for name, schedule in {
        "each": ScheduleChoice(max_iters=4, validation_iters=1, shape="constant"),
        "all": ScheduleChoice(max_iters=4, validation_iters=4, shape="constant"),
    }.items():
        request = request_for(
            ("segformer", optimization, schedule, LossChoice()), litter, tmp_path / name, tiny_trial, request_of
        )
        losses[name] = [message["train_loss"] for message in train(request)]
    assert (len(losses["each"]), len(losses["all"])) == (4, 1)
    assert losses["all"][0] == pytest.approx(sum(losses["each"]) / 4, rel=0.2)


def test_fp16_without_a_gpu_is_one_clear_message_before_training(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, follow: Follow, tmp_path: Path
) -> None:
    if torch.version.cuda and torch.cuda.device_count():
        pytest.skip("this machine has a GPU")
    options = ("segformer", OptimizationChoice(precision="fp16"), ScheduleChoice(1), LossChoice())
    request = request_for(options, litter, tmp_path, tiny_trial, request_of)
    messages, ended = follow(start_child(TRAIN, request, tmp_path / "train.log"))
    assert messages == []
    assert "precision: expected a GPU for precision fp16" in ended.reason and "Use bf16 or fp32" in ended.reason
    assert not TrialFiles(tmp_path).config.exists()
