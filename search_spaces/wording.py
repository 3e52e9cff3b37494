"""How messages speak of many names: the nearest one, or a few and the command that lists them all.

A message is one line, also where there are forty models and a hundred encoders. Imports the domains.
"""

import difflib
from collections.abc import Collection, Iterable

from search_spaces.parameters import Choice, Domain

__all__ = ["MOST", "brief", "nearest_name", "some"]

MOST = 12  # names that a message lists; of more it lists some
_SOME = 5


def some(names: Iterable[object]) -> str:
    """Returns the names joined by commas, of more than a dozen the first few and how many there are."""
    listed = [str(name) for name in names]
    if len(listed) <= MOST:
        return ", ".join(listed)
    return f"{', '.join(listed[:_SOME])} ... ({len(listed)} in all)"


def brief(domain: Domain) -> str:
    """Returns a domain for a message."""
    return f"one of {some(domain.values)}" if isinstance(domain, Choice) else domain.text()


def nearest_name(name: object, known: Collection[str], lists: str = "") -> str:
    """Returns a cure that names the known name nearest to `name`, or if none is near all of them, or some of many.

    Args:
        name: What was written.
        known: What could have been.
        lists: The command that lists them all, for a message that can't.
    """
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    more = f"; `{lists}` lists all" if lists and len(known) > MOST else ""
    if close:
        return f"Did you mean {close[0]}?" + (f" `{lists}` lists all" if more else "")
    return f"Known: {some(sorted(known))}{more}" if known else "There is none to choose from"
