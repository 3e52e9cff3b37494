"""Copies of image folders on a node's own disk: each file is fetched once a node and is what its SHA-256 says.

    SEGSWEEP_CACHE/images/files/9f/9f86d0...   a file by the SHA-256 of its content, for all sweeps
    SEGSWEEP_CACHE/images/folders/DIGEST/      a folder as trials read it: hard links, under the names of the source
    SEGSWEEP_CACHE/images/folders/DIGEST.lock  held by the one process of the node that copies that folder

A file appears whole and checked, or not at all. A copier that was killed leaves what it has; the next one goes on from
there. Imports fsspec for folders that are URLs.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import fsspec

from segdata.atomic import link_or_copy
from segdata.errors import TrialSiteError
from segdata.file_sums import FileSum, FolderSums, in_threads, sha256_of
from segdata.node_lock import node_lock
from segdata.record_cache import cache_folder

__all__ = ["NodeCopy", "copy_to_node", "is_url", "stored_images"]

CHUNK_BYTES = 1 << 20
KEPT_FREE = 0.05  # of the disk: Ray gives a node with less no work
FETCHES = 2  # of a file that comes otherwise than it should


@dataclass(frozen=True, slots=True)
class NodeCopy:
    """Where a folder's files lie on this node, and how many of them, with how many bytes, were fetched just now."""

    folder: Path
    fetched: int = 0
    fetched_bytes: int = 0


def is_url(source: str) -> bool:
    """Tells an fsspec URL from a path."""
    return "://" in source


def copy_to_node(folder: FolderSums, meanwhile: Callable[[], None] = lambda: None) -> NodeCopy:
    """Returns this node's copy of a folder, fetching what it lacks; waits for another process that does so.

    Args:
        folder: The files.
        meanwhile: Called again and again; what it raises ends the copying. What is there by then stays.

    Raises:
        OSError: This node's disk does not take it. What was fetched goes again.
        TrialSiteError: A file can't be read at its source, or is another one, twice.
    """
    place = cache_folder() / "images" / "folders" / folder.digest
    if not lacking(place, folder.files):
        return NodeCopy(place)
    place.mkdir(parents=True, exist_ok=True)
    with node_lock(place.with_suffix(".lock"), None, meanwhile):
        missing = lacking(place, folder.files)
        copier = Copier(folder.source, place)
        copier.start(copier.bytes_to_come(missing))
        try:
            with closing(in_threads(copier.bring, missing)) as brought:
                for _ in brought:
                    meanwhile()
        except OSError:
            copier.undo()
            raise
        finally:
            copier.end()
    return NodeCopy(place, len(copier.fetched), sum(file.size_bytes for file in copier.fetched))


def stored_images() -> tuple[int, int]:
    """Returns how many files this node has copies of, and how many bytes these take together."""
    sizes = [size_of(path) or 0 for path in (cache_folder() / "images" / "files").glob("*/*")]
    return len(sizes), sum(sizes)


