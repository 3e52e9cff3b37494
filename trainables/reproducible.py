"""Random state that depends on (seed, epoch) only, so that a resumed trial equals an unbroken one.

MMEngine restores order and learning rate on resume, but no random state: reseeding at each epoch makes it a function
of the epoch. Loader workers draw their seed from torch's state, which is why they must not outlive an epoch.
"""

import random

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner

__all__ = ["ReseedHook", "register_worker_seed", "seed_worker"]


class ReseedHook(Hook):
    """Reseeds Python, NumPy and torch (all devices) before every epoch from (seed, epoch)."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train_epoch(self, runner: Runner) -> None:
        """Called before the loader starts its workers."""
        words = np.random.SeedSequence((self.seed, runner.epoch)).generate_state(1)
        seed_everything(int(words[0]))


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
