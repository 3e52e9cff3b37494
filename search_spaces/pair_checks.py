"""Refusals of knobs that a space would set together although they exclude each other."""

from collections.abc import Mapping

from search_spaces.conditions import is_active
from search_spaces.draft import Draft
from search_spaces.knobs import KNOBS
from search_spaces.syntax import Key, refuse
from search_spaces.trial_config import Scalar

__all__ = ["check_excluded"]


def check_excluded(draft: Draft) -> None:
    """Refuses two knobs of which one says what the other says otherwise, such as `epochs` and `max_iters`."""
    names = dict.fromkeys(name for name in draft.names() if name in KNOBS)
    for name in names:
        for other in KNOBS[name].excludes:
            if other in names and any(
                is_set(draft, name, world) and is_set(draft, other, world)
                for world in draft.worlds(*parents(draft, name, other))
            ):
                problem = f"expected {name} or {other} in a trial, but got both"
                cure = f"Remove one, or give each its `when`: {other} has no meaning beside {name}"
                raise refuse(draft.locate, place(draft, name), problem, cure)


def parents(draft: Draft, *names: str) -> tuple[str, ...]:
    """Returns the knobs on whose values it depends whether one of `names` is set."""
    return tuple(parent for item in draft.parameters if item.knob in names for parent, _ in item.when)


def is_set(draft: Draft, name: str, world: Mapping[str, Scalar]) -> bool:
    """Says whether a trial of this world has a value of the knob."""
    return name in draft.fixed or any(item.knob == name and is_active(item, world) for item in draft.parameters)


def place(draft: Draft, name: str) -> Key:
    """Returns where the knob stands in the sweep file."""
    if name in draft.fixed:
        return ("fixed", name)
    return next(draft.keys[item.id] for item in draft.parameters if item.knob == name)
