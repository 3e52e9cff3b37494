"""Numbers and texts that tell when a program looks at them: what a function compares, computes with or takes apart.

A watched value is none of Python's own numbers or texts, so that nothing can read it behind its back: what asks for its
value by any operator or method calls `look` first, and what can't ask fails. Only `repr` is no look, so that errors can
show it.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

from search_spaces.trial_config import Scalar

__all__ = ["unwatched", "watched"]


class _Watched:
    """A value and what to call before it is looked at."""

    __slots__ = ("_look", "_value")

    def __init__(self, value: Scalar, look: Callable[[], None]) -> None:
        self._value = value
        self._look = look

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # for isinstance; type() knows
        return type(self._value)

    def __getattr__(self, name: str) -> Any:
        self._look()
        return getattr(self._value, name)

    def __repr__(self) -> str:
        return repr(self._value)

    def __str__(self) -> str:
        return str(unwatched(self))

    def __format__(self, form: str) -> str:
        return format(unwatched(self), form)


def watched(value: Scalar, look: Callable[[], None]) -> Any:
    """Returns a value that calls `look` before it is looked at; true and false, which `is` tells apart, are at once."""
    if isinstance(value, bool):
        look()
        return value
    return _Watched(value, look)


def unwatched(value: Any) -> Any:
    """Returns the plain value of a watched one, which counts as a look; of any other value itself."""
    if type(value) is not _Watched:
        return value
    value._look()
    return value._value


def _forward(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *values: function(*map(unwatched, values))


def _backward(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda own, other: function(unwatched(other), unwatched(own))


_BINARY = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")},
    **{name: getattr(operator, f"{name}_") for name in ("and", "or")},
    **{name: getattr(operator, name) for name in ("xor", "lshift", "rshift")},
    "divmod": divmod,
}
_OTHER: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert")},
    **{"bool": bool, "int": int, "float": float, "complex": complex, "index": operator.index, "hash": hash},
    **{"len": len, "iter": iter, "contains": operator.contains, "getitem": operator.getitem},
    **{"round": round, "trunc": math.trunc, "floor": math.floor, "ceil": math.ceil},
}
for _name, _function in _BINARY.items():
    setattr(_Watched, f"__{_name}__", _forward(_function))
    setattr(_Watched, f"__r{_name}__", _backward(_function))
for _name, _function in _OTHER.items():
    setattr(_Watched, f"__{_name}__", _forward(_function))
