"""The list of a sweep's images with their SHA-256, by which nodes check their copies (`storage.cache_images`, or images
on an object store).

Written once a sweep, before its first trial. Imports segdata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from segdata.file_sums import FolderSums, hash_files, read_sums, write_sums
from segdata.labelmaps import CLASSES_FILE, SemanticDataset
from segdata.remote_folder import fetched_sums
from segsweep.data_roles import RoleData, SweepRoles
from segsweep.sweep_file import Sweep
from trainables.description import DataDescription

__all__ = ["FILE_NAME", "with_sums"]

FILE_NAME = "images.json"
TRAINED_ON = ("train", "val")


def with_sums(
    sweep: Sweep, roles: SweepRoles, data: DataDescription, folder: Path, console: Console, *, anew: bool = False
) -> DataDescription:
    """Returns the data as trials are told it: with the list of its images, if nodes are to have copies of them.

    Args:
        sweep: The sweep.
        roles: Of it, or of a fold.
        data: The same, described.
        folder: Where the list lies; one of the same folders that is there stays.
        console: Says that files are read.
        anew: Whether one that is there is of a start that came to nothing.

    Raises:
        InputError: A file can't be read, or the list can't be written.
    """
    parts = [roles.roles[name] for name in TRAINED_ON]
    remote = {place: url for role in parts for place, url in role.remote.items()}
    everything = sweep.config.storage.cache_images
    names = {place: files for place, files in files_of(parts).items() if everything or place in remote}
    if not names:
        return data
    path = folder / FILE_NAME
    if anew or not path.is_file() or {one.place for one in read_sums(path)} != names.keys():
        console.print(f"reading the images of {sweep.config.name} once for their checksums", highlight=False)
        write_sums([sums_of(place, files, remote.get(place)) for place, files in names.items()], path)
    return replace(data, sums=path)


def files_of(parts: Sequence[RoleData]) -> dict[Path, dict[str, str]]:
    """Returns folder -> file -> its SHA-256, where that is known; roles in one folder have one list."""
    names: dict[Path, dict[str, str]] = {}
    for role in parts:
        names.setdefault(role.images, {}).update(dict.fromkeys(role.names, ""))
        if role.labels is not None:
            names.setdefault(role.labels, {}).update(label_sums(role))
    return names


def sums_of(place: Path, files: Mapping[str, str], url: str | None) -> FolderSums:
    """Reads what is not known; of files that were fetched from a URL all is."""
    return hash_files(place, files, files) if url is None else fetched_sums(url, place, frozenset(files))


def label_sums(role: RoleData) -> Mapping[str, str]:
    """Returns the files of a role's label folder that trials read, with what its fingerprint found of the maps."""
    assert isinstance(role.truth, SemanticDataset)
    maps = {image.label_path.name: role.label_sums[image.name] for image in role.truth.images}
    return {CLASSES_FILE: "", **maps}
