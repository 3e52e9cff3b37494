"""Data-parallel training inside a trial: each process takes its share of every batch, gradients are averaged.

Imports torch and mmengine. A batch of B images over W processes is B / W images each, in the sampler's order, so that
one step sees what one process alone would see. On GPUs batch norms count over all of it; on CPUs over each share.
"""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as distributed
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner

from segdata.errors import InputError
from trainables.requests import TrialRequest

__all__ = ["WaitHook", "join_processes", "mean_of_all", "put_data_parallel", "wait_for_all"]

TIMEOUT = timedelta(minutes=60)  # whoever waits for a training process ends it sooner


class ShareModel(MMDistributedDataParallel):
    """MMEngine's wrapper, on a CPU too; parts that a batch does not reach (a level without objects) may rest."""

    def __init__(self, module: torch.nn.Module, device_ids: list[int] | None = None) -> None:
        on_gpu = next(module.parameters()).is_cuda
        super().__init__(
            module,
            device_ids=[torch.cuda.current_device()] if on_gpu else None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )


class WaitHook(Hook):
    """In all processes but the first: waits at the end of each validation until that one was told to go on."""

    priority = "VERY_LOW"

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Called when all scores of an epoch are known."""
        wait_for_all()


def wait_for_all() -> None:
    """Returns once every process of the trial has called it; at once where there is only one."""
    if distributed.is_initialized():
        distributed.barrier()


def mean_of_all(value: torch.Tensor) -> torch.Tensor:
    """Returns the mean of a scalar over the processes of the trial, all of which call this."""
    if not distributed.is_initialized():
        return value
    distributed.all_reduce(value)
    return value / distributed.get_world_size()


def join_processes(request: TrialRequest) -> None:
    """Joins the processes of a trial, before anything else asks which one this is; a trial of one joins nothing."""
    if request.processes == 1:
        return
    os.environ |= {"RANK": str(request.rank), "LOCAL_RANK": str(request.rank), "WORLD_SIZE": str(request.processes)}
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(request.rank)
    else:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # they share a node
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{request.rendezvous}",
        rank=request.rank,
        world_size=request.processes,
        timeout=TIMEOUT,
    )


def put_data_parallel(live: dict[str, Any], processes: int) -> None:
    """Makes a live config that of one of several processes, in place.

    Raises:
        InputError: They can't share a batch evenly.
    """
    if processes == 1:
        return
    MODEL_WRAPPERS.register_module(module=ShareModel, force=True)
    loader = live["train_dataloader"]
    if loader["batch_size"] % processes:
        raise InputError.of(
            f"expected a batch_size that {processes} GPUs share evenly, but got {loader['batch_size']}",
            where="knob batch_size",
            cure=f"Use multiples of {processes}, or `resources: {{gpu: 1}}`.",
        )
    live["train_dataloader"] = loader | {"batch_size": loader["batch_size"] // processes}
    live |= {"launcher": "pytorch", "model_wrapper_cfg": {"type": "ShareModel"}}
    if torch.cuda.is_available():
        live["sync_bn"] = "torch"
