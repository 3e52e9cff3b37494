"""The three kinds of value a search may draw: one of a list, a real number in a range, a whole number in a range.

Domains are frozen values with plain arithmetic. This room imports `segdata.errors` and `search_spaces.trial_config`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError

__all__ = ["Choice", "Domain", "Float", "Int", "plain", "same"]

_GRID_TOLERANCE = 1e-9  # how far, in steps, a value may lie from the grid of a stepped range


def plain(value: object) -> Scalar:
    """Returns `value` as a Python bool, int, float or str (numpy scalars are unpacked).

    Raises:
        SpaceError: If it is none of these.
    """
    unpacked = value.item() if isinstance(value, np.generic) else value
    if not isinstance(unpacked, bool | int | float | str):
        raise SpaceError(f"expected one number, text or true/false, but got {value!r}. Name one scalar a parameter")
    return unpacked


def same(left: object, right: object) -> bool:
    """Says whether two scalars are the same value; 1 and 1.0 are, 1 and true are not."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `values`, which have no order."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise SpaceError("expected at least one value to choose from, but got an empty list. List the values")
        for index, value in enumerate(self.values):
            if any(same(value, earlier) for earlier in self.values[:index]):
                raise SpaceError(f"expected distinct values, but got {value!r} twice. Remove one")

    def contains(self, value: Scalar) -> bool:
        """Says whether `value` is one of the choices."""
        return any(same(value, choice) for choice in self.values)

    def nearest(self, value: Scalar) -> Scalar:
        """Returns `value` if it is a choice, else the choice nearest to a number, else the first."""
        if self.contains(value):
            return value
        numbers = [choice for choice in self.values if not isinstance(choice, bool | str)]
        if len(numbers) < len(self.values) or isinstance(value, bool | str):
            return self.values[0]
        return min(numbers, key=lambda choice: abs(choice - value))

    def middle(self) -> Scalar:
        """Returns the first choice: a list has no middle, and its author put the plainest first."""
        return self.values[0]

    def edges(self) -> tuple[Scalar, ...]:
        """Returns every choice."""
        return self.values

    def size(self) -> int:
        """Returns the number of choices."""
        return len(self.values)

    def discrete(self) -> Sequence[Scalar]:
        """Returns every choice."""
        return self.values

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draws one choice, all equally likely."""
        return self.values[int(rng.integers(len(self.values)))]

    def text(self) -> str:
        """Returns the domain for a table, for example `one of sgd, adamw`."""
        return "one of " + ", ".join(str(value) for value in self.values)


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SpaceError(f"expected finite ends, but got [{low}, {high}]. Give two finite numbers")
    if low > high:
        raise SpaceError(f"expected [low, high], but got [{low}, {high}], the wrong way round. Write [{high}, {low}]")
    if low == high:
        raise SpaceError(f"expected low < high, but got [{low}, {high}]. Put the one value under `fixed`")
    if log and low <= 0:
        raise SpaceError(f"expected low > 0 for a log range, but got {low}. Raise it or drop `log`")
    if step is None:
        return
    if log:
        raise SpaceError("expected `log` or `step`, but got both. Drop one of them")
    if not (math.isfinite(step) and step > 0):
        raise SpaceError(f"expected step > 0, but got {step}. Give the distance between two values")
    steps = (high - low) / step
    if round(steps) < 1 or abs(steps - round(steps)) > _GRID_TOLERANCE * max(1.0, steps):
        raise SpaceError(
            f"expected a step that divides {high} - {low}, but got {step}. "
            f"End the range at {_end_of_grid(low, high, step):g} or change the step"
        )


def _end_of_grid(low: float, high: float, step: float) -> float:
    return low + max(1, math.floor((high - low) / step)) * step


@dataclass(frozen=True, slots=True)
class Float:
    """A real number in [low, high], both ends included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether equal ratios, rather than equal differences, are equally likely.
        step: Distance between two values, or None for all of them.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log, self.step)

    def contains(self, value: Scalar) -> bool:
        """Says whether `value` is a number in the range and on the grid of the step."""
        if isinstance(value, bool | str) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs(value - self._on_grid(value)) <= _GRID_TOLERANCE * max(1.0, abs(self.high))

    def nearest(self, value: Scalar) -> Scalar:
        """Returns the value of the range that lies nearest to a number."""
        clipped = min(max(float(value), self.low), self.high)
        return clipped if self.step is None else self._on_grid(clipped)

    def middle(self) -> Scalar:
        """Returns the middle of the range (the geometric one if `log`), on the grid of the step."""
        return self.nearest(math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2)

    def edges(self) -> tuple[Scalar, ...]:
        """Returns the two ends."""
        return (self.low, self.high)

    def size(self) -> int | None:
        """Returns the number of values, None if there is no step."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def discrete(self) -> Sequence[Scalar] | None:
        """Returns every value, or None if there is no step."""
        size = self.size()
        if size is None or self.step is None:
            return None
        return [min(self.low + index * self.step, self.high) for index in range(size)]

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draws one value."""
        if self.log:
            return self.nearest(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        size = self.size()
        return self.nearest(
            rng.uniform(self.low, self.high)
            if size is None
            else self.low + int(rng.integers(size)) * cast(float, self.step)
        )

    def text(self) -> str:
        """Returns the domain for a table, for example `0.0001 to 0.1 (log)`."""
        detail = " (log)" if self.log else f" step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{detail}"

    def _on_grid(self, value: float) -> float:
        step = cast(float, self.step)
        return min(self.low + round((value - self.low) / step) * step, self.high)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in [low, high], both ends included; `log` and `step` as in `Float`."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log, None if self.step == 1 else self.step)

    def contains(self, value: Scalar) -> bool:
        """Says whether `value` is a whole number in the range and on the grid of the step."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def nearest(self, value: Scalar) -> Scalar:
        """Returns the value of the range that lies nearest to a number."""
        clipped = min(max(float(value), self.low), self.high)
        return min(self.low + round((clipped - self.low) / self.step) * self.step, self.high)

    def middle(self) -> Scalar:
        """Returns the middle of the range (the geometric one if `log`), on the grid of the step."""
        return self.nearest(math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2)

    def edges(self) -> tuple[Scalar, ...]:
        """Returns the two ends."""
        return (self.low, self.high)

    def size(self) -> int:
        """Returns the number of values."""
        return (self.high - self.low) // self.step + 1

    def discrete(self) -> Sequence[Scalar]:
        """Returns every value."""
        return range(self.low, self.high + 1, self.step)

    def sample(self, rng: np.random.Generator) -> Scalar:
        """Draws one value; in a log range each whole number stands for the half unit on either side of it."""
        if self.log:
            return self.nearest(math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5))))
        return self.low + int(rng.integers(self.size())) * self.step

    def text(self) -> str:
        """Returns the domain for a table, for example `9 to 15`."""
        detail = " (log)" if self.log else f" step {self.step}" if self.step != 1 else ""
        return f"{self.low} to {self.high}{detail}"


Domain = Choice | Float | Int
