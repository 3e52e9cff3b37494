"""The forms in which a sweep file writes a space: `choice`, `float`, `int`, `log`, `step`, `when`, cases, `forbid`.

Reads plain mappings into domains and conditions, and refuses what is not one of the forms; whether they make sense
together is for `condition_checks`, how cases are put together for `cases`. Every refusal names the key by a `Locator`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeGuard

from search_spaces.conditions import Conditions
from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS
from search_spaces.parameters import Choice, Domain, Float, Int, plain
from search_spaces.trial_config import Scalar
from search_spaces.wording import brief, nearest_name
from segdata.errors import SpaceError

__all__ = [
    "Key",
    "Locator",
    "is_list",
    "is_number",
    "located",
    "read_domain",
    "read_forbid",
    "read_value",
    "read_when",
    "refuse",
]

Key = tuple[str | int, ...]  # where in the sweep file, for example ("space", "lr", 0, "when")
Locator = Callable[[Key], str]  # a key -> the text that names it in a message

_LISTS_KNOBS = "segsweep spaces knobs"
_DOMAIN_WORDS = ("choice", "float", "int")
_WORDS = (*_DOMAIN_WORDS, "log", "step", "when")


def located(where: str) -> Locator:
    """Returns a locator that writes `where: space.lr`."""

    def locate(key: Key) -> str:
        return f"{where}: {'.'.join(str(part) for part in key)}"

    return locate


def refuse(locate: Locator, key: Key, problem: str, cure: str) -> SpaceError:
    """Returns the error to raise for `key`."""
    return SpaceError.of(problem, where=locate(key), cure=cure)


def read_when(spec: object, key: Key, locate: Locator) -> Conditions:
    """Reads conditions: {knob: value or list}."""
    if not isinstance(spec, Mapping) or not spec:
        raise refuse(locate, key, f"expected {{knob: value or list}}, but got {spec!r}", "Write when: {model: ...}")
    return tuple((str(parent), _read_values(values, (*key, parent), locate)) for parent, values in spec.items())


def _read_values(values: object, key: Key, locate: Locator) -> tuple[Scalar, ...]:
    listed = list(values) if is_list(values) else [values]
    try:
        return Choice(tuple(plain(value) for value in listed)).values
    except SpaceError as error:
        raise SpaceError(f"{locate(key)}: {error}") from error


def read_domain(spec: Mapping[str, object], key: Key, locate: Locator, knob: Knob | None) -> Domain:
    """Reads `choice`, `float` or `int` with `log` and `step`, inside the knob's own domain."""
    for word in spec:
        if word not in _WORDS:
            raise refuse(
                locate,
                (*key, word),
                f"expected one of {', '.join(_WORDS)}, but got {word!r}",
                nearest_name(word, _WORDS),
            )
    words = [word for word in _DOMAIN_WORDS if word in spec]
    if len(words) != 1:
        found = " and ".join(words) or "none of them"
        raise refuse(locate, key, f"expected exactly one of choice, float, int, but got {found}", "Write one of them")
    word = words[0]
    if word == "choice":
        return _read_choice(spec, key, locate, knob)
    return _read_range(word, spec, key, locate, knob)


def _read_choice(spec: Mapping[str, object], key: Key, locate: Locator, knob: Knob | None) -> Choice:
    for word in ("log", "step"):
        if word in spec:
            raise refuse(
                locate, (*key, word), f"expected `{word}` beside float or int, but got it beside choice", "Drop it"
            )
    values, here = spec["choice"], (*key, "choice")
    if not is_list(values):
        raise refuse(locate, here, f"expected a list of values, but got {values!r}", f"Write choice: [{values}]")
    try:
        scalars = tuple(plain(value) for value in values)
        for value in scalars:
            if knob is not None:
                _check_value(value, knob)
        return Choice(tuple(knob.coerce(value) if knob else value for value in scalars))
    except SpaceError as error:
        raise SpaceError(f"{locate(here)}: {error}") from error


