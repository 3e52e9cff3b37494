"""Learning-rate schedules that MMEngine lacks, as shares of each parameter group's own learning rate.

MMEngine's PolyLR and OneCycleLR take one absolute value for all groups, so that an encoder with a tenth of the learning
rate would end, or begin, above its own.
"""

import math
from typing import Any

from mmengine.optim import _ParamScheduler

__all__ = ["OneCycleShareLR", "PolyShareLR"]

ONE_CYCLE_START = 1 / 25  # torch's OneCycleLR: div_factor


class _ShareLR(_ParamScheduler):
    """Sets every group's learning rate to `factor()` of what it started from."""

    def factor(self) -> float:
        """Returns the share at `last_step`, which counts from 0 at `begin`."""
        raise NotImplementedError

    def _get_value(self) -> list[float]:
        share = self.factor()
        return [base * share for base in self.base_values]


class PolyShareLR(_ShareLR):
    """A polynomial from 1 at `begin` to `final_factor` at the last step before `end`."""

    def __init__(self, optimizer: Any, *, power: float, final_factor: float, begin: int, end: int, **rest: Any) -> None:
        self.power, self.final_factor, self.last = power, final_factor, max(1, end - begin - 1)
        super().__init__(optimizer, "lr", begin=begin, end=end, **rest)

    def factor(self) -> float:
        left = 1 - min(1.0, self.last_step / self.last)
        return float(self.final_factor + (1 - self.final_factor) * left**self.power)


class OneCycleShareLR(_ShareLR):
    """Half a cosine from 1/25 up to 1 over the share `rise` of the plan, and half a cosine down to `final_factor`.

    Smith and Topin, arXiv 1708.07120; the same curve as torch's OneCycleLR, without its change of momentum.
    """

    def __init__(self, optimizer: Any, *, rise: float, final_factor: float, begin: int, end: int, **rest: Any) -> None:
        steps = end - begin
        self.top, self.last, self.final_factor = rise * steps - 1, steps - 1, final_factor
        super().__init__(optimizer, "lr", begin=begin, end=end, **rest)

    def factor(self) -> float:
        if self.last_step < self.top:
            return between(ONE_CYCLE_START, 1.0, self.last_step / self.top)
        down = self.last - max(0.0, self.top)
        return between(1.0, self.final_factor, (self.last_step - max(0.0, self.top)) / down if down > 0 else 1.0)


def between(start: float, end: float, share: float) -> float:
    """Returns the point at `share` of half a cosine from `start` to `end`."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(1.0, share)))
