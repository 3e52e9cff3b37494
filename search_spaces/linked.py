"""Values that no sampler draws: knobs computed from others, and lists from their first to their last value.

    lr: {linked: batch_size, factor: 1e-3}           factor x batch_size
    lr: {linked: [rate, batch_size], power: 0.5}     the square root of rate x batch_size
    PATH: {spread: [0.5, widest], count: 3}          three values from 0.5 to that of `widest`, evenly spaced

Frozen values with plain arithmetic; reading them is for `linked_syntax`, their ranges for `linked_checks`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.conditions import Conditions, holds
from search_spaces.knobs import KNOBS
from search_spaces.parameters import Int
from search_spaces.trial_config import Scalar

__all__ = ["Linked", "Spread", "linked_values"]

Number = int | float


@dataclass(frozen=True, slots=True)
class Linked:
    """One knob, config path or case of it that is `factor` x (product of `terms`) ** `power`.

    Attributes:
        id: As of a parameter, "lr" or "lr[optimizer=sgd]".
        knob: Name of the knob, or the config path.
        terms: Names of the knobs and variables that it is computed from.
        factor: What their product is multiplied with.
        power: What their product is raised to before.
        when: As of a parameter.
    """

    id: str
    knob: str
    terms: tuple[str, ...]
    factor: Number = 1
    power: Number = 1
    when: Conditions = ()

    def value(self, numbers: tuple[Number, ...]) -> Scalar:
        """Returns the value beside those of the terms; rounded if the knob takes whole numbers only.

        Raises:
            OverflowError: It is too large for a number.
        """
        product = math.prod(numbers)
        found = self.factor * (product if self.power == 1 else float(product) ** self.power)
        knob = KNOBS.get(self.knob)
        if knob is None:
            return found
        return round(found) if isinstance(knob.domain, Int) else float(found)

    def text(self) -> str:
        """Returns the rule for a table, for example `0.001 x batch_size`."""
        product = " x ".join(self.terms)
        if self.power != 1:
            product = f"({product}) ** {self.power:g}" if self.terms[1:] else f"{product} ** {self.power:g}"
        return product if self.factor == 1 else f"{self.factor:g} x {product}"


@dataclass(frozen=True, slots=True)
class Spread:
    """A config path that holds a list from `first` to `last`, each a number or the name of what is one.

    Attributes:
        id: As of a parameter.
        knob: The config path.
        first: First value.
        last: Last value.
        count: How many there are, at least two.
        log: Whether neighbours have equal ratios rather than equal differences.
        when: As of a parameter.
    """

    id: str
    knob: str
    first: Number | str
    last: Number | str
    count: int
    log: bool = False
    when: Conditions = ()

    @property
    def terms(self) -> tuple[str, ...]:
        """The names that it depends on."""
        return tuple(end for end in (self.first, self.last) if isinstance(end, str))

    def values(self, sample: Mapping[str, Scalar]) -> tuple[Scalar, ...]:
        """Returns the list beside a whole sample."""
        first, last = (float(sample[end] if isinstance(end, str) else end) for end in (self.first, self.last))
        shares = [index / (self.count - 1) for index in range(self.count)]
        if self.log:
            middle = [first * (last / first) ** share for share in shares[1:-1]]
        else:
            middle = [first + (last - first) * share for share in shares[1:-1]]
        return (first, *middle, last)

    def text(self) -> str:
        """Returns the rule for a table, for example `3 values from 0.5 to widest`."""
        ends = " to ".join(end if isinstance(end, str) else f"{end:g}" for end in (self.first, self.last))
        return f"{self.count} values from {ends}" + (" (log)" if self.log else "")


def linked_values(linked: tuple[Linked, ...], values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Returns the linked values that can be told from `values`, which may be a part of a sample."""
    found: dict[str, Scalar] = {}
    for item in linked:
        if holds(item.when, values) and all(term in values for term in item.terms):
            numbers = [values[term] for term in item.terms]
            found[item.knob] = item.value(tuple(number for number in numbers if not isinstance(number, str)))
    return found