def _check_value(value: Scalar, knob: Knob) -> None:
    if not knob.accepts(knob.coerce(value)):
        names = [str(option) for option in knob.domain.values] if isinstance(knob.domain, Choice) else []
        cure = nearest_name(value, names, "segsweep spaces models") if names else f"Give a value {knob.name} can take"
        extra = f", or {knob.also_text}" if knob.also_text else ""
        raise SpaceError(f"expected {knob.name} to be {brief(knob.domain)}{extra}, but got {value!r}. {cure}")


def read_value(value: object, key: Key, locate: Locator, knob: Knob | None) -> Scalar:
    """Returns a single value, in the knob's own type if there is a knob.

    Raises:
        SpaceError: If it is not a scalar, or the knob can never take it.
    """
    try:
        scalar = plain(value)
        if knob is None:
            return scalar
        _check_value(scalar, knob)
    except SpaceError as error:
        raise SpaceError(f"{locate(key)}: {error}") from error
    return knob.coerce(scalar)


def _read_range(word: str, spec: Mapping[str, object], key: Key, locate: Locator, knob: Knob | None) -> Domain:
    here = (*key, word)
    if knob is not None and word != knob.kind() and not (word == "int" and knob.kind() == "float"):
        raise refuse(
            locate,
            here,
            f"expected `{knob.kind()}` for {knob.name} ({brief(knob.domain)}), but got `{word}`",
            f"Write {knob.kind()}",
        )
    ends = _read_ends(word, spec[word], here, locate)
    log, step = spec.get("log", False), spec.get("step")
    if not isinstance(log, bool):
        raise refuse(locate, (*key, "log"), f"expected true or false, but got {log!r}", "Write log: true")
    if step is not None and not is_number(step, whole=word == "int"):
        kind = "whole number" if word == "int" else "number"
        raise refuse(locate, (*key, "step"), f"expected a {kind}, but got {step!r}", "Give the distance of two values")
    try:
        domain = _range(word, ends, log, step)
        for end in ends:
            if knob is not None:
                _check_value(end, knob)
    except SpaceError as error:
        raise SpaceError(f"{locate(here)}: {error}") from error
    return domain


def _range(word: str, ends: tuple[int | float, int | float], log: bool, step: object) -> Domain:
    if log and step is not None:
        raise SpaceError("expected `log` or `step`, but got both. Drop one of them")
    if word == "int":
        return Int(int(ends[0]), int(ends[1]), log, 1 if step is None else int(str(step)))
    return Float(float(ends[0]), float(ends[1]), log, None if step is None else float(str(step)))


def _read_ends(word: str, ends: object, key: Key, locate: Locator) -> tuple[int | float, int | float]:
    if is_list(ends) and len(ends) == 2:
        low, high = ends
        if is_number(low, whole=word == "int") and is_number(high, whole=word == "int"):
            return low, high
    kind = "whole numbers" if word == "int" else "numbers"
    raise refuse(locate, key, f"expected two {kind} [low, high], but got {ends!r}", f"Write {word}: [low, high]")


def read_forbid(entries: object, locate: Locator, known: Collection[str]) -> tuple[Conditions, ...]:
    """Reads the combinations that must not be tried: a list of {knob: value or list}."""
    if not is_list(entries):
        raise refuse(locate, ("forbid",), f"expected a list of {{knob: value}}, but got {entries!r}", "Write - {...}")
    read = []
    for index, entry in enumerate(entries):
        key: Key = ("forbid", index)
        if not isinstance(entry, Mapping) or not entry:
            raise refuse(locate, key, f"expected {{knob: value or list}}, but got {entry!r}", "Write {model: ..., ...}")
        for name in entry:
            if name not in known:
                problem = f"expected a knob that the space searches or fixes, but got {name!r}"
                names = set(known) | set(KNOBS)
                cure = f"Add {name} to the space" if name in KNOBS else nearest_name(name, names, _LISTS_KNOBS)
                raise refuse(locate, (*key, name), problem, cure)
        read.append(tuple((str(name), _read_values(values, (*key, name), locate)) for name, values in entry.items()))
    return tuple(read)


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Says whether `value` is a list rather than a text or a single value."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def is_number(value: object, *, whole: bool) -> TypeGuard[int | float]:
    """Says whether `value` is a number, true and false being none."""
    kinds = int if whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool)
