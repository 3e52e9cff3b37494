"""Points of an earlier sweep to try first, as far as the space of this one has a place for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search_spaces.space import Space
from search_spaces.trial_config import Scalar
from segdata.errors import InputError
from segsweep.wishes import may_exist, read_value
from segtrack.reader import RecordedSweep
from segtrack.recorder import entry_name

__all__ = ["WarmStart", "warm_start"]


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Points by parameter ids, best first, and what of the earlier sweep has no place here: knob -> why."""

    points: tuple[Mapping[str, Scalar], ...]
    dropped: Mapping[str, str]


def warm_start(space: Space, earlier: RecordedSweep, metric: str, top: int, mode: str = "max") -> WarmStart:
    """Returns the best points of an earlier sweep; what the two spaces do not share is drawn anew.

    Raises:
        InputError: The earlier sweep looked for something else, or nothing of it can be used.
    """
    if (earlier.metric, earlier.mode) != (metric, mode):
        raise InputError.of(
            f"expected a sweep that was searched for {metric} (mode {mode}), but {earlier.name} was for "
            f"{earlier.metric} (mode {earlier.mode})",
            where="warm_start",
            cure="Name another sweep, or leave the key out.",
        )
    dropped: dict[str, str] = {}
    points: list[Mapping[str, Scalar]] = []
    for trial in earlier.trials:
        point = point_of(space, trial.parameters, dropped)
        if point and point not in points:
            points.append(point)
        if len(points) == top:
            break
    if not points:
        raise InputError.of(
            f"expected trials of {earlier.name} with values that this space has, but got none",
            where="warm_start",
            cure="Leave the key out.",
        )
    return WarmStart(tuple(points), dropped)


def point_of(space: Space, recorded: Mapping[str, str], dropped: dict[str, str]) -> dict[str, Scalar]:
    """Returns the parameters that take a recorded value, and adds to `dropped` what none takes."""
    point: dict[str, Scalar] = {}
    values: dict[str, Scalar] = dict(space.fixed)
    for parameter in space.parameters:
        text = recorded.get(entry_name(parameter.knob))
        if text is None or parameter.knob in values or not may_exist(parameter, values):
            continue
        value = read_value(parameter, text)
        if value is None:
            dropped[parameter.knob] = f"it was {text}, and here it is {parameter.domain.text()}"
        else:
            point[parameter.id] = values[parameter.knob] = value
    searched = {entry_name(parameter.knob) for parameter in space.parameters}
    fixed = {entry_name(knob) for knob in space.fixed}
    for name in recorded:
        if name not in searched:
            dropped[name] = "it is fixed here" if name in fixed else "it is not searched here"
    return point if space.forbidden(values) is None else {}


def dropped_text(dropped: Mapping[str, str]) -> Sequence[str]:
    """Returns a line for each knob that was dropped."""
    return [f"warm start: {knob} is drawn anew, since {why}" for knob, why in sorted(dropped.items())]
