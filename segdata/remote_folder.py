"""Folders on an object store as this machine sees them: fetched into the node's cache, and again only what has changed.

    SEGSWEEP_CACHE/images/remote/DIGEST/       the files under their names there, hard links to the node's contents
    SEGSWEEP_CACHE/images/remote/DIGEST.json   what each was when it was fetched: bytes, the store's mark, SHA-256

A driver reads labels and image sizes here. Imports fsspec, which finds the way by the URL.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import fsspec

from segdata.errors import DatasetError, TrialSiteError
from segdata.file_sums import FileSum, FolderSums, in_threads
from segdata.image_cache import Copier, size_of
from segdata.images import IMAGE_SUFFIXES
from segdata.labelmaps import CLASSES_FILE
from segdata.node_lock import node_lock
from segdata.record_cache import cache_folder

__all__ = ["fetch_folder", "fetched_sums", "place_of", "problem_of", "reading_problem", "without_password"]

DIGEST_DIGITS = 16
MARKS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")  # one store each

Listed = dict[str, tuple[int, str]]  # name -> bytes, mark


def problem_of(url: str) -> str | None:
    """Tells why a URL can't be used, without asking what it names; None if it may be."""
    if urlsplit(url).password is not None:
        return "a URL without a password, which its package finds in your settings or environment"
    try:
        fsspec.get_filesystem_class(urlsplit(url).scheme)
    except ValueError:
        return "a protocol that fsspec knows (s3, gs, abfs, sftp ...)"
    except ImportError as error:
        return f"a protocol whose package is installed ({str(error).splitlines()[0]})"
    return None


def without_password(url: str) -> str:
    """Returns a URL as it may be shown."""
    password = urlsplit(url).password
    return url if not password else url.replace(f":{password}@", ":***@", 1)


def reading_problem(url: str, name: str) -> str | None:
    """Tells why this machine can't read a file below a URL: "expected X, but got Y"; None if it can. Reads one byte."""
    if (wanted := problem_of(url)) is not None:
        return f"expected {wanted}, but got {without_password(url)}"
    where = f"{url.rstrip('/')}/{name}"
    try:
        with fsspec.open(where, "rb") as stream:
            stream.read(1)
    except Exception as error:  # file systems raise errors of kinds of their own
        return f"expected {where} to be readable, but got: {first_line(error)}"
    return None


def place_of(url: str) -> Path:
    """Returns the folder where this machine has the files of a URL; it need not be there yet.

    Raises:
        DatasetError: There is no place for a cache.
    """
    whole = url.rstrip("/")
    try:
        cache = cache_folder()
    except OSError as error:
        raise no_room(url, error) from error
    return cache / "images" / "remote" / hashlib.sha256(whole.encode()).hexdigest()[:DIGEST_DIGITS]


def fetch_folder(url: str, place: Path) -> None:
    """Brings this machine's copy of the images, or label maps with their classes, at a URL up to date.

    Raises:
        DatasetError: There are none, they can't be read, or this machine's disk does not take them.
    """
    with troubles_told(url):
        listed = list_files(url)
    if not listed:
        raise DatasetError.of(
            f"expected images ({', '.join(IMAGE_SUFFIXES)}), but got none", where=url, cure="Check the URL."
        )
    for name in listed:
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise DatasetError.of(
                f"expected names of files in the folder, but got {name!r}", where=url, cure="Rename it there."
            )
    try:
        place.mkdir(parents=True, exist_ok=True)
        with node_lock(place.with_suffix(".lock"), None):
            bring_up_to_date(url, place, listed)
    except TrialSiteError as error:
        raise DatasetError(str(error)) from error
    except OSError as error:
        raise no_room(url, error) from error


def fetched_sums(url: str, place: Path, names: frozenset[str]) -> FolderSums:
    """Returns some files of a fetched folder with what they were when they were fetched.

    Raises:
        DatasetError: One is not there any more: another command has fetched the folder meanwhile.
    """
    index = read_index(place)
    for name in sorted(names - index.keys()):
        raise DatasetError.of(
            f"expected {name} as it was read a moment ago, but it is gone", where=url, cure="Run the command again."
        )
    return FolderSums(place, url, tuple(FileSum(name, index[name][0], index[name][2]) for name in sorted(names)))


def list_files(url: str) -> Listed:
    """Lists the images and label maps below a URL."""
    system, root = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    above = root.rstrip("/") + "/"
    found: Mapping[str, Mapping[str, Any]] = system.find(root, detail=True)
    names = {path.removeprefix(above): entry for path, entry in found.items() if path.startswith(above)}
    return {
        name: (int(entry["size"]), next((str(entry[key]) for key in MARKS if entry.get(key) is not None), ""))
        for name, entry in names.items()
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES or name == CLASSES_FILE
    }


def bring_up_to_date(url: str, place: Path, listed: Listed) -> None:
    """Fetches what is new or has changed, and removes what is there no more; the folder's lock is held."""
    index = read_index(place)
    new = [
        FileSum(name, size, "")
        for name, (size, mark) in listed.items()
        if (index.get(name) or [None, None])[:2] != [size, mark] or size_of(place / name) != size
    ]
    for name in index.keys() - listed.keys():
        (place / name).unlink(missing_ok=True)
    kept = {name: row for name, row in index.items() if name in listed}
    if not new and kept == index:
        return
    copier = Copier(url, place)
    copier.start(sum(file.size_bytes for file in new))
    try:
        for file in in_threads(copier.take, new):
            kept[file.name] = [file.size_bytes, listed[file.name][1], file.sha256]
    except OSError:
        copier.undo()
        raise
    finally:
        copier.end()
        write_index(place, kept)


def read_index(place: Path) -> dict[str, list[Any]]:
    with suppress(OSError, ValueError):
        index: dict[str, list[Any]] = json.loads(place.with_suffix(".json").read_text())
        return index
    return {}


def write_index(place: Path, index: dict[str, list[Any]]) -> None:
    """Writes it whole or not at all."""
    partial = place.with_suffix(".tmp")
    partial.write_text(json.dumps(index))
    partial.replace(place.with_suffix(".json"))


@contextmanager
def troubles_told(url: str) -> Iterator[None]:
    """Makes one kind of error of all that file systems raise: each has kinds of its own."""
    try:
        yield
    except Exception as error:
        raise DatasetError.of(
            f"expected a folder on an object store that can be read, but got: {first_line(error)}",
            where=url,
            cure="Check it, and this machine's credentials.",
        ) from error


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def no_room(url: str, error: OSError) -> DatasetError:
    return DatasetError.of(
        f"expected room on this machine for the images, but got: {error}",
        where=url,
        cure="Free some, or let SEGSWEEP_CACHE name a folder on a larger disk.",
    )
