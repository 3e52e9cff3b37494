"""What a sweep looks for: one score, or several objectives between which no single trial need be best.

Trials are compared by Pareto dominance: one beats another if it is nowhere worse and somewhere better. Imports the
names of costs from trainables.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from trainables.limits import COSTS

__all__ = ["Front", "Mode", "Objective", "first_of_list", "front", "matches_or_beats"]

Mode = Literal["max", "min"]


class Objective(NamedTuple):
    """A score or a cost, and which direction is better."""

    name: str
    mode: Mode

    def signed(self, value: float) -> float:
        """Returns the value such that more is better."""
        return value if self.mode == "max" else -value


def first_of_list(values: Mapping[str, object]) -> dict[str, object]:
    """Returns a sweep file's values with a list of metrics, and of modes, taken apart: the first, and the others.

    What has no such form stays as it is, for a message about it.
    """
    metrics, modes = values.get("metric"), values.get("mode", "max")
    if not is_list_of_names(metrics):
        return dict(values)
    assert isinstance(metrics, list | tuple)
    taken: dict[str, object] = {"metric": metrics[0], "further_metrics": list(metrics[1:])}
    if is_list_of_names(modes):
        assert isinstance(modes, list | tuple)
        if len(modes) == len(metrics) and set(modes) <= {"max", "min"}:
            taken |= {"mode": modes[0], "further_modes": list(modes[1:])}
    elif isinstance(modes, str):
        taken["further_modes"] = ["min" if name in COSTS else modes for name in metrics[1:]]
    return {**values, **taken}


def is_list_of_names(value: object) -> bool:
    """Tells whether this is a list with names and nothing else in it."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(name, str) for name in value)


def matches_or_beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tells whether `one` is nowhere worse than `other`; in both more is better."""
    return all(mine >= theirs for mine, theirs in zip(one, other, strict=True))


class Front:
    """The front of points that come one by one; what a point costs grows with the front, not with all that came.

    Attributes:
        points: Those that no other one beats, by the number that they came with.
    """

    def __init__(self) -> None:
        self.points: dict[int, tuple[float, ...]] = {}

    def add(self, number: int, point: Sequence[float]) -> None:
        """Takes a point up if none beats it, and drops those that it beats; see `front`."""
        new = tuple(point)
        beaten = any(past != new and matches_or_beats(past, new) for past in self.points.values())
        if beaten or any(map(math.isnan, new)):
            return
        left = {known: past for known, past in self.points.items() if past == new or not matches_or_beats(new, past)}
        self.points = left | {number: new}


def front(points: Iterable[Sequence[float]]) -> set[int]:
    """Returns the indices of the points that no other one beats; equal ones do not beat each other.

    Args:
        points: Where more is better in each place. One with NaN is on no front.
    """
    known = {index: tuple(point) for index, point in enumerate(points) if not any(map(math.isnan, point))}
    found: dict[int, tuple[float, ...]] = {}
    for index in sorted(known, key=known.__getitem__, reverse=True):  # whoever beats a point comes before it
        point = known[index]
        if not any(past != point and matches_or_beats(past, point) for past in found.values()):
            found[index] = point
    return set(found)
