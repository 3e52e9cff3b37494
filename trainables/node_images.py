"""The images of a sweep on a trial's own node: read there after one copy a node (`storage.cache_images`).

Imports segdata and the description of the data.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from segdata.errors import TrialSiteError
from segdata.file_sums import FolderSums, read_sums
from segdata.image_cache import copy_to_node, is_url
from trainables.description import DataDescription, RoleFiles

__all__ = ["on_this_node"]


def on_this_node(
    data: DataDescription, note: Callable[[str], None], meanwhile: Callable[[], None] = lambda: None
) -> DataDescription:
    """Returns the data with images and label maps that lie on this node; as it is if the sweep does not ask for that.

    Where this node's disk does not take them, they are read where they lie.

    Args:
        data: Of the sweep.
        note: Takes lines for the trial's log.
        meanwhile: Called again and again; what it raises ends the copying.

    Raises:
        TrialSiteError: A file can't be had as the sweep was started with it.
    """
    if data.sums is None:
        return data
    places = {folder.place: copied(folder, note, meanwhile) for folder in read_sums(data.sums)}

    def moved(role: RoleFiles) -> RoleFiles:
        labels = None if role.labels is None else places.get(role.labels, role.labels)
        return replace(role, images=places.get(role.images, role.images), labels=labels)

    return replace(data, train=moved(data.train), val=moved(data.val))


def copied(folder: FolderSums, note: Callable[[str], None], meanwhile: Callable[[], None]) -> Path:
    """Returns where a folder's files are read on this node."""
    began = time.monotonic()
    try:
        copy = copy_to_node(folder, meanwhile)
    except OSError as error:
        if is_url(folder.source):
            raise TrialSiteError.of(
                f"expected room for the sweep's images on this node, but got: {error}",
                where=folder.source,
                cure="Free some, or let SEGSWEEP_CACHE name a folder on a larger disk.",
            ) from error
        note(f"{folder.source}: read from there, for this node's disk does not take a copy: {error}")
        return folder.place
    if copy.fetched:
        size, took_s = f"{copy.fetched_bytes / 1e9:.2f} GB", time.monotonic() - began
        note(f"{folder.source}: {copy.fetched} files ({size}) copied to {copy.folder} in {took_s:.0f} s")
    return copy.folder
