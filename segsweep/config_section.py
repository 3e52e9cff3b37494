"""What all sections of a sweep file have in common: frozen, closed to unknown keys, strict about numbers."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

from search_spaces.wording import nearest_name

__all__ = ["Number", "Section", "Whole", "named_options"]

Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class Section(BaseModel):
    """One section of a sweep file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def named_options(value: object, known: tuple[str, ...], none: str = "") -> object:
    """Returns `name` or `{name: options}` as the one form {name: options}; anything else as it is.

    Args:
        value: What was written.
        known: The names.
        none: A further name, for nothing at all.

    Raises:
        ValueError: The name is not known, or there are several.
    """
    if isinstance(value, BaseModel):
        return value
    names = (none, *known) if none else known
    given = list(value) if isinstance(value, Mapping) else [value]
    if len(given) != 1 or not isinstance(given[0], str):
        if value == {}:
            return value
        raise ValueError(f"expected one of {', '.join(names)}, but got {value!r}. Name one")
    name = given[0]
    if name not in names or (name == none and isinstance(value, Mapping)):
        raise ValueError(f"expected one of {', '.join(names)}, but got {name!r}. {nearest_name(name, names)}")
    options = value[name] if isinstance(value, Mapping) else None
    return {} if name == none else {name: {} if options is None else options}
