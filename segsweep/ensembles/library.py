"""What an ensemble may be made of: networks of trials, folds, epochs, averages, each through a view; other tools.

An entry is what the selection takes or leaves. Imports the prediction source; no network runs here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from segdata.errors import InputError
from segdata.views import PLAIN, View
from segsweep.prediction_source import Network

__all__ = ["Entry", "named_once", "seen_through"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate.

    Attributes:
        name: In tables and in the ensemble file.
        networks: They share the entry's weight equally; several are the folds of one configuration.
        view: How each of them sees an image.
        prior: Its weight where all entries are taken; above 0.
        given: Role -> prediction set, where another tool predicted.
    """

    name: str
    networks: tuple[Network, ...] = ()
    view: View = PLAIN
    prior: float = 1.0
    given: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def models(self) -> tuple[str, ...]:
        """Returns what tells its networks from others; one network through several views is one model."""
        if not self.networks:
            return (self.name,)
        return tuple(str(network.checkpoint.resolve()) for network in self.networks)


def seen_through(entries: Sequence[Entry], views: Sequence[View]) -> tuple[Entry, ...]:
    """Returns each entry through each view, an entry's own views together; other tools' as they are."""
    return tuple(
        entry if not entry.networks or view == PLAIN else replace(entry, name=f"{entry.name} {view}", view=view)
        for entry in entries
        for view in (views if entry.networks else views[:1])
    )


def named_once(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Returns the entries.

    Raises:
        InputError: Two have one name.
    """
    names = [entry.name for entry in entries]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError.of(
                f"expected names that differ, but got {name!r} for two members",
                where="--add",
                cure="Give other tools names that no trial has.",
            )
    return tuple(entries)
