"""A sweep file that builds on a preset: its own entries win, and what they leave no place for is left out.

Of the preset's entries only those stay that can hold beside the own ones: a knob is narrowed to the models that take
it, a value to the models that can take it, a condition to the values that its parent can still have. The own entries
stay as they are, so that whatever is wrong in them is refused as in any sweep file. Works on a sweep file's forms.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS, takes, takes_value
from search_spaces.parameters import same
from search_spaces.preset import Preset
from search_spaces.space import Space, parse_space
from search_spaces.syntax import Key, Locator

__all__ = ["Merged", "merge_preset", "preset_space"]

Case = Mapping[str, Any]  # {choice | float | int, log, step, when}
Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """The sections of a sweep file, own and preset together, in the forms that `parse_space` reads.

    Attributes:
        space: Knob -> domain or cases.
        fixed: Knob -> value.
        overrides: Config path -> value, domain or cases.
        forbid: Combinations, the own ones first.
        from_preset: Names of the knobs and paths that the preset gave.
        own_forbid: How many combinations are own ones.
    """

    space: Mapping[str, Any]
    fixed: Mapping[str, Any]
    overrides: Mapping[str, Any]
    forbid: Sequence[Mapping[str, Any]]
    from_preset: frozenset[str]
    own_forbid: int

    def locator(self, preset: str, own: Locator) -> Locator:
        """Returns what names a key in messages: the preset for its entries, `own` for the rest."""

        def locate(key: Key) -> str:
            theirs = len(key) > 1 and (
                int(key[1]) >= self.own_forbid if key[0] == "forbid" else str(key[1]) in self.from_preset
            )
            return f"preset {preset}: {'.'.join(str(part) for part in key)}" if theirs else own(key)

        return locate


def merge_preset(
    preset: Preset,
    *,
    space: Mapping[str, Any],
    fixed: Mapping[str, Any],
    overrides: Mapping[str, Any],
    forbid: Sequence[Mapping[str, Any]],
    drop: Sequence[str] = (),
) -> Merged:
    """Puts the own sections of a sweep file on top of a preset.

    Args:
        preset: What the sweep builds on.
        space: Own knobs; each replaces the preset's of the same name, searched or fixed. So do the next two.
        fixed: Own knobs with one value.
        overrides: Own config paths.
        forbid: Own combinations, added to the preset's.
        drop: Knobs and paths of the preset that are left out.
    """
    gone = {*space, *fixed, *overrides, *drop}
    gone |= {other for name in {*space, *fixed} & set(KNOBS) for other in KNOBS[name].excludes}
    whole: dict[str, Any] = {**preset.space, **preset.overrides}
    searched = {name: _cases(spec) for name, spec in whole.items() if name not in gone}
    constant = {name: ({"choice": [value]},) for name, value in preset.fixed.items() if name not in gone}
    own = {name: _cases(spec) for name, spec in {**space, **overrides}.items()}
    own |= {name: ({"choice": [value]},) for name, value in fixed.items()}
    fitted = _Fitting({**searched, **constant}, own).run()
    kept = {name: _spec(cases, name in constant or _is_bare(whole[name])) for name, cases in fitted.theirs.items()}
    stays_fixed = {name for name in constant if name in kept and not isinstance(kept[name], Mapping | list)}
    paths = set(preset.overrides)
    both = {name: spec for name, spec in kept.items() if name not in stays_fixed | paths} | dict(space)
    return Merged(
        space={name: both[name] for name in (*preset.space, *both) if name in both},  # own ones in the preset's place
        fixed={name: spec for name, spec in kept.items() if name in stays_fixed} | dict(fixed),
        overrides={name: spec for name, spec in kept.items() if name in paths} | dict(overrides),
        forbid=[*forbid, *fitted.forbid(preset.forbid)],
        from_preset=frozenset(kept),
        own_forbid=len(forbid),
    )


def preset_space(preset: Preset) -> Space:
    """Returns the space of a preset alone, as a sweep file that only names it has it."""
    merged = merge_preset(preset, space={}, fixed={}, overrides={}, forbid=())
    where = f"preset {preset.name}"
    return parse_space(merged.space, merged.overrides, merged.forbid, merged.fixed, task=preset.task, where=where)


def _cases(spec: object) -> tuple[Case, ...]:
    """Returns the cases of a spec; what is none of the forms has none, and is refused when the space is parsed."""
    if isinstance(spec, Mapping):
        return (spec,)
    if isinstance(spec, list | tuple):
        return tuple(case for case in spec if isinstance(case, Mapping))
    return ({"choice": [spec]},)


def _is_bare(spec: object) -> bool:
    return not isinstance(spec, Mapping | list | tuple)


def _spec(cases: Sequence[Case], bare: bool) -> Any:
    """Returns the form of a sweep file: one value if it was one and holds always, one domain, or a list of cases."""
    if len(cases) > 1:
        return list(cases)
    return cases[0]["choice"][0] if bare and "when" not in cases[0] else cases[0]


def _listed(values: object) -> Values:
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def _among(value: object, values: Values) -> bool:
    return any(same(value, other) for other in values)


def _common(values: Values, allowed: Values) -> Values:
    return tuple(value for value in values if _among(value, allowed))


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The cases of the preset and those of the sweep file, name -> cases."""

    theirs: Mapping[str, tuple[Case, ...]]
    own: Mapping[str, tuple[Case, ...]]

    def run(self) -> "_Fitting":
        """Returns the fitting in which nothing of the preset is left to narrow; what goes may take others with it."""
        narrowed = {
            name: tuple(fit for case in cases for fit in self._fit(name, case)) for name, cases in self.theirs.items()
        }
        found = _Fitting({name: cases for name, cases in narrowed.items() if cases}, self.own)
        return self if found.theirs == self.theirs else found.run()

    def forbid(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns the combinations that can still occur, with the values that are left."""
        found = [{name: self._left(name, _listed(values)) for name, values in entry.items()} for entry in entries]
        return [{name: list(values) for name, values in entry.items()} for entry in found if all(entry.values())]

    def _values(self, name: str) -> Values | None:
        """Returns what a knob can be, None if it is not a plain list of values; () if it is not there."""
        cases = (*self.theirs.get(name, ()), *self.own.get(name, ()))
        if any(not isinstance(case.get("choice"), list | tuple) for case in cases):
            return None
        return tuple(dict.fromkeys(value for case in cases for value in case["choice"]))

    def _left(self, name: str, allowed: Values) -> Values:
        values = self._values(name)
        return allowed if values is None else _common(allowed, values)

    def _fit(self, name: str, case: Case) -> Iterator[Case]:
        when = {parent: self._left(parent, _listed(values)) for parent, values in case.get("when", {}).items()}
        knob = KNOBS.get(name)
        if not all(when.values()) or (knob and not self._meet_needs(knob, when)):
            return
        models = when.get("model", self._values("model") or ())
        for choice, fitting in _by_choice(knob, case.get("choice"), models):
            narrowed = when if len(fitting) == len(models) else {**when, "model": fitting}
            yield _with(case, choice, narrowed)

    def _meet_needs(self, knob: Knob, when: dict[str, Values]) -> bool:
        """Adds the values that `knob` needs of others to `when`; says whether they can hold."""
        if knob.beside and not set(knob.beside) & {*self.theirs, *self.own}:
            return False
        for other, allowed in knob.needs.items():
            if other not in self.theirs and other not in self.own:
                if KNOBS[other].default not in allowed:
                    return False
                continue
            left = _common(when.get(other) or self._values(other) or allowed, allowed)
            if not left:
                return False
            if self._values(other) != left:
                when[other] = left
        return True


def _by_choice(knob: Knob | None, choice: object, models: Values) -> Iterator[tuple[Values | None, Values]]:
    """Yields (choice, the models that can take exactly it); None = a range."""
    values = _listed(choice) if choice is not None else None
    if knob is None or not models or knob.name == "model":
        yield values, models
        return
    groups: dict[Values | None, list[Any]] = {}
    for model in models:
        if takes(str(model), knob):
            able = values and tuple(value for value in values if takes_value(str(model), knob, value))
            groups.setdefault(able, []).append(model)
    for group, fitting in groups.items():
        if group is None or group:
            yield group, tuple(fitting)


def _with(case: Case, choice: Values | None, when: Mapping[str, Values]) -> Case:
    plain = {word: value for word, value in case.items() if word not in ("choice", "when")}
    chosen = {} if choice is None else {"choice": list(choice)}
    conditions = {"when": {parent: list(values) for parent, values in when.items()}} if when else {}
    return {**chosen, **plain, **conditions}
