"""One trial: config, training, validation and checkpoints, inside a child of the fork server.

The child sends ("epoch", {...}) after each validation and waits for an answer, so that a stop decided on those scores
costs no further epoch. `train` is the child's job; nothing here runs in the driver.
"""

import importlib
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmdet.utils import register_all_modules as register_mmdet
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner, load_state_dict
from mmseg.utils import register_all_modules as register_mmseg

from segdata.errors import InputError, TrialError
from trainables.config import build_config, exported_config
from trainables.evaluators import evaluator_config, register_evaluators
from trainables.report_hook import ReportHook
from trainables.requests import TrialRequest
from trainables.reproducible import ReseedHook, register_worker_seed
from trainables.trial_files import EpochScores, TrialFiles

__all__ = ["load_weights", "prepare_process", "train"]


def train(request: TrialRequest, connection: Connection) -> None:
    """Trains one trial to its planned end, from `last.pth` if the directory holds one."""
    prepare_process(request.threads, request.custom_imports, request.folder)
    files = TrialFiles(request.directory)
    config = build_config(request.trial, request.data, seed=request.seed, loader_workers=request.loader_workers)
    exported_config(config).dump(files.config)
    runner = build_runner(config, request, files)

    def report(row: EpochScores) -> None:
        connection.send(("epoch", {"epoch": row.epoch, **row.scores}))
        connection.recv()

    runner.register_hook(ReseedHook(request.seed))
    runner.register_hook(ReportHook(files, request.metric, request.mode, report))
    if files.last.is_file():
        runner.resume(str(files.last))
    elif request.trial.model.init not in ("none", "imagenet"):
        load_weights(runner.model, (request.folder or Path.cwd()) / request.trial.model.init)
    runner.train()


def prepare_process(threads: int, custom_imports: Sequence[str], folder: Path | None) -> None:
    """Sets thread counts, registers the mm* modules and the user's own. The user's folder comes last on the path,
    so that a `metrics.py` or `ensembling.py` of theirs never hides one of ours.
    """
    torch.set_num_threads(threads)
    register_mmdet(init_default_scope=False)
    register_mmseg(init_default_scope=False)
    register_evaluators()
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    for name in custom_imports:
        importlib.import_module(name)


def build_runner(config: dict[str, Any], request: TrialRequest, files: TrialFiles) -> Runner:
    """Builds the Runner with our evaluator in the place of the stock one; it writes no checkpoints by itself."""
    live = dict(config)
    live["val_evaluator"] = evaluator_config(request.data)
    live.pop("test_dataloader"), live.pop("test_evaluator"), live.pop("test_cfg")
    live["train_dataloader"] = live["train_dataloader"] | {"worker_init_fn": {"type": register_worker_seed()}}
    live["default_hooks"] = {"checkpoint": None, "logger": {"type": "LoggerHook", "interval": 10}}
    live["visualizer"] = {"type": "Visualizer", "vis_backends": None}
    live["work_dir"] = str(files.directory / "mmengine")
    live["experiment_name"] = f"{files.directory.parent.parent.name}-{files.directory.name}"
    return Runner.from_cfg(Config(live))


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Loads the weights that fit from a file that the user gave; never unpickles code.

    Raises:
        InputError: The file holds more than weights, or none that fit.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError.of(
            f"expected a checkpoint of plain weights, but loading it safely failed ({str(error).splitlines()[0]})",
            where=path,
            cure="Save it again as torch.save({'state_dict': model.state_dict()}, ...).",
        ) from error
    weights = loaded.get("state_dict", loaded)
    own = model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise TrialError(f"{path}: expected weights of this model, but none of {len(weights)} tensors fits it")
    load_state_dict(model, fitting, strict=False)
    print_log(f"init: {len(fitting)} of {len(own)} tensors loaded from {path}", logger="current")
