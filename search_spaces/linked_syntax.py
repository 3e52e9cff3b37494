"""The forms in which a sweep file writes what is computed: `linked` with `factor` and `power`, `spread` with `count`.

Reads plain mappings and refuses what is not one of the forms; whether the values fit is for `linked_checks`.
"""

import math
import re
from collections.abc import Mapping

from search_spaces.conditions import Conditions
from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS
from search_spaces.linked import Linked, Number, Spread
from search_spaces.parameters import Choice
from search_spaces.syntax import Key, Locator, is_list, is_number, refuse
from search_spaces.wording import nearest_name
from segdata.errors import SpaceError

__all__ = ["check_variable_name", "is_computed", "read_computed"]

_WORDS = {"linked": ("linked", "factor", "power", "when"), "spread": ("spread", "count", "log", "when")}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

UNLINKED = ("epochs", "max_iters", "validation_iters", "validation_interval", "width")
"""Knobs on whose values it depends how trials compare, or which weights they start from: known before a sweep runs."""


def is_computed(spec: object) -> bool:
    """Says whether a domain, or one case, is written as a computed one."""
    return isinstance(spec, Mapping) and any(word in spec for word in _WORDS)


def read_computed(
    item: str, name: str, spec: Mapping[str, object], when: Conditions, key: Key, locate: Locator, knob: Knob | None
) -> Linked | Spread:
    """Reads one computed value.

    Args:
        item: Its id, as of a parameter.
        name: The knob or config path.
        spec: What is written.
        when: The conditions in it.
        key: Where it stands.
        locate: Names a key in messages.
        knob: Row of the knob, None for a config path.
    """
    form = "linked" if "linked" in spec else "spread"
    for word in spec:
        if word not in _WORDS[form]:
            problem = f"expected {', '.join(_WORDS[form])} beside {form}, but got {word!r}"
            cure = f"Drop it or {form}" if word in ("choice", "float", "int") else nearest_name(word, _WORDS[form])
            raise refuse(locate, (*key, word), problem, cure)
    if form == "spread":
        return _read_spread(item, name, spec, when, key, locate, knob)
    if knob is not None and (isinstance(knob.domain, Choice) or name in UNLINKED):
        kind = "one of a list" if isinstance(knob.domain, Choice) else "known before a sweep starts"
        problem = f"expected a knob with a range, but got {name}, which is {kind}"
        raise refuse(locate, (*key, "linked"), problem, "Give it values of its own, in cases by `when` if need be")
    names = spec["linked"]
    terms = tuple(names) if is_list(names) else (names,)
    if not terms or not all(isinstance(term, str) for term in terms):
        problem = f"expected the name of a knob or a list of names, but got {names!r}"
        raise refuse(locate, (*key, "linked"), problem, "Write linked: batch_size")
    factor, power = (_number(spec.get(word, 1), (*key, word), locate) for word in ("factor", "power"))
    return Linked(item, name, tuple(str(term) for term in terms), factor, power, when)


def _read_spread(
    item: str, name: str, spec: Mapping[str, object], when: Conditions, key: Key, locate: Locator, knob: Knob | None
) -> Spread:
    if knob is not None:
        problem = f"expected one value for {name}, but got a list of them"
        raise refuse(locate, (*key, "spread"), problem, "A list stands under `overrides`, at the path of a list")
    ends, count, log = spec["spread"], spec.get("count"), spec.get("log", False)
    if not (is_list(ends) and len(ends) == 2):
        problem = f"expected [first, last], each a number or a name, but got {ends!r}"
        raise refuse(locate, (*key, "spread"), problem, "Write spread: [0.5, 2.0]")
    first, last = (end if isinstance(end, str) else _number(end, (*key, "spread"), locate) for end in ends)
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        problem = f"expected how many values the list has, at least 2, but got {count!r}"
        raise refuse(locate, (*key, "count"), problem, "Write count: 3")
    if not isinstance(log, bool):
        raise refuse(locate, (*key, "log"), f"expected true or false, but got {log!r}", "Write log: true")
    return Spread(item, name, first, last, count, log, when)


def _number(value: object, key: Key, locate: Locator) -> Number:
    if not is_number(value, whole=False) or not math.isfinite(value) or (value == 0 and key[-1] != "spread"):
        kind = "number" if key[-1] == "spread" else "number other than 0"
        raise refuse(locate, key, f"expected a {kind}, but got {value!r}", "Write 1e-3, for example")
    return value


def check_variable_name(name: str, locate: Locator) -> None:
    """Refuses a name of a variable that is a knob's or no plain name."""
    if name in KNOBS:
        problem, cure = f"expected a name of your own, but got {name}, which is a knob", "Move it to `space`"
    elif not _NAME.fullmatch(name):
        problem, cure = f"expected letters, digits and _, but got {name!r}", "Rename it"
    else:
        return
    raise SpaceError.of(problem, where=locate(("variables", name)), cure=cure)
