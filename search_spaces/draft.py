"""A space as read, before it is checked: what the checks look at, and how they speak of a place in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from search_spaces.conditions import Conditions, Parameter, TooManyWorldsError, holds, worlds
from search_spaces.knob import Task
from search_spaces.linked import Linked, Spread
from search_spaces.parameters import Domain
from search_spaces.syntax import Key, Locator, refuse
from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError

__all__ = ["Draft"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A space as read.

    Attributes:
        task: What the sweep is for.
        parameters: What is searched, parents first.
        fixed: Knob -> its one value.
        forbid: Combinations that must not be tried.
        keys: Id of a parameter or of what is computed -> where it stands in the sweep file.
        locate: Names a place in messages.
        fixed_overrides: (config path, its one value).
        linked: Values that are computed from others.
        spreads: Lists that are built from their ends.
        variables: Names of the user's own that are searched.
    """

    task: Task
    parameters: tuple[Parameter, ...]
    fixed: Mapping[str, Scalar]
    forbid: tuple[Conditions, ...]
    keys: Mapping[str, Key]
    locate: Locator
    fixed_overrides: tuple[tuple[str, Scalar], ...] = ()
    linked: tuple[Linked, ...] = ()
    spreads: tuple[Spread, ...] = ()
    variables: frozenset[str] = frozenset()

    @property
    def computed(self) -> tuple[Linked | Spread, ...]:
        """What no sampler draws."""
        return (*self.linked, *self.spreads)

    def domains(self, knob: str) -> tuple[Domain, ...]:
        """Returns the domains of all cases of a knob."""
        return tuple(parameter.domain for parameter in self.parameters if parameter.knob == knob)

    def names(self) -> tuple[str, ...]:
        """Returns every knob, variable and config path that is searched, and every knob that is fixed."""
        return (*dict.fromkeys(parameter.knob for parameter in self.parameters), *self.fixed)

    def worlds(self, *knobs: str) -> Iterator[dict[str, Scalar]]:
        """Yields the combinations of discrete knobs that can occur, forbidden ones left out."""
        try:
            for world in worlds(self.parameters, knobs, self.fixed):
                if not self.forbids(world):
                    yield world
        except TooManyWorldsError as error:
            raise SpaceError(f"{self.locate(('space',))}: {error}") from error

    def forbids(self, world: Mapping[str, Scalar]) -> bool:
        """Says whether the values of a world alone are forbidden already."""
        return any(holds(entry, world) for entry in self.forbid)

    def refuse(self, item: Parameter | Linked | Spread, problem: str, cure: str, *inside: str) -> SpaceError:
        """Returns the error to raise about `item`."""
        return refuse(self.locate, (*self.keys[item.id], *inside), problem, cure)
