"""A search space: what a sweep may try, one sample of it, and the trial that a sample stands for.

`parse_space` reads and checks the form of a sweep file; a `Space` is a frozen value that any sampler can walk: its
parameters come parents first, each says when it is active, and samples are mappings knob -> scalar.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from search_spaces.conditions import Conditions, Parameter, TooManyWorldsError, holds, is_active, worlds
from search_spaces.knob import Task
from search_spaces.knobs import KNOBS, ORDERED_KNOBS, unordered
from search_spaces.linked import Linked, Spread, linked_values
from search_spaces.parameters import Int, plain, same
from search_spaces.reader import read_draft
from search_spaces.syntax import Locator, located
from search_spaces.trial_config import Scalar, TrialConfig, Value
from search_spaces.wording import brief, nearest_name
from segdata.errors import SpaceError

__all__ = ["Parameter", "Space", "parse_space"]

_SAMPLE_ATTEMPTS = 1000
_LINK_TOLERANCE = 1e-9  # by which a computed value that is repeated may differ


@dataclass(frozen=True, slots=True)
class Space:
    """What a sweep may try.

    Attributes:
        task: What the sweep is for.
        parameters: What is searched, parents before children.
        fixed: Knob -> value that every trial has.
        fixed_overrides: (config path, value) that every trial has.
        forbid: Combinations that no trial has.
        linked: What is computed from other values of a sample, and is part of it.
        spreads: Lists at config paths, of which a sample has the ends only.
        variables: Names in samples that are no knobs: others are computed from them.
    """

    task: Task
    parameters: tuple[Parameter, ...]
    fixed: Mapping[str, Scalar]
    fixed_overrides: tuple[tuple[str, Scalar], ...] = ()
    forbid: tuple[Conditions, ...] = ()
    linked: tuple[Linked, ...] = ()
    spreads: tuple[Spread, ...] = ()
    variables: frozenset[str] = frozenset()

    @property
    def computed(self) -> tuple[Linked | Spread, ...]:
        """What no sampler draws."""
        return (*self.linked, *self.spreads)

    def active(self, parameter: Parameter, sample: Mapping[str, Scalar]) -> bool:
        """Says whether `parameter` exists beside the values of a (partial) sample."""
        return is_active(parameter, sample)

    def forbidden(self, sample: Mapping[str, Scalar]) -> Mapping[str, Scalar] | None:
        """Returns the values of a (partial) sample that must not go together, or None if it is allowed."""
        values = self._with_computed({**self.fixed, **sample})
        for entry in self.forbid:
            if holds(entry, values):
                return {name: values[name] for name, _ in entry}
        return unordered(values)

    def draw(self, suggest: Callable[[Parameter], Scalar]) -> dict[str, Scalar]:
        """Returns a sample, perhaps a forbidden one, of what `suggest` says for each active parameter, parents first.

        Args:
            suggest: Draws one parameter; it is called for no other than the active ones.
        """
        values: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if is_active(parameter, values):
                values[parameter.knob] = suggest(parameter)
        return self._with_links(values)

    def _with_computed(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {**values, **linked_values(self.linked, values)}

    def _with_links(self, sample: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Returns a sample, which lacks the fixed knobs, with what is computed from it."""
        return {**sample, **linked_values(self.linked, {**self.fixed, **sample})}

    def complete(self, sample: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Checks a sample and returns it with what is fixed and computed, in Python scalars of each knob's type.

        Args:
            sample: A value for each active parameter and for no other; what is fixed or computed may be repeated.

        Raises:
            SpaceError: If a value is missing, superfluous, out of its range, unknown, or forbidden beside others.
        """
        given = {name: plain(value) for name, value in sample.items()}
        values = self._checked_fixed(given)
        for parameter in self.parameters:
            if is_active(parameter, values):
                values[parameter.knob] = _checked(parameter, given)
        for name, value in linked_values(self.linked, values).items():
            values[name] = _checked_link(name, value, given)
        for name in given:
            if name not in values:
                raise self._superfluous(name)
        forbidden = self.forbidden(values)
        if forbidden is not None:
            raise SpaceError(
                f"sample: expected an allowed combination, but got {_pairs(forbidden)}. Change one of them"
            )
        return values

    def _checked_fixed(self, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
        for name, value in self.fixed.items():
            if name in given and not same(given[name], value):
                raise SpaceError(
                    f"sample: expected {name}={value}, which is fixed, but got {given[name]}. Leave it out"
                )
        return dict(self.fixed)

    def _superfluous(self, name: str) -> SpaceError:
        knobs = [*(parameter.knob for parameter in self.parameters), *(item.knob for item in self.linked)]
        if name in knobs:
            return SpaceError(f"sample: expected no {name} beside these values, but got one. Leave it out")
        return SpaceError(f"sample: expected a knob of the space, but got {name!r}. {nearest_name(name, set(knobs))}")

    def decode(self, sample: Mapping[str, Scalar]) -> TrialConfig:
        """Returns the trial that a sample stands for.

        Raises:
            SpaceError: As `complete`.
        """
        trial = TrialConfig()
        overrides: list[tuple[str, Value]] = list(self.fixed_overrides)
        values = self.complete(sample)
        for name, value in values.items():
            if name in KNOBS:
                trial = trial.with_value(KNOBS[name].field, value)
            elif name not in self.variables:
                overrides.append((name, value))
        overrides += [(item.knob, item.values(values)) for item in self.spreads if holds(item.when, values)]
        return replace(trial, overrides=tuple(overrides))

    def sample(self, rng: np.random.Generator) -> dict[str, Scalar]:
        """Draws one allowed sample, independently for each active parameter.

        Raises:
            SpaceError: If a thousand draws were all forbidden.
        """
        for _ in range(_SAMPLE_ATTEMPTS):
            values = self.draw(lambda parameter: parameter.domain.sample(rng))
            if self.forbidden(values) is None:
                return values
        raise SpaceError(
            f"space: expected allowed combinations, but got {_SAMPLE_ATTEMPTS} forbidden draws in a row. Forbid less"
        )

    def baseline(self, fitted: Mapping[str, Scalar] | None = None) -> dict[str, Scalar]:
        """Returns the sample of the untuned baseline: first model, first backbone, stock values.

        Where the stock value lies outside a range, the nearest value inside stands for it; where there is none, the
        first choice or the middle of the range. If that combination is forbidden, the first allowed one beside it.

        Args:
            fitted: Values that fit the data set better than the stock ones, knob -> value.

        Raises:
            SpaceError: If every such combination is forbidden.
        """
        found = next(self._baselines(self.parameters, {}, fitted or {}), None)
        if found is None:
            raise SpaceError("space: expected an allowed baseline, but got only forbidden ones. Forbid less")
        return self._with_links(found)

    def _baselines(
        self, parameters: Sequence[Parameter], values: dict[str, Scalar], fitted: Mapping[str, Scalar]
    ) -> Iterator[dict[str, Scalar]]:
        if not parameters:
            if self.forbidden(values) is None:
                yield dict(values)
            return
        first, rest = parameters[0], parameters[1:]
        if not is_active(first, values):
            yield from self._baselines(rest, values, fitted)
            return
        for value in self._candidates(first, values, fitted):
            grown = values | {first.knob: value}
            # The other of two ordered knobs may still come, so their order is judged on whole samples only.
            if not any(holds(entry, {**self.fixed, **grown}) for entry in self.forbid):
                yield from self._baselines(rest, grown, fitted)

    def _candidates(
        self, parameter: Parameter, values: Mapping[str, Scalar], fitted: Mapping[str, Scalar]
    ) -> tuple[Scalar, ...]:
        knob = KNOBS.get(parameter.knob)
        stock = fitted.get(parameter.knob, knob.default_for({**self.fixed, **values}) if knob else None)
        best = parameter.domain.middle() if stock is None else parameter.domain.nearest(stock)
        constrained = {name for entry in self.forbid for name, _ in entry}
        if parameter.knob not in constrained | ORDERED_KNOBS:
            return (best,)
        return tuple(dict.fromkeys((best, *parameter.domain.edges())))

    def size(self) -> int | None:
        """Returns how many different allowed samples there are, None if a range is continuous or they are too many."""
        tied = {name for entry in self.forbid for name, _ in entry}
        tied |= {parent for parameter in self.parameters for parent, _ in parameter.when}
        tied |= ORDERED_KNOBS | {term for item in self.linked if item.knob in ORDERED_KNOBS for term in item.terms}
        free = [parameter for parameter in self.parameters if parameter.knob not in tied]
        if any(parameter.domain.size() is None for parameter in self.parameters):
            return None
        try:
            found = [world for world in worlds(self.parameters, tied, self.fixed) if self.forbidden(world) is None]
        except TooManyWorldsError:
            return None
        return sum(
            math.prod(parameter.domain.size() or 1 for parameter in free if is_active(parameter, world))
            for world in found
        )


def _checked(parameter: Parameter, given: Mapping[str, Scalar]) -> Scalar:
    name, domain = parameter.knob, parameter.domain
    if name not in given:
        raise SpaceError(f"sample: expected a value for {name} ({brief(domain)}), but got none. Add it")
    value, knob = given[name], KNOBS.get(name)
    if isinstance(value, float) and value.is_integer() and isinstance(domain, Int) and knob and knob.kind() == "float":
        value = int(value)  # a whole-number range of a real-valued knob
    if not domain.contains(value):
        raise SpaceError(f"sample: expected {name} to be {brief(domain)}, but got {value!r}. Give a value of the space")
    return knob.coerce(value) if knob else value


def _checked_link(name: str, value: Scalar, given: Mapping[str, Scalar]) -> Scalar:
    found = given.get(name, value)
    if isinstance(found, str | bool) or not math.isclose(float(found), float(value), rel_tol=_LINK_TOLERANCE):
        problem = f"sample: expected {name}={value}, which is computed from other values, but got {found}"
        raise SpaceError(f"{problem}. Leave it out")
    return value


def _pairs(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def parse_space(
    space: Mapping[str, object],
    overrides: Mapping[str, object],
    forbid: Sequence[Mapping[str, object]],
    fixed: Mapping[str, object],
    *,
    task: Task,
    where: str | Locator,
    variables: Mapping[str, object] | None = None,
) -> Space:
    """Reads and checks a search space in the form of a sweep file.

    Args:
        space: Knob -> {choice | float | int, log, step, when}, {linked, factor, power, when}, or a list of such cases.
        overrides: Config path -> one scalar, {spread, count, log, when}, or as in `space`.
        forbid: Combinations {knob: value or list} that must not be tried.
        fixed: Knob -> value.
        task: What the sweep is for; knobs and models of the other task are refused.
        where: Name of the source for messages, or a function that names a key in it.
        variables: Name of the user's own -> a domain as in `space`; others are computed from them.

    Raises:
        SpaceError: With the key, what was found, the nearest known name, and the cure.
    """
    locate = located(where) if isinstance(where, str) else where
    draft = read_draft(space, overrides, forbid, fixed, variables or {}, task, locate)
    return Space(
        task,
        draft.parameters,
        draft.fixed,
        draft.fixed_overrides,
        draft.forbid,
        draft.linked,
        draft.spreads,
        draft.variables,
    )
