"""An ensemble as it is tried: members with whole weights, a method and its settings.

Weights are whole numbers with a sum of about 100 at most, so that votes are exact and the same ensemble, reached on
two ways, is judged once. Imports this package's settings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ensembling.settings import FusionSettings

__all__ = ["Blend", "Weights", "whole_weights"]

Weights = Mapping[int, int]  # index of a candidate -> its weight, a whole number above 0
_PARTS = 100


@dataclass(frozen=True, slots=True)
class Blend:
    """An ensemble to judge.

    Attributes:
        method: One of `ensembling.fusion.METHODS`; None = the only member's prediction set as it is.
        weights: (index of the candidate, weight), by index; whole numbers above 0 without a common divisor.
        settings: Of the fusion.
    """

    method: str | None
    weights: tuple[tuple[int, int], ...]
    settings: FusionSettings

    @classmethod
    def of(cls, method: str | None, weights: Weights, settings: FusionSettings) -> Self:
        """Builds it from weights of any common divisor."""
        divisor = math.gcd(*weights.values())
        return cls(method, tuple((index, weights[index] // divisor) for index in sorted(weights)), settings)

    @property
    def members(self) -> tuple[int, ...]:
        """Indices of the candidates, ascending."""
        return tuple(index for index, _ in self.weights)

    @property
    def votes(self) -> tuple[int, ...]:
        """Weights, in the order of `members`."""
        return tuple(weight for _, weight in self.weights)


def whole_weights(weights: Mapping[int, float]) -> dict[int, int]:
    """Returns weights above 0 as whole numbers: as they are if whole and few, else in hundredths, each at least 1."""
    if all(weight == int(weight) for weight in weights.values()) and sum(weights.values()) <= _PARTS:
        return {index: int(weight) for index, weight in weights.items()}
    total = math.fsum(weights.values())
    return {index: max(1, round(weight / total * _PARTS)) for index, weight in weights.items()}
