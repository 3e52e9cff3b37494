"""Refusals of conditions and forbidden combinations that make no sense together."""

from collections.abc import Sequence

from search_spaces.conditions import Conditions, Parameter, TooManyWorldsError, is_active, worlds
from search_spaces.draft import Draft
from search_spaces.knobs import KNOBS
from search_spaces.parameters import same
from search_spaces.syntax import refuse
from search_spaces.trial_config import Scalar
from search_spaces.wording import brief, nearest_name
from segdata.errors import SpaceError

__all__ = ["check_conditions", "check_forbid", "check_parents"]


def check_parents(draft: Draft) -> None:
    """Refuses a `when` whose parent is not in the space, or can never take the value.

    The parameters may be in any order here.
    """
    for parameter in draft.parameters:
        for parent, allowed in parameter.when:
            if parent not in draft.names():
                raise _missing_parent(draft, parameter, parent)
            for value in allowed:
                _check_parent_value(draft, parameter, parent, value)


def _missing_parent(draft: Draft, parameter: Parameter, parent: str) -> SpaceError:
    cure = f"Add {parent} to the space" if parent in KNOBS else nearest_name(parent, draft.names())
    problem = f"expected a knob that the space searches or fixes, but got {parent!r}, which is not in it"
    return draft.refuse(parameter, problem, cure, "when", parent)


def _check_parent_value(draft: Draft, parameter: Parameter, parent: str, value: Scalar) -> None:
    if parent in draft.fixed:
        if not same(draft.fixed[parent], value):
            problem = f"expected {parent} to be able to be {value!r}, but got it fixed to {draft.fixed[parent]!r}"
            raise draft.refuse(parameter, problem, "Drop this parameter or search its parent", "when", parent)
        return
    domains = draft.domains(parent)
    if any(domain.discrete() is None for domain in domains):
        problem = f"expected a parent with separate values, but got {parent}, which is continuous"
        raise draft.refuse(parameter, problem, "Make it a choice, an int or a float with a step", "when", parent)
    if not any(domain.contains(value) for domain in domains):
        found = "; ".join(brief(domain) for domain in domains)
        cure = nearest_name(value, [str(option) for domain in domains for option in domain.edges()])
        problem = f"expected a value that {parent} can take ({found}), but got {value!r}"
        raise draft.refuse(parameter, problem, cure, "when", parent)


def check_conditions(draft: Draft) -> None:
    """Refuses overlapping cases of one knob and parameters that can never exist."""
    for knob in dict.fromkeys(parameter.knob for parameter in draft.parameters):
        cases = [parameter for parameter in draft.parameters if parameter.knob == knob]
        parents = [parent for case in cases for parent, _ in case.when]
        seen: set[str] = set()
        for world in draft.worlds(*parents):
            active = [case for case in cases if is_active(case, world)]
            if len(active) > 1:
                raise _overlap(draft, active)
            seen.update(case.id for case in active)
        for case in cases:
            if case.id not in seen:
                problem = f"expected conditions that can hold together, but got {case.id}, which never exists"
                raise draft.refuse(case, problem, "Drop it or change its `when`", "when")


def _overlap(draft: Draft, active: Sequence[Parameter]) -> SpaceError:
    first, second = active[0], active[1]
    problem = f"expected cases that exclude each other, but got {first.id} and {second.id} at once"
    return draft.refuse(second, problem, "Change one `when` so that at most one case holds")


def check_forbid(draft: Draft) -> None:
    """Refuses entries that can never occur, and a space in which everything is forbidden."""
    for index, entry in enumerate(draft.forbid):
        for name, values in entry:
            for value in values:
                _check_forbidden_value(draft, index, name, value)
    try:
        for index, entry in enumerate(draft.forbid):
            _check_entry_occurs(draft, index, entry)
        _check_something_is_left(draft)
    except TooManyWorldsError:
        return  # too many to walk: if nothing is left, drawing the baseline says so


def _check_something_is_left(draft: Draft) -> None:
    names = [name for entry in draft.forbid for name, _ in entry]
    if names and all(draft.forbids(world) for world in worlds(draft.parameters, names, draft.fixed)):
        problem = "expected some combination to be left, but got a space that is all forbidden"
        raise refuse(draft.locate, ("forbid",), problem, "Drop an entry of forbid")


def _check_forbidden_value(draft: Draft, index: int, name: str, value: Scalar) -> None:
    fixed = name in draft.fixed and same(draft.fixed[name], value)
    domains = draft.domains(name)
    if not fixed and not any(domain.contains(value) for domain in domains):
        found = "; ".join(brief(domain) for domain in domains) or f"fixed to {draft.fixed[name]!r}"
        cure = nearest_name(value, [str(option) for domain in domains for option in domain.edges()])
        problem = f"expected a value that {name} can take ({found}), but got {value!r}"
        raise refuse(draft.locate, ("forbid", index, name), problem, cure)
    if not fixed and not any(domain.discrete() is not None for domain in domains if domain.contains(value)):
        problem = f"expected a value of {name} that is drawn now and then, but got one real number of a range"
        raise refuse(draft.locate, ("forbid", index, name), problem, f"Give {name} a choice or a step, or drop it")


def _check_entry_occurs(draft: Draft, index: int, entry: Conditions) -> None:
    names = [name for name, _ in entry]
    if any(domain.discrete() is None for name in names for domain in draft.domains(name)):
        return
    alone = Draft(draft.task, draft.parameters, draft.fixed, (entry,), draft.keys, draft.locate)
    if not any(alone.forbids(world) for world in worlds(draft.parameters, names, draft.fixed)):
        problem = f"expected a combination that can occur, but got {', '.join(names)} never with these values together"
        raise refuse(draft.locate, ("forbid", index), problem, "Drop the entry")
