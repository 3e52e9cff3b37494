"""Real tiny trainings in children of the fork server: what they leave, exact resume, initial weights, user modules."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.trial_config import InputChoice, ModelChoice, OptimizationChoice, ScheduleChoice, TrialConfig
from trainables.description import DataDescription
from trainables.fork_server import Ended, start_child
from trainables.loaded_weights import LoadedWeights
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

pytestmark = pytest.mark.slow

MODELS = ("mask-rcnn", "cascade-mask-rcnn", "ms-rcnn", "segformer", "deeplabv3plus")
TRAIN = "trainables.trial:train"

Messages = list[dict[str, Any]]
Train = Callable[[TrialRequest], Messages]
Follow = Callable[..., tuple[Messages, Ended]]
RequestOf = Callable[..., TrialRequest]
TrialOf = Callable[..., TrialConfig]


@pytest.mark.parametrize("model", MODELS)
def test_a_trial_reports_each_epoch_and_leaves_its_files(
    model: str, trained: Callable[[str], tuple[TrialFiles, Messages]]
) -> None:
    files, messages = trained(model)
    assert [message["epoch"] for message in messages] == [1, 2]
    rows = [json.loads(line) for line in files.history.read_text().splitlines()]
    # As text, since NaN (no such object in the truth) differs from itself.
    assert json.dumps([{"epoch": row["epoch"], **row["scores"]} for row in rows]) == json.dumps(messages)
    metrics = ("mIoU", "accuracy") if model in MODELS[3:] else ("segm_mAP", "segm_mAP_50", "bbox_mAP")
    assert set(metrics) | {"train_loss", "lr"} <= set(messages[-1])
    if model in MODELS[3:]:
        accuracy = messages[-1]["accuracy"]  # a ratio of pixel counts, of 3 images of 64 x 64 pixels, 64-bit
        assert 0 < accuracy <= 1 and abs(accuracy * 3 * 64 * 64 - round(accuracy * 3 * 64 * 64)) < 1e-6
    for path in (files.config, files.best, files.last, files.history, files.log):
        assert path.is_file(), path
    assert not list(files.directory.glob("*.tmp"))


@pytest.mark.parametrize("model", MODELS)
def test_best_weights_are_plain_tensors_with_classes(
    model: str,
    trained: Callable[[str], tuple[TrialFiles, Messages]],
    particles: DataDescription,
    litter: DataDescription,
) -> None:
    files, messages = trained(model)
    best = torch.load(files.best, weights_only=True)
    data = litter if model in MODELS[3:] else particles
    assert tuple(best["meta"]["dataset_meta"]["classes"]) == data.classes
    assert len(best["meta"]["dataset_meta"]["palette"]) == len(data.classes)
    metric = "mIoU" if model in MODELS[3:] else "segm_mAP"
    assert best["meta"]["scores"][metric] == max(message[metric] for message in messages)
    assert all(tensor.device.type == "cpu" for tensor in best["state_dict"].values())


@pytest.mark.parametrize(
    ("model", "loader_workers", "in_epoch"),
    [("mask-rcnn", 0, True), ("mask-rcnn", 2, False), ("segformer", 2, True), ("deeplabv3plus", 0, False)],
)
def test_a_killed_and_resumed_trial_equals_an_unbroken_one(
    model: str,
    loader_workers: int,
    in_epoch: bool,
    particles: DataDescription,
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    untimed: Callable[[Messages], str],
    tmp_path: Path,
) -> None:
    data = litter if model in MODELS[3:] else particles
    whole = request_of(tiny_trial(model, epochs=3), data, tmp_path / "whole", loader_workers=loader_workers)
    broken = replace(whole, directory=tmp_path / "broken")
    unbroken = train(whole)
    kill_after_epoch_1(broken, in_epoch=in_epoch)
    assert [row.epoch for row in TrialFiles(broken.directory).read_history()] == [1]
    resumed = train(broken)
    assert [message["epoch"] for message in resumed] == [2, 3], "only what was lost is trained again"
    files = [TrialFiles(request.directory) for request in (whole, broken)]
    first, second = (untimed([dict(row.scores) for row in each.read_history()]) for each in files)
    assert first == second
    assert_equal_weights(*files)
    assert untimed(resumed) == untimed(unbroken[1:])


def kill_after_epoch_1(request: TrialRequest, *, in_epoch: bool) -> None:
    """Trains until epoch 1 is reported, and kills the process while it waits for the word or inside epoch 2."""
    child = start_child(TRAIN, request, request.directory / "train.log")
    try:
        first = child.receive(120)
        assert not isinstance(first, Ended) and first is not None and first[1]["epoch"] == 1
        if in_epoch:
            child.answer("go on")
            time.sleep(0.05)
        assert child.process.pid is not None
        os.kill(child.process.pid, signal.SIGKILL)
        ended = child.receive(10)
        assert isinstance(ended, Ended) and ended.kind == "killed" and "SIGKILL" in ended.reason
    finally:
        child.stop()


def assert_equal_weights(one: TrialFiles, other: TrialFiles) -> None:
    """The best weights differ by 0.0."""
    first, second = (torch.load(files.best, weights_only=True)["state_dict"] for files in (one, other))
    assert first.keys() == second.keys()
    assert max(float((first[name].double() - second[name].double()).abs().max()) for name in first) == 0.0


@pytest.mark.parametrize("name", ["solov2-light_r18_fpn_ms-3x_coco", "rtmdet-ins_tiny_8xb32-300e_coco.py"])
def test_another_zoo_config_trains(
    name: str, particles: DataDescription, request_of: RequestOf, train: Train, tmp_path: Path
) -> None:
    trial = TrialConfig(
        ModelChoice(name),
        InputChoice(crop_size=64),
        OptimizationChoice(batch_size=4),
        ScheduleChoice(epochs=1),
    )
    messages = train(request_of(trial, particles, tmp_path))
    assert [message["epoch"] for message in messages] == [1] and "segm_mAP" in messages[0]


def test_a_finished_trial_that_is_started_again_trains_nothing(
    trained: Callable[[str], tuple[TrialFiles, Messages]],
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
) -> None:
    files, _ = trained("segformer")
    before = files.history.read_bytes()
    assert train(request_of(tiny_trial("segformer"), litter, files.directory)) == []
    assert files.history.read_bytes() == before


@pytest.mark.parametrize("model", ["mask-rcnn", "segformer"])
def test_a_local_checkpoint_is_where_training_starts(
    model: str,
    trained: Callable[[str], tuple[TrialFiles, Messages]],
    particles: DataDescription,
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    tmp_path: Path,
) -> None:
    start = trained(model)[0].best
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "start.pth").write_bytes(start.read_bytes())
    trial = tiny_trial(model, epochs=1, init="start.pth").with_value("optimization.lr", 1e-8)
    data = litter if model == "segformer" else particles
    train(request_of(trial, data, tmp_path / "trial", folder=folder))
    log = (tmp_path / "trial" / "train.log").read_text()
    given, ended = (
        torch.load(path, weights_only=True)["state_dict"] for path in (start, tmp_path / "trial" / "best.pth")
    )
    filled = sum(not name.endswith("num_batches_tracked") for name in given)
    assert f"init: {filled} of {filled} tensors loaded from start.pth" in log
    recorded = LoadedWeights.read(TrialFiles(tmp_path / "trial").initial)
    assert recorded is not None and (recorded.init, recorded.share, recorded.missing) == ("start.pth", 1.0, ())
    # At a learning rate of 1e-8 weights stay where they were; random ones would be far away.
    weights = [name for name in given if name.endswith("weight")]
    assert max(float((given[name] - ended[name]).abs().max()) for name in weights) < 1e-6


class Malicious:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, follow: Follow, tmp_path: Path
) -> None:
    with (tmp_path / "start.pth").open("wb") as stream:
        pickle.dump({"state_dict": Malicious(tmp_path / "was-run")}, stream)
    request = request_of(tiny_trial("segformer", init="start.pth"), litter, tmp_path / "trial", folder=tmp_path)
    messages, ended = follow(start_child(TRAIN, request, tmp_path / "trial" / "train.log"))
    assert (messages, ended.kind) == ([], "crashed")
    assert "start.pth: expected a checkpoint of plain weights, but loading it safely failed" in ended.reason
    assert "Save it again" in ended.reason
    assert not (tmp_path / "was-run").exists()


def test_a_checkpoint_of_another_model_is_refused(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, follow: Follow, tmp_path: Path
) -> None:
    torch.save({"state_dict": {"stem.weight": torch.zeros(3)}}, tmp_path / "start.pth")
    request = request_of(tiny_trial("segformer", init="start.pth"), litter, tmp_path / "trial", folder=tmp_path)
    _, ended = follow(start_child(TRAIN, request, tmp_path / "trial" / "train.log"))
    assert "expected weights of this model, but none of 1 tensors fits it" in ended.reason


def test_published_weights_that_are_not_on_the_node_are_one_clear_message(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, follow: Follow, tmp_path: Path
) -> None:
    request = request_of(tiny_trial("segformer", init="imagenet"), litter, tmp_path, weights=tmp_path / "cache")
    _, ended = follow(start_child(TRAIN, request, tmp_path / "train.log"))
    assert f"mit_b0_20220624-7e0fe6dd.pth in {tmp_path / 'cache'}, but they are not there" in ended.reason
    assert "segsweep weights fetch" in ended.reason and "`init: none`" in ended.reason
    assert "Traceback" not in ended.reason


def test_a_trial_starts_from_published_weights_and_says_what_they_filled(
    trained: Callable[[str], tuple[TrialFiles, Messages]],
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    tmp_path: Path,
) -> None:
    whole = torch.load(trained("segformer")[0].best, weights_only=True)["state_dict"]
    encoder = {name.removeprefix("backbone."): value for name, value in whole.items() if name.startswith("backbone.")}
    torch.save(encoder, tmp_path / "mit_b0_20220624-7e0fe6dd.pth")  # as MMSegmentation publishes it
    trial = tiny_trial("segformer", epochs=1, init="imagenet").with_value("optimization.lr", 1e-8)
    train(request_of(trial, litter, tmp_path / "trial", weights=tmp_path))
    recorded = LoadedWeights.read(TrialFiles(tmp_path / "trial").initial)
    assert recorded is not None and recorded.encoder_share == 1.0 and recorded.missing == ("decode_head.*",)
    ended = torch.load(tmp_path / "trial" / "best.pth", weights_only=True)["state_dict"]
    assert max(float((encoder[name] - ended[f"backbone.{name}"]).abs().max()) for name in encoder) < 1e-6
    assert "mit_b0_20220624" not in (tmp_path / "trial" / "config.py").read_text()


def test_a_users_files_never_hide_our_packages(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, tmp_path: Path
) -> None:
    user = tmp_path / "user"
    user.mkdir()
    for name in ("metrics", "ensembling", "segdata", "segscore", "torch"):
        (user / f"{name}.py").write_text(f"raise RuntimeError('the user\\'s {name}.py was imported')\n")
    (user / "my_modules.py").write_text(
        "import ensembling.votes, segdata, segscore.semantic\n"
        "try:\n    import metrics\n"
        "except RuntimeError:\n    print('my_modules sees its own metrics')\n"
    )
    request = request_of(
        tiny_trial("segformer", epochs=1), litter, tmp_path / "trial", folder=user, custom_imports=("my_modules",)
    )
    (tmp_path / "request.pickle").write_bytes(pickle.dumps(request))
    script = (
        "import pickle, sys; from pathlib import Path; from trainables.fork_server import Ended, start_child\n"
        f"request = pickle.loads(Path({str(tmp_path / 'request.pickle')!r}).read_bytes())\n"
        "sys.path.insert(0, '')  # as an interactive session has it\n"
        f"child = start_child({TRAIN!r}, request, request.directory / 'train.log')\n"
        "while not isinstance(message := child.receive(None), Ended): child.answer('go on')\n"
        "print(message)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=user, capture_output=True, text=True, timeout=180)
    assert done.stdout == "Ended(kind='done', reason='')\n", done.stderr + done.stdout
    assert "my_modules sees its own metrics" in (tmp_path / "trial" / "train.log").read_text()


def test_the_command_runs_in_a_folder_with_files_named_like_our_packages(tmp_path: Path) -> None:
    for name in ("metrics", "ensembling", "segdata"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the user\\'s file was imported')\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "segsweep", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "ensemble" in done.stdout, done.stderr
