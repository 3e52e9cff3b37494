"""Random state that depends on (seed, epoch) only, so that a resumed trial equals an unbroken one.

MMEngine restores order and learning rate on resume, but no random state: reseeding at each epoch makes it a function
of the epoch. Loader workers draw their seed from torch's state, which is why they must not outlive an epoch.
"""

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner

__all__ = ["GradientsHook", "ReseedHook", "register_worker_seed", "seed_worker"]


class ReseedHook(Hook):
    """Reseeds Python, NumPy and torch (all devices) before every epoch from (seed, epoch)."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int, rank: int = 0) -> None:
        self.words = (seed, rank) if rank else (seed,)  # processes of one trial draw different augmentations

    def before_train_epoch(self, runner: Runner) -> None:
        """Called before the loader starts its workers."""
        words = np.random.SeedSequence((*self.words, runner.epoch)).generate_state(1)
        seed_everything(int(words[0]))


class GradientsHook(Hook):
    """Keeps the gradients of accumulated batches, whose step is still to come, over a validation and a resume.

    MMEngine saves no gradients, and takes every epoch of a plan for a whole one: without this, what was accumulated
    would be lost on resume, and the last batches of a plan in iterations would never make a step.

    Args:
        max_iters: Batches of the whole plan; None = whole epochs.
    """

    def __init__(self, max_iters: int | None) -> None:
        self.max_iters = max_iters
        self.resumed: dict[str, torch.Tensor] = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Called with what is about to be written."""
        named = runner.model.named_parameters()
        gradients = {name: own.grad.cpu() for name, own in named if own.grad is not None}
        if gradients:
            checkpoint["gradients"] = gradients

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Called with what was read."""
        self.resumed = checkpoint.get("gradients", {})

    def before_train(self, runner: Runner) -> None:
        """Called once model, optimizer and counters are in place."""
        for name, own in runner.model.named_parameters():
            if name in self.resumed:
                own.grad = self.resumed[name].to(own)
        self.resumed = {}
        if self.max_iters is not None:
            runner.optim_wrapper.initialize_count_status(runner.model, runner.iter, self.max_iters)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy (32 bits) and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_worker(worker_id: int) -> None:
    """A loader worker's `worker_init_fn`: torch has seeded it from the epoch's state and its own number."""
    seed_everything(torch.initial_seed() % 2**32)


def register_worker_seed() -> str:
    """Makes `seed_worker` known to MMEngine and returns its name there; harmless when repeated."""
    FUNCTIONS.register_module(module=seed_worker, force=True)
    return seed_worker.__name__
