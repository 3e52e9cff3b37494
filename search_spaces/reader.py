"""Reads the space of a sweep file, section by section, and has it checked as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.cases import read_cases
from search_spaces.condition_checks import check_conditions, check_forbid, check_parents
from search_spaces.conditions import Conditions, Parameter, dependency_order
from search_spaces.draft import Draft
from search_spaces.knob import Knob, Task
from search_spaces.knobs import KNOBS
from search_spaces.linked import Linked, Spread
from search_spaces.linked_checks import check_names, check_variables, placeholders, stand_ins
from search_spaces.linked_syntax import check_variable_name
from search_spaces.model_checks import check_models, check_ordered, check_overrides
from search_spaces.pair_checks import check_excluded
from search_spaces.paths import check_path
from search_spaces.syntax import Key, Locator, is_list, read_forbid, read_value, refuse
from search_spaces.trial_config import Scalar
from search_spaces.wording import nearest_name
from segdata.errors import SpaceError

__all__ = ["read_draft"]


def read_draft(
    space: Mapping[str, object],
    overrides: Mapping[str, object],
    forbid: Sequence[Mapping[str, object]],
    fixed: Mapping[str, object],
    variables: Mapping[str, object],
    task: Task,
    locate: Locator,
) -> Draft:
    """Returns the checked draft of a space; arguments and errors as `space.parse_space`."""
    constants = {
        name: read_value(value, ("fixed", name), locate, _known_knob(name, "fixed", task, locate))
        for name, value in fixed.items()
    }
    draft = Draft(task, (), constants, (), {}, locate, variables=frozenset(variables))
    for name, spec in variables.items():
        draft = _with_variable(draft, name, spec)
    for name, spec in space.items():
        knob = _known_knob(name, "space", task, locate)
        if name in constants:
            problem = f"expected {name} in `space` or `fixed`, but got it in both"
            raise refuse(locate, ("space", name), problem, "Remove one")
        draft = _with_parameters(draft, name, spec, ("space", name), knob)
    for path, spec in overrides.items():
        draft = _with_override(draft, path, spec)
    entries = enumerate(forbid if is_list(forbid) else ())
    check_names(draft, ((index, name) for index, entry in entries if isinstance(entry, Mapping) for name in entry))
    draft = _in_order(draft)
    draft = replace(draft, forbid=read_forbid(forbid, locate, draft.names()))
    _check(draft, tuple(overrides))
    return draft


def _check(draft: Draft, override_paths: tuple[str, ...]) -> None:
    check_variables(draft)
    check_forbid(draft)
    draft = stand_ins(draft)
    check_conditions(draft)
    check_models(draft)
    check_ordered(draft)
    check_excluded(draft)
    check_overrides(draft, override_paths)


def _known_knob(name: str, section: str, task: Task, locate: Locator) -> Knob:
    fitting = [knob.name for knob in KNOBS.values() if task in knob.tasks]
    if name not in KNOBS:
        raise refuse(
            locate,
            (section, name),
            f"expected a knob, but got {name!r}",
            nearest_name(name, fitting, "segsweep spaces knobs"),
        )
    if name not in fitting:
        problem = f"expected a knob of the task {task}, but got {name}, which serves {' and '.join(KNOBS[name].tasks)}"
        raise refuse(locate, (section, name), problem, "Drop it")
    return KNOBS[name]


def _with_variable(draft: Draft, name: str, spec: object) -> Draft:
    key: Key = ("variables", name)
    check_variable_name(name, draft.locate)
    draft = _with_parameters(draft, name, spec, key, None)
    if any(item.knob == name for item in draft.computed):
        problem = f"expected a variable with values of its own, but got {name}, which is computed"
        raise refuse(draft.locate, key, problem, "Write that where the variable is used")
    return draft


def _with_override(draft: Draft, path: str, spec: object) -> Draft:
    key: Key = ("overrides", path)
    try:
        check_path(path)
    except SpaceError as error:
        raise SpaceError(f"{draft.locate(key)}: {error}") from error
    if isinstance(spec, Mapping | list | tuple):
        return _with_parameters(draft, path, spec, key, None)
    value: Scalar = read_value(spec, key, draft.locate, None)
    return replace(draft, fixed_overrides=(*draft.fixed_overrides, (path, value)))


def _with_parameters(draft: Draft, name: str, spec: object, key: Key, knob: Knob | None) -> Draft:
    found = read_cases(name, spec, key, draft.locate, knob)
    keys = dict(draft.keys)
    for index, item in enumerate(found):
        here: Key = key if isinstance(spec, Mapping) else (*key, index)
        if item.id in keys:
            problem = f"expected cases that exclude each other, but got {item.id} twice"
            raise refuse(draft.locate, here, problem, "Drop one")
        keys[item.id] = here
    return replace(
        draft,
        parameters=(*draft.parameters, *(item for item in found if isinstance(item, Parameter))),
        linked=(*draft.linked, *(item for item in found if isinstance(item, Linked))),
        spreads=(*draft.spreads, *(item for item in found if isinstance(item, Spread))),
        keys=keys,
    )


def _in_order(draft: Draft) -> Draft:
    """Checks parents, drops conditions on fixed knobs (they hold, or were refused) and sorts parents first."""
    check_parents(replace(draft, parameters=(*draft.parameters, *placeholders(draft))))
    kept = [replace(item, when=_open(item.when, draft)) for item in draft.parameters]
    try:
        ordered = dependency_order(kept)
    except SpaceError as error:
        raise SpaceError(f"{draft.locate(('space',))}: {error}") from error
    linked = tuple(replace(item, when=_open(item.when, draft)) for item in draft.linked)
    spreads = tuple(replace(item, when=_open(item.when, draft)) for item in draft.spreads)
    return replace(draft, parameters=ordered, linked=linked, spreads=spreads)


def _open(when: Conditions, draft: Draft) -> Conditions:
    """Returns the conditions that are not on a fixed knob."""
    return tuple(pair for pair in when if pair[0] not in draft.fixed)
