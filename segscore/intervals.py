"""How sure scores are: intervals by the bootstrap over images, and a paired test between two prediction sets.

Images, not objects or pixels, are what another sample of the data would change. The interval of a score is the
percentile interval of resamples with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
chapter 13). The interval of a difference draws the same images for both sets. Its p-value is that of a permutation
test: if neither set were better, swapping the two predictions of an image would change nothing but chance, so p is
the share of swaps that lead to a difference at least as large, to either side (section 15.2 there). All swaps are
tried where they are no more than the resamples; otherwise that many are drawn, and the observed one is counted in.
Swaps in which the metric is absent for one of the sets count for nothing.

With few images percentile intervals are too narrow. May import numpy and this package.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segdata.errors import InputError
from segscore.samples import Sample

__all__ = ["LEVEL", "Difference", "Interval", "differences", "intervals"]

Floats = npt.NDArray[np.float64]
LEVEL = 0.95
_BLOCK = 100  # resamples in memory at a time
_EQUAL = 1e-12  # differences this near count as the same


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher the first set scores than the second.

    Attributes:
        value: First minus second.
        interval: Of the value, over resamples of the images.
        p: How often chance alone gives a difference at least as large, to either side.
    """

    value: float
    interval: Interval
    p: float

    @property
    def is_real(self) -> bool:
        """Whether both the interval and the test say that the sets differ."""
        return not self.interval.low <= 0 <= self.interval.high and self.p < 1 - LEVEL


def intervals(samples: Sequence[Sample], *, resamples: int = 1000, seed: int = 7) -> dict[str, Interval]:
    """Returns the interval of each metric; none where there are fewer than two images or the metric is absent.

    Args:
        samples: The images of one data set, scored in several ways.
        resamples: How many times images are drawn.
        seed: The same seed gives the same intervals.

    Raises:
        InputError: If `resamples` is below 100, which gives no percentiles.
    """
    images = samples[0].num_images
    found: dict[str, Interval] = {}
    for sample in samples:
        values = _joined(sample.metrics(weight_BN) for weight_BN in _drawn(images, resamples, seed))
        found |= _intervals(values, images)
    return found


def differences(
    first: Sequence[Sample], second: Sequence[Sample], *, resamples: int = 1000, seed: int = 7
) -> dict[str, Difference]:
    """Returns, for each metric, how two prediction sets of the same images differ; arguments as for `intervals`."""
    images = first[0].num_images
    found: dict[str, Difference] = {}
    for one, other in zip(first, second, strict=True):
        apart = _minus(one.metrics(np.ones((1, images))), other.metrics(np.ones((1, images))))
        resampled = _joined(
            _minus(one.metrics(weight_BN), other.metrics(weight_BN)) for weight_BN in _drawn(images, resamples, seed)
        )
        over = _intervals(resampled, images)
        both = one.beside(other)
        by_chance = _joined(_swapped(both, swap_BN) for swap_BN in _swaps(images, resamples, seed))
        for name in over:
            value = float(apart[name][0])
            found[name] = Difference(value, over[name], _share(by_chance[name], value, exact=2**images <= resamples))
    return found


def _drawn(images: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yields how often each image is drawn, (B, N), a block of resamples at a time."""
    if resamples < 100:
        raise InputError.of(f"expected at least 100, but got {resamples}", where="resamples", cure="Take 1000.")
    rng, shares = np.random.default_rng(seed), [1 / images] * images
    for start in range(0, resamples, _BLOCK):
        yield rng.multinomial(images, shares, size=min(_BLOCK, resamples - start)).astype(np.float64)


def _swaps(images: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yields which images are swapped, (B, N), a block at a time."""
    every, rng = 2**images <= resamples, np.random.default_rng(seed)
    total = 2**images if every else resamples
    for start in range(0, total, _BLOCK):
        end = min(start + _BLOCK, total)
        if every:
            yield (np.arange(start, end)[:, None] >> np.arange(images) & 1).astype(np.float64)
        else:
            yield rng.integers(0, 2, (end - start, images)).astype(np.float64)


def _swapped(both: Sample, swap_BN: Floats) -> dict[str, Floats]:
    """Returns the differences after swaps, of two sets beside each other."""
    mine = both.metrics(np.concatenate([1 - swap_BN, swap_BN], axis=1))
    return _minus(mine, both.metrics(np.concatenate([swap_BN, 1 - swap_BN], axis=1)))


def _joined(blocks: Iterable[dict[str, Floats]]) -> dict[str, Floats]:
    parts = list(blocks)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _minus(first: dict[str, Floats], second: dict[str, Floats]) -> dict[str, Floats]:
    return {name: first[name] - second[name] for name in first}


def _intervals(values: dict[str, Floats], images: int) -> dict[str, Interval]:
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    present = {name: of_B[~np.isnan(of_B)] for name, of_B in values.items()}
    return {
        name: Interval(*np.quantile(of_B, tails).tolist()) for name, of_B in present.items() if len(of_B) and images > 1
    }


def _share(by_chance: Floats, value: float, *, exact: bool) -> float:
    present = by_chance[~np.isnan(by_chance)]
    as_large = int(np.count_nonzero(np.abs(present) >= abs(value) - _EQUAL))
    return as_large / len(present) if exact else (1 + as_large) / (1 + len(present))
