"""Other tools' predictions as candidates: a folder with a file, or a folder of label maps, for each role.

    preds/val.json    preds/test.json     COCO results (instance)
    preds/val/*.png   preds/test/*.png    label maps (semantic)

Imports segdata.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from segdata.errors import InputError
from segdata.foreign_predictions import import_predictions
from segdata.instances import InstanceDataset
from segsweep.data_roles import RoleData
from segsweep.ensembles.library import Entry
from segsweep.ensembles.members import Shelf
from segsweep.prediction_source import images_of_data

__all__ = ["other_tools", "read_pairs"]


def read_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """Reads `name=folder` pairs of the command line; folders as they are seen from the working directory.

    Raises:
        InputError: A pair is none, or a name is there twice.
    """
    named: dict[str, str] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or not name or not folder or name in named:
            found = f"{name!r} twice" if name in named else repr(pair)
            raise InputError.of(f"expected NAME=FOLDER, but got {found}", where="--add", cure="Name each once.")
        named[name] = str(Path(folder).absolute())
    return named


def other_tools(shelf: Shelf, folders: Mapping[str, str], roles: Mapping[str, RoleData]) -> tuple[Entry, ...]:
    """Returns an entry a tool, with its predictions of each role that it has some of.

    Args:
        shelf: Where the sets go that are made of them.
        folders: Name -> folder, absolute or relative to the sweep file's.
        roles: Name -> images and labels.

    Raises:
        InputError: A folder has predictions of no role.
        DatasetError: Something in them is wrong.
    """
    return tuple(
        Entry(name, given=given_by(name, shelf.sweep.folder / folder, shelf.folder, roles))
        for name, folder in folders.items()
    )


def given_by(name: str, folder: Path, shelf: Path, roles: Mapping[str, RoleData]) -> dict[str, Path]:
    """Returns role -> prediction set of one tool."""
    given = {}
    for role, data in roles.items():
        path = folder / (f"{role}.json" if isinstance(data.truth, InstanceDataset) else role)
        if path.exists():
            given[role] = imported(path, data, shelf / f"{name}-given")
    if not given:
        suffix = ".json" if isinstance(next(iter(roles.values())).truth, InstanceDataset) else "/"
        raise InputError.of(
            f"expected {' or '.join(role + suffix for role in roles)}, but got none of them",
            where=f"--add {name}={folder}",
            cure="Name files or folders after the roles whose images they are predictions of.",
        )
    return given


def imported(path: Path, data: RoleData, shelf: Path) -> Path:
    """Returns a role's predictions as a prediction set."""
    images = images_of_data(data)
    return import_predictions(
        path,
        [file.image for file in images.files],
        classes=images.classes or (),
        category_ids=images.category_ids,
        fingerprint=images.fingerprint,
        folder=shelf,
    )
