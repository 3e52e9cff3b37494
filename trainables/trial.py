"""One trial: config, training, validation and checkpoints, inside a child of the fork server.

The child sends ("epoch", {...}) after each validation and waits for an answer, so that a stop decided on those scores
costs no further epoch; between them it sends ("alive", {...}), and perhaps once ("built", {...}), which want none.
`train` is the child's job; nothing here runs in the driver.
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
from trainables.augmentation.register import register_augmentation
from trainables.config import build_config, exported_config
from trainables.costs import CostHook, parameters_millions
from trainables.data_parallel import WaitHook, join_processes, put_data_parallel, wait_for_all
from trainables.description import DataDescription
from trainables.devices import refuse_on_cpu, trains_on_gpu_only
from trainables.evaluators import evaluator_config, register_evaluators
from trainables.heartbeat import HeartbeatHook
from trainables.in_flight import ConfiguredRatesHook, LegHook
from trainables.initial_parts import Placed
from trainables.instance_adaptations import put_training_parts
from trainables.kept_epochs import epochs_to_keep
from trainables.loss_watch import LossWatchHook
from trainables.mapped_data import shared_annotations
from trainables.memory import memory_errors_told
from trainables.networks import register as register_networks
from trainables.precision import require_precision
from trainables.reading import put_reading, register_reading
from trainables.report_hook import BestBy, MeanLossHook, ReportHook
from trainables.reproducible import GradientsHook, ReseedHook, register_worker_seed
from trainables.requests import TrialRequest
from trainables.split_batches import split_batches
from trainables.training_parts import register_training_parts
from trainables.trial_files import EpochScores, TrialFiles
from trainables.weights import InitialWeightsHook
from trainables.weights_plan import initial_parts, place_parts

__all__ = ["prepare_process", "train"]


def train(request: TrialRequest, connection: Connection) -> None:
    """Trains one trial to its planned end, from `last.pth` if the directory holds one."""
    prepare_process(request.threads, request.custom_imports, request.folder)
    join_processes(request)
    files = TrialFiles(request.directory)
    require_precision(request.trial)
    config = config_of(request, request.data)
    if trains_on_gpu_only(config["model"]) and not torch.cuda.is_available():
        raise refuse_on_cpu(request.trial.model.name, "model")
    placed = () if files.last.is_file() else initial_weights(request)
    if request.rank == 0:
        named = config if request.shared is None else config_of(request, request.shared)
        exported_config(named).dump(files.config)
    batch_size = config["train_dataloader"]["batch_size"]
    with memory_errors_told(f"a batch of {batch_size} images in {request.parts} part(s)"):
        runner = build_runner(config, request, files)
        add_hooks(runner, request, files, connection, placed)
        split_batches(runner.model, request.parts)
        if request.rank == 0 and "parameters_M" in request.costs:
            connection.send(("built", {"parameters_M": parameters_millions(runner.model)}))
        runner.train()


def config_of(request: TrialRequest, data: DataDescription) -> dict[str, Any]:
    """Returns the trial's config for data that lies where `data` says."""
    return build_config(
        request.trial,
        data,
        seed=request.seed,
        loader_workers=request.loader_workers,
        metric=request.metric,
        mode=request.mode,
        processes=request.processes,
    )


def add_hooks(
    runner: Runner, request: TrialRequest, files: TrialFiles, connection: Connection, placed: Sequence[Placed]
) -> None:
    """Gives the Runner what makes a trial of a training: reports, reproducible numbers, watches, initial weights."""

    def report(row: EpochScores) -> None:
        connection.send(("epoch", {"epoch": row.epoch, **row.scores}))
        connection.recv()
        wait_for_all()

    runner.register_hook(ReseedHook(request.seed, request.rank))
    runner.register_hook(GradientsHook(request.trial.schedule.max_iters))
    best_by: BestBy = "last" if request.keep_last else "loss" if request.trial.schedule.best_by == "loss" else "score"
    losses = MeanLossHook()
    costs = CostHook(latency="latency_ms" in request.costs)
    kept = epochs_to_keep(request.trial.schedule, request.keep_epochs)
    leading = ReportHook(files, request.metric, request.mode, losses, costs, report, best_by=best_by, kept=kept)
    runner.register_hook(losses)
    runner.register_hook(costs)
    runner.register_hook(leading if request.rank == 0 else WaitHook())
    runner.register_hook(LossWatchHook(request.trial.optimization.precision))
    runner.register_hook(HeartbeatHook(connection))
    runner.register_hook(ConfiguredRatesHook())
    if request.until is not None:
        runner.register_hook(LegHook(request.until))
    if placed:
        runner.register_hook(InitialWeightsHook(request.trial.model.init, placed, files.initial))


def initial_weights(request: TrialRequest) -> tuple[Placed, ...]:
    """Returns what a fresh trial starts from, all of it on this machine.

    Raises:
        InputError: A file is missing here.
    """
    parts = initial_parts(request.trial.model, request.data.task, request.local)
    return place_parts(parts, request.folder, request.weights)


def prepare_process(threads: int, custom_imports: Sequence[str], folder: Path | None) -> None:
    """Sets thread counts, registers the mm* modules and the user's own. The user's folder comes last on the path,
    so that a `metrics.py` or `ensembling.py` of theirs never hides one of ours.
    """
    torch.set_num_threads(threads)
    start_device()
    register_mmdet(init_default_scope=False)
    register_mmseg(init_default_scope=False)
    register_evaluators()
    register_networks()
    register_training_parts()
    register_augmentation()
    register_reading()
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
    live["model"] = put_training_parts(live["model"])
    live["val_evaluator"] = evaluator_config(
        request.data, config["model"], request.own_metrics, boundaries=request.boundaries
    )
    live.pop("test_dataloader"), live.pop("test_evaluator"), live.pop("test_cfg")
    for loader in ("train_dataloader", "val_dataloader"):
        live[loader] = put_reading(live[loader], request.data.task)
    live |= shared_annotations(live)
    live["train_dataloader"] |= {"worker_init_fn": {"type": register_worker_seed()}}
    put_data_parallel(live, request.processes)
    live["default_hooks"] = {"checkpoint": None, "logger": {"type": "LoggerHook", "interval": 10}}
    live["visualizer"] = {"type": "Visualizer", "vis_backends": None}
    if files.last.is_file():  # by config, since `train` initialises the model after an early `Runner.resume`
        live |= {"load_from": str(files.last), "resume": True}
    live["work_dir"] = str(files.directory / "mmengine")
    live["experiment_name"] = f"{files.directory.parent.parent.name}-{files.directory.name}"
    # The Runner writes its config out three times; to format it takes longer than all else before the first batch.
    return Runner.from_cfg(Config(live, format_python_code=False))
