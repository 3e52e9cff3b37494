"""A search space as a Python function that suggests, unrolled into the form of a sweep file.

    def space(trial):
        optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
        if optimizer == "sgd":
            trial.suggest_float("momentum", 0.8, 0.99)
        return {"model": "mask-rcnn", "batch_size": 2}

The function runs once for each way through it. Values tell when it looks at them, so that only those choices branch on
which something depends; their conditions become `when`s. What it decides by a continuous value can't be unrolled.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search_spaces.knobs import KNOBS
from search_spaces.parameters import plain
from search_spaces.sections import Sections
from search_spaces.space_trial import SpaceTrial, Spec
from search_spaces.syntax import Key, located
from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError
from segdata.user_functions import load_function, place_of, told

__all__ = ["read_function", "unrolled"]

MOST_RUNS = 5000  # ways through a function

Outcome = Spec | Scalar | None  # a domain, one value, or nothing


@dataclass(frozen=True, slots=True)
class _Run:
    """One way through the function: what it looked at, in order, and what it suggested and returned."""

    looked: tuple[tuple[str, Scalar], ...]
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class _Fork:
    """What becomes of one name, by the value of another: value -> outcome or further fork."""

    name: str
    branches: tuple[tuple[Scalar, "Outcome | _Fork"], ...]


def read_function(file: Path, name: str, where: str) -> Callable[[SpaceTrial], object]:
    """Loads a space function from a Python file.

    Raises:
        SpaceError: The file can't be run, or has no such function.
    """
    return load_function(file, name, where, form=f"def {name}(trial): ...", error=SpaceError)


def unrolled(function: Callable[[SpaceTrial], object], file: Path, where: str) -> Sections:
    """Returns a space function as the sections of a sweep file.

    Args:
        function: Suggests by knob or config path; returns a mapping of fixed values, or None.
        file: Where it is defined, for messages.
        where: Names the function in messages.

    Raises:
        SpaceError: It raises, looks at what is continuous, has too many ways through it, or returns no mapping.
    """
    runs: list[_Run] = []
    lines: dict[tuple[str, str], int] = {}
    pending: list[dict[str, Scalar]] = [{}]
    while pending:
        path = pending.pop()
        trial = SpaceTrial(path)
        runs.append(_run(function, trial, file, where))
        lines |= {(name, repr(trial.domains[name])): line for name, line in trial.lines.items()}
        pending += reversed(_others(trial, path, where))
        if len(runs) + len(pending) > MOST_RUNS:
            problem = f"expected at most {MOST_RUNS:,} ways through it, but got more"
            raise SpaceError.of(problem, where=where, cure="Look at fewer choices, or look at them later")

    found = _sections(runs)

    def locate(key: Key) -> str:
        name = str(key[1]) if len(key) > 1 else ""
        line = lines.get((name, _domain({**found.space, **found.overrides}.get(name), key)))
        place = where if line is None else f"{file}:{line}"
        return f"{place}: {name}" if name else place

    return replace(found, locate=locate)


def _domain(spec: Any, key: Key) -> str:
    """Returns what was suggested of the case of `spec` in which `key` lies, as a text."""
    if isinstance(spec, list):
        spec = spec[key[2] if len(key) > 2 and isinstance(key[2], int) else 0]
    return repr({word: value for word, value in spec.items() if word != "when"} if isinstance(spec, dict) else spec)


def _others(trial: SpaceTrial, path: Mapping[str, Scalar], where: str) -> list[dict[str, Scalar]]:
    """Returns the paths that turn off this run's at the choices that it was the first to look at."""
    looked = list(trial.looked.items())
    if any(name not in trial.looked for name in path):
        problem = "expected the same way through it for the same choices, but got another"
        raise SpaceError.of(problem, where=where, cure="Let nothing in it depend on chance or on earlier calls")
    return [
        {**dict(looked[:index]), name: other}
        for index, (name, value) in enumerate(looked)
        if name not in path
        for other in trial.options[name] or ()
        if other != value or type(other) is not type(value)
    ]


def _run(function: Callable[[SpaceTrial], object], trial: SpaceTrial, file: Path, where: str) -> _Run:
    try:
        fixed = _fixed(function(trial), trial)
    except SpaceError as error:
        raise SpaceError(f"{place_of(error, file, where)}: {error}") from error
    except (Exception, SystemExit) as error:
        problem = f"expected a function that returns, but got {told(error)}"
        raise SpaceError.of(problem, where=place_of(error, file, where), cure="Correct it") from error
    return _Run(tuple(trial.looked.items()), {**trial.domains, **fixed})


def _fixed(returned: object, trial: SpaceTrial) -> dict[str, Scalar]:
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise SpaceError(f"expected fixed values {{knob: value}}, but it returned {returned!r}. Return these or None")
    for name, value in returned.items():
        if name in trial.domains:
            raise SpaceError(f"expected {name} to be suggested or returned, but got both. Drop one")
        if any(value is given for given in trial.given.values()):
            raise SpaceError(f"expected a value for {name}, but got one that is suggested. Suggest {name} itself")
    return {str(name): plain(value) for name, value in returned.items()}


def _sections(runs: Sequence[_Run]) -> Sections:
    names = dict.fromkeys(name for run in runs for name in run.outcomes)
    space: dict[str, Any] = {}
    fixed: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name in names:
        found = _tree(runs, name, 0)
        is_path = name not in KNOBS and "." in name
        if not isinstance(found, _Fork | dict):
            (overrides if is_path else fixed)[name] = found
            continue
        cases = _cases(found, {})
        (overrides if is_path else space)[name] = cases[0] if len(cases) == 1 else cases
    return Sections(located("space function"), space, fixed, overrides)


def _tree(runs: Sequence[_Run], name: str, depth: int) -> "Outcome | _Fork":
    """Returns what becomes of a name in runs that looked at the same `depth` choices; forks only where it matters."""
    first = runs[0]
    if len(first.looked) == depth:
        return first.outcomes.get(name)
    fork = first.looked[depth][0]
    by_value: dict[tuple[type, Scalar], list[_Run]] = {}
    for run in runs:
        value = run.looked[depth][1]
        by_value.setdefault((type(value), value), []).append(run)
    branches = tuple((value, _tree(some, name, depth + 1)) for (_, value), some in by_value.items())
    if len({repr(outcome) for _, outcome in branches}) == 1:
        return branches[0][1]
    return _Fork(fork, branches)


def _cases(found: "Outcome | _Fork", when: Mapping[str, list[Scalar]]) -> list[Spec]:
    if found is None:
        return []
    if not isinstance(found, _Fork):
        domain = found if isinstance(found, dict) else {"choice": [found]}
        return [{**domain, "when": dict(when)} if when else dict(domain)]
    alike: dict[str, tuple[Any, list[Scalar]]] = {}
    for value, outcome in found.branches:
        alike.setdefault(repr(outcome), (outcome, []))[1].append(value)
    return [case for outcome, values in alike.values() for case in _cases(outcome, {**when, found.name: values})]
