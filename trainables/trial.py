"""One trial: config, training, validation and checkpoints, inside a child of the fork server.

The child sends ("epoch", {...}) after each validation and waits for an answer, so that a stop decided on those scores
costs no further epoch. `train` is the child's job; nothing here runs in the driver.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import register_all_modules as register_mmdet
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.utils import register_all_modules as register_mmseg

from segdata.errors import TrialError
from trainables.config import build_config, exported_config
from trainables.evaluators import evaluator_config, register_evaluators
from trainables.report_hook import ReportHook
from trainables.reproducible import ReseedHook, register_worker_seed
from trainables.requests import TrialRequest
from trainables.trial_files import EpochScores, TrialFiles
from trainables.weights import InitialWeightsHook, require_weights

__all__ = ["prepare_process", "train"]


def train(request: TrialRequest, connection: Connection) -> None:
    """Trains one trial to its planned end, from `last.pth` if the directory holds one."""
    prepare_process(request.threads, request.custom_imports, request.folder)
    files = TrialFiles(request.directory)
    config = build_config(request.trial, request.data, seed=request.seed, loader_workers=request.loader_workers)
    if not files.last.is_file():
        require_weights(config)
    exported_config(config).dump(files.config)
    runner = build_runner(config, request, files)

    def report(row: EpochScores) -> None:
        connection.send(("epoch", {"epoch": row.epoch, **row.scores}))
        connection.recv()

    runner.register_hook(ReseedHook(request.seed))
    runner.register_hook(ReportHook(files, request.metric, request.mode, report))
    if not files.last.is_file() and request.trial.model.init not in ("none", "imagenet"):
        runner.register_hook(InitialWeightsHook((request.folder or Path.cwd()) / request.trial.model.init))
    runner.train()


def prepare_process(threads: int, custom_imports: Sequence[str], folder: Path | None) -> None:
    """Sets thread counts, registers the mm* modules and the user's own. The user's folder comes last on the path,
    so that a `metrics.py` or `ensembling.py` of theirs never hides one of ours.
    """
    torch.set_num_threads(threads)
    start_device()
    register_mmdet(init_default_scope=False)
    register_mmseg(init_default_scope=False)
    register_evaluators()
    if folder is not None:
        ours = str(Path(__file__).resolve().parents[1])  # an editable install is looked up after all of sys.path
        others = [entry for entry in sys.path if entry not in ("", ours, str(folder))]
        sys.path[:] = [*others, ours, str(folder)]
    for name in custom_imports:
        importlib.import_module(name)


def start_device() -> None:
    """Starts CUDA where this process sees a GPU, so that a trial never falls back to the CPU unseen.

    Raises:
        TrialError: There is a GPU, but CUDA does not start.
    """
    has_driver = Path("/proc/driver/nvidia/gpus").is_dir() and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
    if not torch.cuda.device_count() and (torch.version.cuda or not has_driver):
        return
    try:
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        raise TrialError.of(
            f"expected CUDA to start, since a GPU is visible, but got: {str(error).splitlines()[0]}",
            where="training process",
            cure="Run `segsweep doctor`, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train on the CPU.",
        ) from error


def build_runner(config: dict[str, Any], request: TrialRequest, files: TrialFiles) -> Runner:
    """Builds the Runner with our evaluator in the place of the stock one; it writes no checkpoints by itself."""
    live = dict(config)
    live["val_evaluator"] = evaluator_config(request.data)
    live.pop("test_dataloader"), live.pop("test_evaluator"), live.pop("test_cfg")
    live["train_dataloader"] = live["train_dataloader"] | {"worker_init_fn": {"type": register_worker_seed()}}
    live["default_hooks"] = {"checkpoint": None, "logger": {"type": "LoggerHook", "interval": 10}}
    live["visualizer"] = {"type": "Visualizer", "vis_backends": None}
    if files.last.is_file():  # by config, since `train` initialises the model after an early `Runner.resume`
        live |= {"load_from": str(files.last), "resume": True}
    live["work_dir"] = str(files.directory / "mmengine")
    live["experiment_name"] = f"{files.directory.parent.parent.name}-{files.directory.name}"
    return Runner.from_cfg(Config(live))
