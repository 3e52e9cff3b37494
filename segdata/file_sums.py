"""Which files a sweep reads, with their sizes and SHA-256: what a copy of them has to be.

    {"folders": [{"place": "/data/images", "source": "/data/images", "files": [["a.png", 4711, "9f86..."], ...]}]}

May import segdata's errors and atomic files only.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from segdata.atomic import write_text
from segdata.errors import DatasetError, TrialSiteError

__all__ = ["FileSum", "FolderSums", "hash_files", "in_threads", "read_sums", "sha256_of", "write_sums"]

READERS = 16  # files at a time: shared storage is slow by latency
DIGEST_DIGITS = 32

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class FileSum:
    """One file: its name below its folder, its bytes, and the SHA-256 of its content in hex."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FolderSums:
    """Files of one folder.

    Attributes:
        place: The folder as a sweep's roles name it.
        source: What the files are read from: the same folder, or an fsspec URL.
        files: Ordered by name.
    """

    place: Path
    source: str
    files: tuple[FileSum, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        """Of names and contents, 32 hex digits: equal folders have equal ones, wherever they lie."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(repr((file.name, file.sha256)).encode())
        return digest.hexdigest()[:DIGEST_DIGITS]


def hash_files(place: Path, names: Iterable[str], known: Mapping[str, str] | None = None) -> FolderSums:
    """Reads files of a folder, several at a time; of those in `known` (name -> SHA-256) only the size.

    Raises:
        DatasetError: A file can't be read, or its name leads out of the folder.
    """
    listed = sorted(set(names))
    for name in listed:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise DatasetError.of(
                f"expected names of files in the folder, but got {name!r}",
                where=place,
                cure="Name the folder above all images, or leave storage.cache_images out.",
            )

    def summed(name: str) -> FileSum:
        path = place / name
        try:
            return FileSum(name, path.stat().st_size, (known or {}).get(name) or sha256_of(path))
        except OSError as error:
            raise DatasetError.of(
                f"expected a file of the data set, but got: {error.strerror}",
                where=path,
                cure="Run `segsweep data check`.",
            ) from error

    return FolderSums(place, str(place), tuple(in_threads(summed, listed)))


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's content in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def in_threads(make: Callable[[Given], Made], given: Iterable[Given]) -> Generator[Made, None, None]:
    """Yields what `make` makes of each, in order, several at a time; after an error none is begun any more."""
    pool = ThreadPoolExecutor(READERS)
    try:
        yield from pool.map(make, given)
    finally:
        pool.shutdown(cancel_futures=True)


def write_sums(folders: Iterable[FolderSums], path: Path) -> None:
    """Writes them whole or not at all.

    Raises:
        InputError: The file can't be written there.
    """
    entries = [
        {
            "place": str(folder.place),
            "source": folder.source,
            "files": [[file.name, file.size_bytes, file.sha256] for file in folder.files],
        }
        for folder in folders
    ]
    write_text(path, json.dumps({"folders": entries}))


def read_sums(path: Path) -> tuple[FolderSums, ...]:
    """Reads what `write_sums` wrote.

    Raises:
        TrialSiteError: It is not there, or damaged.
    """
    try:
        folders = json.loads(path.read_text(encoding="utf-8"))["folders"]
        return tuple(
            FolderSums(Path(one["place"]), one["source"], tuple(FileSum(*file) for file in one["files"]))
            for one in folders
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise TrialSiteError.of(
            f"expected the list of the sweep's images, but got: {found}",
            where=path,
            cure="See that this node has the sweep's folder; where the file is damaged, remove it and resume.",
        ) from error
