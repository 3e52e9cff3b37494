"""What a user asks of a sweep while it runs: points to try next, and trials to end.

A wish is a small file in the sweep's folder, since the study has one writer, the driver. It takes them up at its next
suggestion; if none runs, at the next `segsweep resume`. One that was taken up twice, around a kill, counts once.
"""

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.conditions import Parameter
from search_spaces.parameters import Choice, Int
from search_spaces.space import Space
from search_spaces.trial_config import Scalar
from search_spaces.wording import nearest_name
from segdata.errors import InputError

__all__ = ["Wish", "Wishes", "parse_wish", "wished_parameters"]


@dataclass(frozen=True, slots=True)
class Wish:
    """A point to try: values of some parameters by their ids; the sampler draws the others."""

    id: str
    parameters: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Wishes:
    """The points that wait in a sweep's folder, oldest first."""

    folder: Path

    def add(self, parameters: Mapping[str, Scalar]) -> Wish:
        """Adds a point, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = max((int(path.name.partition("-")[0]) for path in self.folder.glob("*.json")), default=0) + 1
        wish = Wish(f"{number:06d}-{uuid.uuid4().hex[:8]}", dict(parameters))
        partial = self.folder / f"{wish.id}.tmp"
        partial.write_text(json.dumps(wish.parameters))
        partial.replace(self.folder / f"{wish.id}.json")
        return wish

    def waiting(self) -> tuple[Wish, ...]:
        """Returns the points that the driver has not taken up yet."""
        paths = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        return tuple(Wish(path.stem, json.loads(path.read_text())) for path in paths)

    def fulfil(self, wish: Wish) -> None:
        """Removes a point that the study has."""
        (self.folder / f"{wish.id}.json").unlink(missing_ok=True)


def parse_wish(pairs: Sequence[str]) -> dict[str, str]:
    """Reads `lr=0.01 optimizer=sgd`.

    Raises:
        InputError: One is no KNOB=VALUE, or a knob comes twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign and value):
            raise InputError.of(f"expected KNOB=VALUE, but got {pair!r}", where="point", cure="Write it as lr=0.01.")
        if name in values:
            raise InputError.of(f"expected {name} once, but got it twice", where="point", cure="Leave one out.")
        values[name] = value
    return values


def wished_parameters(space: Space, wish: Mapping[str, str]) -> dict[str, Scalar]:
    """Returns the value of each parameter that a wish can mean: of a knob with several cases, all that allow it.

    Raises:
        InputError: A knob is not searched, a value is outside of its range, or the values never go together.
    """
    found: dict[str, Scalar] = {}
    for name, text in wish.items():
        cases = [parameter for parameter in space.parameters if parameter.knob == name]
        if not cases:
            raise refuse_knob(space, name, text)
        read = {case.id: read_value(case, text) for case in cases}
        fitting = {case.id: value for case in cases if (value := read[case.id]) is not None}
        if not fitting:
            ranges = "; ".join(case.domain.text() for case in cases)
            raise InputError.of(f"expected {ranges}, but got {text}", where=name, cure="Choose a value of the space.")
        found |= fitting
    refuse_apart(space, found)
    return found


def refuse_knob(space: Space, name: str, text: str) -> InputError:
    """Returns the error for a knob that the sweep does not search."""
    if name in space.fixed:
        return InputError.of(
            f"expected a knob that is searched, but it is fixed at {space.fixed[name]}",
            where=name,
            cure="Leave it out.",
        )
    searched = {parameter.knob for parameter in space.parameters}
    return InputError.of(
        f"expected a knob that the sweep searches, but got {name}={text}",
        where="point",
        cure=nearest_name(name, searched),
    )


def read_value(parameter: Parameter, text: str) -> Scalar | None:
    """Returns the value of the parameter's domain that is written so, None if there is none."""
    domain = parameter.domain
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if isinstance(domain, Choice):
        return next((value for value in domain.values if is_written(value, text, number)), None)
    value = int(number) if isinstance(domain, Int) and number.is_integer() else number
    return value if domain.contains(value) else None


def is_written(value: Scalar, text: str, number: float) -> bool:
    """Tells whether a choice is meant by a text, which is that number if it is one."""
    if isinstance(value, bool | str):
        return str(value).lower() == text.lower()
    return value == number


def refuse_apart(space: Space, wished: Mapping[str, Scalar]) -> None:
    """Raises InputError if a wished knob can't exist beside another, or if the space forbids the two."""
    values = {parameter.knob: wished[parameter.id] for parameter in space.parameters if parameter.id in wished}
    for knob in values:
        cases = [parameter for parameter in space.parameters if parameter.id in wished and parameter.knob == knob]
        if not any(may_exist(case, values | dict(space.fixed)) for case in cases):
            needed = " or ".join(condition_text(case) for case in cases)
            others = ", ".join(f"{name}={value}" for name, value in values.items() if name != knob)
            problem = f"expected {knob}={values[knob]} beside {needed} only, but got {others or 'nothing beside it'}"
            raise InputError.of(problem, where="point", cure="Change one of them.")
    forbidden = space.forbidden(values)
    if forbidden is not None:
        pairs = ", ".join(f"{name}={value}" for name, value in forbidden.items())
        raise InputError.of(f"expected an allowed combination, but got {pairs}", where="point", cure="Change one.")


def may_exist(parameter: Parameter, values: Mapping[str, Scalar]) -> bool:
    """Tells whether no wished or fixed value speaks against the parameter."""
    return all(knob not in values or values[knob] in allowed for knob, allowed in parameter.when)


def condition_text(parameter: Parameter) -> str:
    """Returns the conditions as a sweep file has them."""
    return ", ".join(f"{knob}={'|'.join(map(str, allowed))}" for knob, allowed in parameter.when)
