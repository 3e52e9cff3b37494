"""The sampler of a plan in iterations: an "epoch" is what lies between two validations. Imports torch and mmengine."""

from collections.abc import Iterator, Sized
from itertools import islice

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import Sampler

__all__ = ["StepSampler"]


class StepSampler(Sampler[int]):
    """Cuts an endless row of shuffled passes over the data into stretches of equal length.

    Of several processes each takes its turn, so that together they have the batches of one.

    Every pass is a permutation drawn from (seed, number of the pass), and a stretch follows from its number alone, so
    that a resumed trial sees what an unbroken one sees. The last stretch is shorter if the plan is no multiple.

    Args:
        dataset: What is sampled.
        batch_size: Images a batch.
        max_iters: Batches of the whole plan.
        validation_iters: Batches of one stretch.
        seed: Decides all permutations.
    """

    def __init__(self, dataset: Sized, batch_size: int, max_iters: int, validation_iters: int, seed: int = 0) -> None:
        self.images, self.seed, self.epoch = len(dataset), seed, 0
        self.stretch, self.total = validation_iters * batch_size, max_iters * batch_size

    def __len__(self) -> int:
        """Returns the length of a whole stretch for one process, in images."""
        return self.stretch // int(get_world_size())

    def __iter__(self) -> Iterator[int]:
        return islice(self.all_images(), get_rank(), None, get_world_size())

    def all_images(self) -> Iterator[int]:
        """Yields the stretch of all processes together."""
        begin = self.epoch * self.stretch
        end = min(begin + self.stretch, self.total)
        while begin < end:
            number, offset = divmod(begin, self.images)
            upto = min(self.images, offset + end - begin)
            yield from self.permutation(number)[offset:upto]
            begin += upto - offset

    def permutation(self, number: int) -> list[int]:
        """Returns the order of one pass over the data."""
        words = np.random.SeedSequence((self.seed, number)).generate_state(1)
        generator = torch.Generator().manual_seed(int(words[0]))
        return list(torch.randperm(self.images, generator=generator).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Called by MMEngine's DistSamplerSeedHook before each epoch, a resumed one too."""
        self.epoch = epoch