def lacking(place: Path, files: Sequence[FileSum]) -> list[FileSum]:
    """Returns the files that are not there with all their bytes."""
    return [file for file in files if size_of(place / file.name) != file.size_bytes]


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@dataclass(slots=True)
class Copier:
    """Fetches files of one source into the node's copy `place`; its lock is held."""

    source: str
    place: Path
    fetched: list[FileSum] = field(default_factory=list)

    @property
    def partials(self) -> Path:
        return self.place.with_suffix(".partial")

    def stored(self, file: FileSum) -> Path:
        """Returns where a file lies by its content."""
        return self.place.parents[1] / "files" / file.sha256[:2] / file.sha256

    def bytes_to_come(self, missing: Sequence[FileSum]) -> int:
        """Returns how many bytes of missing files this node does not have under another name."""
        new = {file.sha256: file.size_bytes for file in missing if size_of(self.stored(file)) != file.size_bytes}
        return sum(new.values())

    def start(self, needed: int) -> None:
        """Clears what a killed copier left half-fetched.

        Args:
            needed: Bytes to come.

        Raises:
            OSError: The disk has too little room.
        """
        shutil.rmtree(self.partials, ignore_errors=True)
        self.partials.mkdir()
        disk = shutil.disk_usage(self.place)
        free = disk.free - int(KEPT_FREE * disk.total)
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"{needed / 1e9:.2f} GB of images do not fit into the {max(0, free) / 1e9:.2f} GB that are free, "
                f"less {KEPT_FREE:.0%} of the disk",
                str(self.place.parents[1]),
            )

    def bring(self, file: FileSum) -> None:
        """Puts one file into its place, from the node's store of contents or from the source."""
        stored = self.stored(file)
        if size_of(stored) != file.size_bytes or sha256_of(stored) != file.sha256:
            stored.parent.mkdir(parents=True, exist_ok=True)
            self.fetch(file, stored)
            self.fetched.append(file)
        self.name_as_given(file)

    def take(self, file: FileSum) -> FileSum:
        """Fetches one file whose content is not known before; returns it with its SHA-256."""
        partial = self.partials / uuid.uuid4().hex
        try:
            found = self.copied(file, partial)
            taken = FileSum(file.name, partial.stat().st_size, found)
            stored = self.stored(taken)
            stored.parent.mkdir(parents=True, exist_ok=True)
            partial.chmod(0o444)
            os.replace(partial, stored)
        finally:
            partial.unlink(missing_ok=True)
        self.fetched.append(taken)
        self.name_as_given(taken)
        return taken

    def name_as_given(self, file: FileSum) -> None:
        """Gives a stored content the file's name in the folder."""
        stored, own = self.stored(file), self.place / file.name
        own.parent.mkdir(parents=True, exist_ok=True)
        partial = self.partials / uuid.uuid4().hex
        link_or_copy(stored, partial)  # a content with very many names needs a second copy
        os.replace(partial, own)
        partial.unlink(missing_ok=True)  # it stays where both were one file already

    def fetch(self, file: FileSum, stored: Path) -> None:
        """Copies one file from the source, once more if that fails or it is not what it should be.

        Raises:
            TrialSiteError: It fails again.
        """
        partial = self.partials / uuid.uuid4().hex
        try:
            for attempt in range(1, FETCHES + 1):
                try:
                    found = self.copied(file, partial)
                    if found != file.sha256:
                        raise self.other_content(file, found)
                    break
                except TrialSiteError:
                    if attempt == FETCHES:
                        raise
            partial.chmod(0o444)
            os.replace(partial, stored)
        finally:
            partial.unlink(missing_ok=True)

    def copied(self, file: FileSum, partial: Path) -> str:
        """Copies one file to `partial`, down to the disk, and returns its SHA-256."""
        digest = hashlib.sha256()
        with partial.open("wb") as stream:
            for chunk in self.chunks(file):
                digest.update(chunk)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())  # a disk that is full says so here at the latest
        return digest.hexdigest()

    def chunks(self, file: FileSum) -> Iterator[bytes]:
        """Reads one file at the source; what goes wrong there is told from what goes wrong with this node's disk."""
        try:
            with self.opened(file) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        except Exception as error:  # file systems raise errors of kinds of their own
            told = error.strerror if isinstance(error, OSError) else None
            told = told or (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrialSiteError.of(
                f"expected a file of the sweep's images, but got: {told}",
                where=self.where(file),
                cure="See that this node can read it, then resume.",
            ) from error

    def opened(self, file: FileSum) -> fsspec.core.OpenFile:
        return fsspec.open(self.where(file), "rb") if is_url(self.source) else Path(self.where(file)).open("rb")

    def where(self, file: FileSum) -> str:
        return f"{self.source.rstrip('/')}/{file.name}"

    def other_content(self, file: FileSum, found: str) -> TrialSiteError:
        return TrialSiteError.of(
            f"expected the file that the sweep was started with (SHA-256 {file.sha256}), but got another one ({found})",
            where=self.where(file),
            cure="Put the file back, or start a new sweep: scores on different data do not compare.",
        )

    def undo(self) -> None:
        """Removes what was fetched, so that a disk that is full is so by others."""
        for file in self.fetched:
            for path in (self.stored(file), self.place / file.name):
                with suppress(OSError):
                    path.unlink()

    def end(self) -> None:
        shutil.rmtree(self.partials, ignore_errors=True)
