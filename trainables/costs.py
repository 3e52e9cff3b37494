"""What a trial's network costs: training time, peak memory, parameters, latency. Imports torch and mmengine.

Measuring leaves a training as it was: no gradients, no batch norm in training mode, no random draw that another
epoch would see (each reseeds), and all modules' modes put back.
"""

import copy
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, autocast

from trainables.trial_files import EpochScores

__all__ = ["CostHook", "parameters_millions", "validated_model"]

WARM_UP, TIMED = 3, 10  # forward passes
MEGA = 1e6


class CostHook(Hook):
    """Measures the costs of a trial; those of an epoch are ready when its validation is over.

    Args:
        latency: Whether to measure latency too, which takes `WARM_UP + TIMED` forward passes a validation.
    """

    priority = "VERY_LOW"  # the time of other hooks' work in an epoch counts

    def __init__(self, latency: bool) -> None:
        self.latency = latency
        self.trained_s = 0.0  # since the last validation
        self.began_s = 0.0
        self.batches: Sequence[Any] = ()

    def before_train_epoch(self, runner: Runner) -> None:
        """Called before the first batch is read."""
        self.began_s = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        """Called after the last batch."""
        synchronize()
        self.trained_s += time.perf_counter() - self.began_s

    def measure(self, runner: Runner, earlier: Sequence[EpochScores]) -> dict[str, float]:
        """Returns the costs of a trial so far, by name; called once a validation.

        Args:
            runner: At the end of a validation.
            earlier: The epochs before it, also those before a restart, whose time and memory count.
        """
        before: Mapping[str, float] = earlier[-1].scores if earlier else {}
        model = validated_model(runner)
        costs = {
            "parameters_M": parameters_millions(model),
            "peak_memory_MB": max(peak_megabytes(), before.get("peak_memory_MB", 0.0)),
            "training_s": self.trained_s + before.get("training_s", 0.0),
        }
        self.trained_s = 0.0
        if self.latency:
            self.batches = self.batches or single_images(runner)
            costs["latency_ms"] = latency_ms(model, self.batches, fp16=runner.val_loop.fp16)
        return costs


def validated_model(runner: Runner) -> torch.nn.Module:
    """Returns the network that the last validation scored: the averaged one, where weights are averaged."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            averaged: torch.nn.Module = hook.ema_model.module
            return averaged
    model: torch.nn.Module = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model


def parameters_millions(model: torch.nn.Module) -> float:
    """Returns how many parameters a network has, frozen ones too, in millions."""
    return sum(parameter.numel() for parameter in model.parameters()) / MEGA


def peak_megabytes() -> float:
    """Returns the most that this process has held, in 1e6 bytes: allocated on a GPU, or resident on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MEGA
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGA


def single_images(runner: Runner) -> list[Any]:
    """Returns `TIMED` batches of one image each, spread evenly over the validation set, read and transformed."""
    loader = runner.val_dataloader
    count = len(loader.dataset)
    return [loader.collate_fn([loader.dataset[index * count // TIMED]]) for index in range(TIMED)]


def latency_ms(model: torch.nn.Module, batches: Sequence[Any], *, fp16: bool = False) -> float:
    """Returns the median time from an image in memory to its predictions, post-processing included."""
    times_s: list[float] = []
    test_step: Callable[[Any], object] = model.test_step  # type: ignore[assignment]
    with torch.no_grad(), evaluating(model), autocast(enabled=fp16):
        for index in range(WARM_UP + len(batches)):
            batch = copy.deepcopy(batches[max(0, index - WARM_UP)])  # a model may write into it
            synchronize()
            began_s = time.perf_counter()
            test_step(batch)
            synchronize()
            times_s.append(time.perf_counter() - began_s)
    return 1000 * statistics.median(times_s[WARM_UP:])


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode, and each of its modules back into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def synchronize() -> None:
    """Waits for the GPU, where there is one in use."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
