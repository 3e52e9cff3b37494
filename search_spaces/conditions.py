"""Parameters that exist only beside certain values of others: order, activity, and the worlds that can occur.

A *world* is a partial sample: the values of a few discrete knobs that can occur together. Checks that depend on
conditions walk the worlds of just the knobs concerned, so they are exact and cheap.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from search_spaces.parameters import Domain, same
from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError

__all__ = [
    "Conditions",
    "Parameter",
    "TooManyWorldsError",
    "WORLD_LIMIT",
    "ancestors",
    "dependency_order",
    "holds",
    "is_active",
    "worlds",
]

Conditions = tuple[tuple[str, tuple[Scalar, ...]], ...]  # (knob, allowed values), all of which must hold

WORLD_LIMIT = 100_000  # more combinations than this are not walked


class TooManyWorldsError(SpaceError):
    """Conditions span more combinations than are walked."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that the sampler draws: a knob (or config path) under its conditions.

    Attributes:
        id: Unique name for the sampler, "lr" or "lr[optimizer=sgd]".
        knob: Name of the knob, or the dotted config path of a searched override.
        domain: What it can be.
        when: (knob, allowed values) that must all hold for it to exist.
    """

    id: str
    knob: str
    domain: Domain
    when: Conditions = ()


def holds(conditions: Conditions, sample: Mapping[str, Scalar]) -> bool:
    """Says whether every condition holds in `sample`; a knob that is absent fulfils none."""
    return all(knob in sample and any(same(sample[knob], value) for value in allowed) for knob, allowed in conditions)


def is_active(parameter: Parameter, sample: Mapping[str, Scalar]) -> bool:
    """Says whether `parameter` exists beside the values of `sample`."""
    return holds(parameter.when, sample)


def dependency_order(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Returns the parameters with parents before children, otherwise in the order given.

    Raises:
        SpaceError: If conditions form a circle; names it.
    """
    parents: dict[str, set[str]] = {}
    for parameter in parameters:
        parents.setdefault(parameter.knob, set()).update(parent for parent, _ in parameter.when)
    placed: list[str] = []
    while len(placed) < len(parents):
        ready = next((knob for knob in parents if knob not in placed and parents[knob] <= set(placed)), None)
        if ready is None:
            circle = _circle({knob: found for knob, found in parents.items() if knob not in placed})
            raise SpaceError(
                f"expected conditions without a circle, but got {' -> '.join(circle)}. Drop one of these `when`s"
            )
        placed.append(ready)
    return tuple(sorted(parameters, key=lambda parameter: placed.index(parameter.knob)))


def _circle(parents: Mapping[str, Collection[str]]) -> list[str]:
    walk = [min(parents)]
    while True:
        following = min(parent for parent in parents[walk[-1]] if parent in parents)
        if following in walk:
            return [*walk[walk.index(following) :], following]
        walk.append(following)


def ancestors(parameters: Sequence[Parameter], knobs: Collection[str]) -> set[str]:
    """Returns `knobs` and every knob that one of their conditions depends on, near or far."""
    found = set(knobs)
    for parameter in reversed(parameters):  # in dependency order a child comes after its parents
        if parameter.knob in found:
            found.update(parent for parent, _ in parameter.when)
    return found


def worlds(
    parameters: Sequence[Parameter], knobs: Collection[str], start: Mapping[str, Scalar], limit: int = WORLD_LIMIT
) -> Iterator[dict[str, Scalar]]:
    """Yields every combination of the discrete ones among `knobs` and their ancestors that can occur.

    Args:
        parameters: In dependency order.
        knobs: The knobs of interest; ones with a continuous domain are left out of the worlds.
        start: Values that hold in every world (the fixed knobs).
        limit: Largest number of worlds.

    Raises:
        TooManyWorldsError: If there are more than `limit`.
    """
    wanted = ancestors(parameters, knobs)
    chosen = [parameter for parameter in parameters if parameter.knob in wanted]
    for count, world in enumerate(_grow(chosen, dict(start))):
        if count >= limit:
            raise TooManyWorldsError(
                f"expected conditions over at most {limit:,} combinations of {', '.join(sorted(wanted))}, "
                "but got more. Shorten their lists or give ranges a step"
            )
        yield world


def _grow(parameters: Sequence[Parameter], world: dict[str, Scalar]) -> Iterator[dict[str, Scalar]]:
    if not parameters:
        yield dict(world)
        return
    first, rest = parameters[0], parameters[1:]
    values = first.domain.discrete() if is_active(first, world) and first.knob not in world else None
    if values is None:
        yield from _grow(rest, world)
        return
    for value in values:
        yield from _grow(rest, world | {first.knob: value})
