"""Refusals of computed values that can't be computed in some trial, or that leave the range of their knob.

`stand_ins` then shows them to the other checks as parameters that are drawn from the range that they span.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from search_spaces.conditions import Parameter, holds, is_active
from search_spaces.draft import Draft
from search_spaces.knobs import KNOBS
from search_spaces.linked import Linked, Number, Spread
from search_spaces.parameters import Choice, Domain, Float
from search_spaces.syntax import refuse
from search_spaces.trial_config import Scalar
from search_spaces.wording import nearest_name

__all__ = ["check_names", "check_variables", "placeholders", "stand_ins"]

_ANY = Choice((True,))  # of what no check looks at


def placeholders(draft: Draft) -> tuple[Parameter, ...]:
    """Returns what is computed as parameters with their conditions alone."""
    return tuple(Parameter(item.id, item.knob, _ANY, item.when) for item in draft.computed)


def check_names(draft: Draft, forbidden: Iterator[tuple[int, str]]) -> None:
    """Refuses names of computed values where only a value that is searched or fixed can stand, and unknown terms.

    Args:
        draft: The space; its parameters may be in any order.
        forbidden: (index of an entry of `forbid`, a name in it).
    """
    computed = {item.knob for item in draft.computed} - set(draft.names())
    cure = "Name what it is computed from"
    for item in (*draft.parameters, *draft.computed):
        for parent, _ in item.when:
            if parent in computed:
                raise draft.refuse(item, _expected(parent), cure, "when", parent)
    for index, name in forbidden:
        if name in computed:
            raise refuse(draft.locate, ("forbid", index, name), _expected(name), cure)
    for item in draft.computed:
        for term in item.terms:
            _check_term(draft, item, term, computed)


def _expected(name: str) -> str:
    return f"expected a knob that the space searches or fixes, but got {name}, which is computed from others"


def _check_term(draft: Draft, item: Linked | Spread, term: str, computed: set[str]) -> None:
    word = _word(item)
    if term == item.knob:
        raise draft.refuse(item, f"expected another name than its own, but got {term}", "Name what decides it", word)
    if term in computed:
        raise draft.refuse(item, _expected(term), "Name what that is computed from", word)
    if term not in draft.names():
        problem = f"expected a name that the space searches or fixes, but got {term!r}, which is not in it"
        cure = f"Add {term} to `space` or `fixed`" if term in KNOBS else nearest_name(term, draft.names())
        raise draft.refuse(item, problem, cure, word)
    values = [edge for domain in draft.domains(term) for edge in domain.edges()]
    values += [draft.fixed[term]] if term in draft.fixed else []
    for value in values:
        if isinstance(value, str | bool):
            problem = f"expected a name of numbers, but got {term}, which can be {value!r}"
            raise draft.refuse(item, problem, "Split it into cases by `when`", word)


def check_variables(draft: Draft) -> None:
    """Refuses a variable that decides nothing."""
    used = {term for item in draft.computed for term in item.terms}
    used |= {parent for item in (*draft.parameters, *draft.computed) for parent, _ in item.when}
    for name in draft.variables - used:
        problem = f"expected a variable that a `linked`, a `spread` or a `when` names, but got {name}, which none does"
        raise refuse(draft.locate, ("variables", name), problem, "Drop it")


def stand_ins(draft: Draft) -> Draft:
    """Returns the draft with what is computed as parameters over the range that they span.

    Raises:
        SpaceError: A term is not set in some trial, or a value leaves its knob's range.
    """
    found = []
    for item in draft.computed:
        domain = _span(draft, item) if isinstance(item, Linked) else _check_spread(draft, item)
        found.append(Parameter(item.id, item.knob, domain, item.when))
    return replace(draft, parameters=(*draft.parameters, *found))


def _span(draft: Draft, item: Linked) -> Domain:
    values: list[Scalar] = []
    for world in _worlds(draft, item):
        bounds = [_bounds(draft, item, term, world) for term in item.terms]
        for numbers in product(*bounds):
            values.append(_checked(draft, item, numbers))
    found = sorted({float(value) for value in values})
    if not found:
        return _ANY  # no trial has it: the check of conditions says so
    return Float(found[0], found[-1]) if found[1:] else Choice((found[0],))


def _checked(draft: Draft, item: Linked, numbers: tuple[Number, ...]) -> Scalar:
    """Returns the value beside those of the terms, which must be what the knob can take."""
    knob, beside = KNOBS.get(item.knob), ", ".join(f"{term}={n:g}" for term, n in zip(item.terms, numbers, strict=True))
    if min(numbers) < 0 or (item.power < 0 and min(numbers) == 0):
        wanted = "more than 0" if item.power < 0 else "0 or more"
        raise draft.refuse(item, f"expected values of {wanted}, but got {beside}", "Raise them", "linked")
    try:
        value = item.value(numbers)
    except OverflowError:
        value = math.inf
    if not math.isfinite(float(value)) or (knob is not None and not knob.accepts(value)):
        wanted = "finite" if knob is None else knob.domain_text()
        problem = f"expected {item.knob} to be {wanted}, but got {value:g} beside {beside}"
        raise draft.refuse(item, problem, "Change the factor, the power or the range it is linked to", "linked")
    return value


def _check_spread(draft: Draft, item: Spread) -> Domain:
    for world in _worlds(draft, item):
        ends = [*(_bounds(draft, item, term, world) for term in item.terms)]
        ends += [(end, end) for end in (item.first, item.last) if not isinstance(end, str)]
        lowest = min(low for low, _ in ends)
        if item.log and lowest <= 0:
            problem = f"expected ends above 0 for equal ratios, but got {lowest:g}"
            raise draft.refuse(item, problem, "Raise them or drop `log`", "spread")
    return _ANY


def _worlds(draft: Draft, item: Linked | Spread) -> Iterator[dict[str, Scalar]]:
    parents = [parent for parent, _ in item.when]
    return (world for world in draft.worlds(*parents, *item.terms) if holds(item.when, world))


def _bounds(draft: Draft, item: Linked | Spread, term: str, world: Mapping[str, Scalar]) -> tuple[Number, Number]:
    """Returns the smallest and largest value of a term in a world."""
    if term in world:
        return _as_number(world[term]), _as_number(world[term])
    for parameter in draft.parameters:
        if parameter.knob == term and is_active(parameter, world):
            low, high = parameter.domain.edges()
            return _as_number(low), _as_number(high)
    beside = ", ".join(f"{name}={value}" for name, value in world.items() if name not in draft.fixed)
    problem = f"expected {term} in every trial that has {item.knob}, but got trials without it ({beside})"
    raise draft.refuse(item, problem, f"Give both the same `when`, or drop that of {term}", _word(item))


def _as_number(value: Scalar) -> Number:
    assert not isinstance(value, str)  # `check_names` has seen to it
    return value


def _word(item: Linked | Spread) -> str:
    return "linked" if isinstance(item, Linked) else "spread"
