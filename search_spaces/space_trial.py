"""What a space function suggests to: it notes what is suggested, and which choices the function looks at."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.parameters import plain
from search_spaces.trial_config import Scalar
from search_spaces.watched import unwatched, watched
from segdata.errors import SpaceError

__all__ = ["SpaceTrial", "Spec"]

MOST_WHOLE = 64  # values of a whole-number range that a function may look at

Spec = dict[str, Any]  # a domain as in a sweep file


@dataclass(slots=True)
class SpaceTrial:
    """What a space function gets: it suggests values as an Optuna trial does, by knob or config path.

    Attributes:
        path: What this run takes for the choices that it looks at, name -> value, as far as that is decided.
        domains: What was suggested, in the form of a sweep file.
        options: Name -> the values that it could have taken; None = too many to look at.
        given: Name -> the value that was returned for it.
        lines: Name -> the line that suggests it.
        looked: The choices that were looked at, in order.
    """

    path: Mapping[str, Scalar]
    domains: dict[str, Spec] = field(default_factory=dict)
    options: dict[str, Sequence[Scalar] | None] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    looked: dict[str, Scalar] = field(default_factory=dict)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Returns a number of the range; nothing may depend on which."""
        first, last, distance = (unwatched(bound) for bound in (low, high, step))
        spec: Spec = {"float": [first, last]} | ({} if distance is None else {"step": distance})
        value: float = self._suggest(name, spec | ({"log": True} if log else {}), first, None)
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Returns a whole number of the range."""
        first, last, distance = (unwatched(bound) for bound in (low, high, step))
        spec: Spec = {"int": [first, last]} | ({} if distance == 1 else {"step": distance})
        options = range(first, last + 1, distance)
        listed = options if len(options) <= MOST_WHOLE else None
        value: int = self._suggest(name, spec | ({"log": True} if log else {}), first, listed)
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Any:
        """Returns one of the choices."""
        values = [plain(unwatched(choice)) for choice in choices]
        if not values:
            raise SpaceError(f"expected choices for {name}, but got none. List some")
        return self._suggest(name, {"choice": values}, values[0], values)

    def _suggest(self, name: str, spec: Spec, first: Scalar, options: Sequence[Scalar] | None) -> Any:
        name = unwatched(name)
        if name in self.domains:
            if repr(self.domains[name]) != repr(spec):
                found = f"{self.domains[name]} and {spec}"
                raise SpaceError(f"expected one domain for {name} in a run, but got {found}. Suggest it once")
            return self.given[name]
        self.domains[name], self.options[name] = spec, options
        self.lines[name] = _line_of_caller()
        value = self.path.get(name, first)
        self.given[name] = watched(value, lambda: self._look(name, value))
        return self.given[name]

    def _look(self, name: str, value: Scalar) -> None:
        if self.options[name] is None:
            raise SpaceError(
                f"expected nothing to depend on the value of {name}, which is a range, but it is looked at. "
                "Suggest a choice, or use `linked` in a YAML space"
            )
        self.looked.setdefault(name, value)


def _line_of_caller() -> int:
    """Returns the line of the function that called `suggest_...`."""
    frame = inspect.currentframe()
    for _ in range(3):
        frame = frame.f_back if frame is not None else None
    return 0 if frame is None else frame.f_lineno
