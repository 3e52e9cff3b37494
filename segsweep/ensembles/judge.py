"""The labelled images that members, weights and settings are chosen on, apart from those that are reported.

Imports the members' shelf.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segdata.errors import InputError
from segsweep.data_roles import SweepRoles, Truth
from segsweep.ensembles.library import Entry
from segsweep.ensembles.members import Shelf

__all__ = ["OUT_OF_FOLD", "Judge", "choose_role", "judge_by_role"]

UNSEEN_ROLES = ("test", "select")  # in this order; the search sees neither
TUNING_ROLES = ("select", "val")  # in this order; never the role that is scored
OUT_OF_FOLD = "out-of-fold"


@dataclass(frozen=True, slots=True)
class Judge:
    """Labelled images and what candidates predicted for them.

    Attributes:
        name: A role, or `out-of-fold`.
        truth: Of these images.
        set_of: Finds or makes the one prediction set of a candidate.
    """

    name: str
    truth: Truth
    set_of: Callable[[Entry], Path]


def choose_role(roles: SweepRoles, wanted: str | None) -> str:
    """Returns the role to score on: what was asked for, else test or select, which the search did not see.

    Raises:
        InputError: The sweep has no such role, or no unseen one.
    """
    if wanted is not None and wanted not in roles.roles:
        raise InputError.of(
            f"expected one of the sweep's roles ({', '.join(roles.roles)}), but got {wanted!r}",
            where="--on",
            cure="Choose one of these.",
        )
    found = wanted or next((role for role in UNSEEN_ROLES if role in roles.roles), None)
    if found is None:
        raise InputError.of(
            "expected data that the search did not see (test or select), but got train and val only",
            where="data",
            cure="Add `test` to the sweep file's data, or accept optimistic scores with --on val.",
        )
    return found


def judge_by_role(shelf: Shelf, scored: str) -> Judge | None:
    """Returns select, else val, unless it is the role that is scored; None if there is neither."""
    roles = shelf.roles.roles
    name = next((name for name in TUNING_ROLES if name in roles and name != scored), None)
    return None if name is None else Judge(name, roles[name].truth, lambda entry: shelf.sets(entry, name)[0])
