"""The mean of several checkpoints of one architecture as one checkpoint, with batch norms that fit it.

A network with averaged weights has activations that none of the averaged ones had, so running means and variances are
measured anew on the training images, as `torch.optim.swa_utils.update_bn` does (P. Izmailov et al., "Averaging Weights
Leads to Wider Optima and Better Generalization", UAI 2018, section 3.2). ADR 024 tells on which images, and how.

`average` is the job of a child of the fork server; nothing here runs in the driver.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from segdata.errors import InputError
from trainables.checkpoint_reader import Weights, read_weights
from trainables.config import build_config
from trainables.instance_adaptations import put_training_parts
from trainables.mapped_data import shared_annotations
from trainables.memory import memory_errors_told
from trainables.prediction_model import read_meta
from trainables.reading import put_reading
from trainables.reproducible import register_worker_seed, seed_everything
from trainables.requests import AverageRequest
from trainables.trial import prepare_process

__all__ = ["average", "mean_of", "remeasure"]


def average(request: AverageRequest, connection: Connection) -> None:
    """Averages, measures batch norms, writes the checkpoint; sends ("averaged", {"batch_norms": how many, "images": }).

    Sends ("refused", {"reason"}) instead if the checkpoints are not of the configuration's architecture.
    """
    prepare_process(request.threads, request.custom_imports, request.folder)
    try:
        weights = mean_of(request.checkpoints)
        model, loader = build(request)
        fill(model, weights, request.checkpoints[0])
    except InputError as error:
        connection.send(("refused", {"reason": str(error)}))
        return
    seed_everything(request.seed)
    with memory_errors_told(f"a batch of {loader.batch_size} images"):
        measured = remeasure(model, loader)
    meta = {"dataset_meta": read_meta(request.checkpoints[0]).get("dataset_meta")}
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    partial = request.out.with_suffix(".tmp")
    torch.save({"meta": meta, "state_dict": state}, partial)
    partial.replace(request.out)
    connection.send(("averaged", {"batch_norms": measured, "images": len(loader.dataset) if measured else 0}))


def mean_of(checkpoints: Sequence[Path]) -> Weights:
    """Returns the mean of each tensor of floats, summed in float64; other tensors are those of the first checkpoint.

    Raises:
        InputError: They hold different tensors; names the first that differs.
    """
    first = read_weights(checkpoints[0])
    sums = {name: tensor.double() for name, tensor in first.items() if tensor.is_floating_point()}
    for path in checkpoints[1:]:
        other = read_weights(path)
        refuse_other_tensors(first, other, checkpoints[0], path)
        for name in sums:
            sums[name] += other[name].double()
    for name, total in sums.items():
        first[name] = (total / len(checkpoints)).to(first[name].dtype)
    return first


def refuse_other_tensors(first: Weights, other: Weights, one: Path, path: Path) -> None:
    """Raises InputError unless both hold tensors of the same names and shapes."""
    for name in (*first, *other):
        found = [None if name not in each else tuple(each[name].shape) for each in (first, other)]
        if found[0] != found[1]:
            wanted, got = ("none of it" if shape is None else f"shape {shape}" for shape in found)
            raise InputError.of(
                f"expected the architecture of {one}, with {wanted} for {name}, but got {got}",
                where=path,
                cure="Average checkpoints of the same model, backbone and widths.",
            )


def build(request: AverageRequest) -> tuple[BaseModel, Any]:
    """Builds the network as it was trained, on this process's device, and the loader of its training images.

    Each image comes once, in an order drawn by the seed, through the training pipeline.
    """
    config = build_config(request.trial, request.data, seed=request.seed, loader_workers=request.loader_workers)
    scope = config["default_scope"]
    DefaultScope.get_instance(f"average-{request.out}", scope_name=scope)
    loader = put_reading(config["train_dataloader"], request.data.task)
    loader |= {
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "worker_init_fn": {"type": register_worker_seed()},
    }
    parts = shared_annotations({"train_dataloader": loader}) | {"model": put_training_parts(config["model"])}
    live = Config(parts, format_python_code=False)
    with DefaultScope.overwrite_default_scope(scope):
        model: BaseModel = MODELS.build(live.model)
        batches = Runner.build_dataloader(live.train_dataloader, seed=request.seed)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), batches


def fill(model: BaseModel, weights: Weights, path: Path) -> None:
    """Loads all weights.

    Raises:
        InputError: The model has others.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError.of(
            f"expected the weights of the trial's model, but got others: {str(error).splitlines()[-1].strip()}",
            where=path,
            cure="Name checkpoints of the trial's own architecture.",
        ) from error


def remeasure(model: BaseModel, batches: Iterable[Any]) -> int:
    """Measures the running mean and variance of each batch norm that a training changes, as the mean over batches.

    A batch norm that rests in training (`norm_eval`, frozen stages) is part of what was trained and keeps its numbers;
    so does one that no batch reaches. Without any that a training changes, no batch is read.

    Returns:
        How many were measured.
    """
    model.train()
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.training and one.track_running_stats]
    if not norms:
        return 0
    with cumulative(norms), torch.no_grad():
        for batch in batches:
            model(**model.data_preprocessor(batch, True), mode="loss")
    return sum(int(norm.num_batches_tracked) > 0 for norm in norms if norm.num_batches_tracked is not None)


@contextmanager
def cumulative(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Lets batch norms begin anew and weigh all batches alike; those that saw none get back what they had."""
    before = [(norm, norm.momentum, {name: value.clone() for name, value in norm.named_buffers()}) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    yield
    for norm, momentum, buffers in before:
        norm.momentum = momentum
        if not norm.num_batches_tracked:
            norm.load_state_dict({**norm.state_dict(), **buffers})
