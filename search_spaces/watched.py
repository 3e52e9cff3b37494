"""Numbers and texts that tell when a program looks at them: what a function compares, computes with or takes apart.

They are the values themselves in every other way. Passing one on, returning it or printing a number is no look.
"""

from collections.abc import Callable
from typing import Any

from search_spaces.trial_config import Scalar

__all__ = ["unwatched", "watched"]

_BLIND = {
    *("__new__", "__init__", "__class__", "__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__repr__"),
    *("__init_subclass__", "__subclasshook__", "__dir__", "__sizeof__", "__reduce__", "__reduce_ex__", "__doc__"),
    *("__getnewargs__", "__getstate__"),
}
_PRINTING = {"__str__", "__format__"}  # of a number, which decides nothing; of a text it may build a name


def watched(value: Scalar, look: Callable[[], None]) -> Scalar:
    """Returns a value that calls `look` before it is looked at; true and false are looked at at once."""
    if isinstance(value, bool):
        look()
        return value
    for kind, watching in _KINDS.items():
        if isinstance(value, kind):
            made = watching(value)
            made.look = look
            return made  # type: ignore[no-any-return]
    raise TypeError(f"expected a number or a text, but got {value!r}")


def unwatched(value: Any) -> Any:
    """Returns the plain value of a watched one, which counts as a look; of any other value itself."""
    for kind, watching in _KINDS.items():
        if isinstance(value, watching):
            value.look()
            return getattr(kind, _PLAIN[kind])(value)
    return value


def _watching(kind: type) -> Any:
    unseen = _BLIND | (_PRINTING if kind is not str else set())
    methods = {name: _telling(kind, name) for name in dir(kind) if name not in unseen and callable(getattr(kind, name))}
    return type(f"Watched{kind.__name__.title()}", (kind,), {"look": None, **methods})


def _telling(kind: type, name: str) -> Callable[..., Any]:
    method = getattr(kind, name)

    def tell(self: Any, *args: Any, **options: Any) -> Any:
        self.look()
        return method(self, *args, **options)

    return tell


_PLAIN: dict[type, str] = {int: "__int__", float: "__float__", str: "__str__"}
_KINDS: dict[type, Any] = {kind: _watching(kind) for kind in (int, float, str)}
