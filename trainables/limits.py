"""What a network costs, by name, and limits on what a trial measures. Standard library only."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

__all__ = ["COSTS", "GROWING_COSTS", "Limit", "broken_at_once"]

COSTS: Mapping[str, str] = {  # less is better
    "latency_ms": "milliseconds for one image, the median of ten",
    "parameters_M": "millions of parameters",
    "peak_memory_MB": "megabytes that the training process held at most",
    "training_s": "seconds of training, validations left out",
}
GROWING_COSTS = ("peak_memory_MB", "training_s")  # of a whole trial, where the others are of one network

_FORM = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=)\s*([^\s<>=]+)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that a trial has to keep, such as `latency_ms <= 50`."""

    name: str
    operator: Literal["<=", ">="]
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `NAME <= NUMBER` or `NAME >= NUMBER`.

        Raises:
            ValueError: It is neither.
        """
        match = _FORM.fullmatch(text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise ValueError(
                f"expected NAME <= NUMBER or NAME >= NUMBER, but got {text!r}. Write for example latency_ms <= 50"
            )
        return cls(match[1], "<=" if match[2] == "<=" else ">=", bound)

    @property
    def text(self) -> str:
        """The limit as it is written."""
        return f"{self.name} {self.operator} {self.bound:.12g}"

    @property
    def at_once(self) -> bool:
        """Whether a trial that breaks it has no way back: training changes scores, but makes nothing cheaper."""
        return self.name in COSTS and self.operator == "<="

    def excess(self, values: Mapping[str, float]) -> float:
        """Returns by how much the values break the limit, as a share of the bound; 0 or less if they keep it.

        A share, since a sampler adds the excesses of several limits up. An unknown or NaN value breaks no limit.
        """
        value = values.get(self.name, math.nan)
        if math.isnan(value):
            return 0.0
        over = value - self.bound if self.operator == "<=" else self.bound - value
        return over / (abs(self.bound) or 1.0)

    def reason(self, values: Mapping[str, float], when: str) -> str:
        """Returns how the limit is broken, in words."""
        return f"{self.name} {values[self.name]:.6g} {'>' if self.operator == '<=' else '<'} {self.bound:.12g} {when}"


def broken_at_once(limits: Iterable[Limit], values: Mapping[str, float]) -> Limit | None:
    """Returns the first limit which these values break for good."""
    return next((limit for limit in limits if limit.at_once and limit.excess(values) > 0), None)
