"""Two processes that share each batch do what one does alone, and end together."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import trainables.ray_trainable as ray_trainable
from search_spaces.trial_config import TrialConfig
from trainables.crew import start_crew
from trainables.description import DataDescription
from trainables.fork_server import Ended
from trainables.ray_trainable import TRAIN, TrialContext, requests_of, run_to_outcome
from trainables.step_sampler import StepSampler
from trainables.trial_files import EpochScores, Outcome, TrialFiles

TrialOf = Callable[..., TrialConfig]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[EpochScores]:
    """Takes the place of Tune, which has no session here."""
    rows: list[EpochScores] = []
    monkeypatch.setattr(ray_trainable, "report", lambda files, row: rows.append(row))
    return rows


def context_of(data: DataDescription, trials: Path, processes: int) -> TrialContext:
    metric = "mIoU" if data.task == "semantic" else "segm_mAP"
    return TrialContext(
        data, trials, metric, "max", 7, threads=1, loader_workers=0, max_failures=0, processes=processes
    )


def run(trial: TrialConfig, data: DataDescription, folder: Path, processes: int) -> Outcome:
    context = context_of(data, folder, processes)
    return run_to_outcome({"number": 0, "trial": trial.to_dict()}, context, TrialFiles(folder / "0000"))


@pytest.mark.slow
def test_two_processes_do_what_one_does_at_the_same_batch(
    litter: DataDescription, tiny_trial: TrialOf, reports: list[EpochScores], tmp_path: Path
) -> None:
    """A transformer without batch norm, trained without flips, in batches of four and of two times two."""
    trial = tiny_trial("segmenter")
    plain = replace(
        trial,
        model=replace(trial.model, backbone="vit-t"),
        optimization=replace(trial.optimization, optimizer="sgd", lr=0.01),  # Adam makes steps of rounding errors
        augmentation=(("flip", 0.0),),
        overrides=(("model.backbone.drop_path_rate", 0.0), ("+model.decode_head.drop_path_rate", 0.0)),
    )
    weights = []
    for count in (1, 2):
        assert run(plain, litter, tmp_path / str(count), count) == Outcome("completed")
        weights.append(torch.load(tmp_path / str(count) / "0000" / "best.pth", weights_only=True)["state_dict"])
    one, two = reports[:2], reports[2:]
    for first, second in zip(one, two, strict=True):
        assert second.scores["train_loss"] == pytest.approx(first.scores["train_loss"], rel=1e-4)
        assert second.scores["mIoU"] == pytest.approx(first.scores["mIoU"], abs=1e-3)
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_killed_process_takes_the_others_with_it(
    litter: DataDescription, tiny_trial: TrialOf, reports: list[EpochScores], tmp_path: Path
) -> None:
    context = context_of(litter, tmp_path, 2)
    files = TrialFiles(tmp_path / "0000")
    config = {"number": 0, "trial": tiny_trial("segformer", epochs=50).to_dict()}
    crew = start_crew(TRAIN, requests_of(config, context, files, tmp_path / "meeting"), files.log)
    try:
        message: Any = crew.receive(120)
        assert message[0] == "epoch" and message[1]["epoch"] == 1
        crew.answer("go on")
        os.kill(crew.children[1].process.pid, signal.SIGKILL)
        while not isinstance(message := crew.receive(60), Ended):
            assert message is not None
            crew.answer("go on")
        assert message.kind == "killed" and "SIGKILL" in message.reason
    finally:
        crew.stop()
    pids = [child.process.pid for child in crew.children]
    time.sleep(0.2)
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


@pytest.mark.slow
def test_a_stopped_trial_leaves_no_process_behind(
    litter: DataDescription, tiny_trial: TrialOf, reports: list[EpochScores], tmp_path: Path
) -> None:
    context = replace(context_of(litter, tmp_path, 2), loader_workers=2)
    files = TrialFiles(tmp_path / "0000")
    config = {"number": 0, "trial": tiny_trial("segformer", epochs=50).to_dict()}
    crew = start_crew(TRAIN, requests_of(config, context, files, tmp_path / "meeting"), files.log)
    try:
        message: Any = crew.receive(240)
        assert message[0] == "epoch", message
        crew.answer("go on")
        training = [psutil.Process(child.process.pid) for child in crew.children]
        workers: list[psutil.Process] = []
        while len(workers) < 2 * context.loader_workers:  # they come and go with the epochs
            assert crew.receive(0.01) is None or crew.answer("go on") is None
            workers = [worker for process in training for worker in process.children(recursive=True)]
    finally:
        crew.stop()
    _, alive = psutil.wait_procs([*training, *workers], timeout=20)
    assert not alive


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(
    litter: DataDescription, tiny_trial: TrialOf, reports: list[EpochScores], tmp_path: Path
) -> None:
    trial = tiny_trial("segformer")
    odd = replace(trial, optimization=replace(trial.optimization, batch_size=3))
    outcome = run(odd, litter, tmp_path, 2)
    assert outcome.kind == "crashed"
    assert "batch_size: expected a batch_size that 2 GPUs share evenly, but got 3" in outcome.reason


def test_processes_take_turns_in_a_plan_by_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(StepSampler(range(5), batch_size=4, max_iters=6, validation_iters=3, seed=1))
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("trainables.step_sampler.get_world_size", lambda: 2)
        monkeypatch.setattr("trainables.step_sampler.get_rank", lambda rank=rank: rank)
        sampler = StepSampler(range(5), batch_size=4, max_iters=6, validation_iters=3, seed=1)
        shares.append(list(sampler))
        assert len(sampler) == 6
    assert [index for pair in zip(*shares, strict=True) for index in pair] == whole
