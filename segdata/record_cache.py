"""Record files of a node's processes: each is built once from its source, by one process while others wait.

A file is named after the content of its source, so that a changed source has another one, and sweeps over equal files
share theirs. A small stamp remembers the content of a source by its path, size and times, so that a source is read
once a change only. Files appear whole or not at all; a lock goes with the process that holds it. Without a place to
write to, the records are held in memory: nothing here may fail a trial. May import segdata's errors, record files and
lock.
"""

import functools
import hashlib
import io
import logging
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from segdata.errors import DatasetError
from segdata.node_lock import node_lock
from segdata.record_file import RecordFile

__all__ = ["Write", "cache_folder", "open_cached"]

UNUSED_DAYS = 30  # after which a file is removed, by whoever builds the next one
WAIT_S = 600.0  # for another process that builds
SETTLED_S = 2.0  # a file younger than this may change without a change of its times, which some systems count coarsely
DIGEST = re.compile(r"[0-9a-f]{32}")
OURS = re.compile(r"\.?[a-z]+\d+-[0-9a-f]{32}\.(records|stamp|lock)(\.[0-9a-f]{32}\.partial)?")

Write = Callable[[BinaryIO], None]


def cache_folder() -> Path:
    """Returns where record files lie on this node: SEGSWEEP_CACHE, else segsweep/data in the user's cache.

    Raises:
        OSError: The user has no home folder.
    """
    named = os.environ.get("SEGSWEEP_CACHE")
    try:
        if named:
            return Path(named).expanduser().absolute()
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(caches).expanduser().absolute() / "segsweep" / "data"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def open_cached(source: Path, form: str, write: Write, *, distrust: bool = False) -> RecordFile:
    """Opens the record file of a source, building it if there is none.

    Args:
        source: The file that the records are made of.
        form: Kind and version of what `write` writes, such as "coco1".
        write: Writes the whole record file of the source.
        distrust: Whether to read every record first, since one was found damaged.

    Raises:
        DatasetError: `write` says that the source is wrong.
    """
    try:
        return _stored(source, form, write, cache_folder(), distrust)
    except OSError as error:
        failure = str(error)
    memory = io.BytesIO()
    write(memory)
    _say_once(f"{form}: parsed annotations are held in memory, for they can't be shared by a file: {failure}")
    return RecordFile(memory.getvalue(), source)


def _stored(source: Path, form: str, write: Write, folder: Path, distrust: bool) -> RecordFile:
    """Raises OSError where the folder can't be read or written."""
    times, stamp = _times(source), folder / f"{form}-{_digest_of(_identity(source))}.stamp"
    known = None if distrust else _opened(folder, form, _stamped(stamp), stamp)
    if known is not None:
        return known
    content = _digest(source)
    settled = _times(source) == times and time.time() - max(times) / 1e9 > SETTLED_S
    path = folder / f"{form}-{content}.records"
    known = None if distrust else _opened(folder, form, content, stamp)
    if known is None:
        folder.mkdir(parents=True, exist_ok=True)
        with node_lock(path.with_suffix(".lock"), WAIT_S):
            if not _is_whole(path, distrust):
                _build(source, path, content, write)
            known = RecordFile.open(path)
    if settled:
        _remember(stamp, content)
    return known


def _opened(folder: Path, form: str, content: str | None, stamp: Path) -> RecordFile | None:
    """Opens a file that exists and is whole, and says that it is in use."""
    if content is None:
        return None
    path = folder / f"{form}-{content}.records"
    try:
        records = RecordFile.open(path)
    except (FileNotFoundError, DatasetError):
        return None
    with suppress(OSError):  # the folder may be read-only, or the stamp be missing; then it only seems unused
        os.utime(path)
        os.utime(stamp)
    return records


def _is_whole(path: Path, distrust: bool) -> bool:
    try:
        records = RecordFile.open(path)
        if distrust:
            records.verify()
    except (FileNotFoundError, DatasetError):
        return False
    return True


def _build(source: Path, path: Path, content: str, write: Write) -> None:
    """Writes the file beside its place and moves it there; called with its lock held."""
    for left in path.parent.glob(f".{path.name}.*.partial"):  # of a builder that was killed
        left.unlink()
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    try:
        with partial.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())  # a disk that is full says so here at the latest
        if _digest(source) != content:
            raise OSError(f"{source} changed while it was read")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _remove_unused(path.parent)


def _remove_unused(folder: Path) -> None:
    """Removes our files that no process opened for long; who has one mapped keeps it.

    A lock may go while another process waits for it: at worst a file is built twice, and both are whole.
    """
    oldest = time.time() - UNUSED_DAYS * 86400
    for path in folder.iterdir():
        if OURS.fullmatch(path.name):
            with suppress(OSError):  # gone already, or another user's
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _identity(source: Path) -> str:
    status = source.stat()
    return repr((str(source.resolve()), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def _times(source: Path) -> tuple[int, int]:
    """Returns when the content and when anything of the file changed, in ns; nobody can set the latter back."""
    status = source.stat()
    return status.st_mtime_ns, status.st_ctime_ns


def _stamped(stamp: Path) -> str | None:
    try:
        content = stamp.read_bytes().decode("ascii", errors="replace")
    except FileNotFoundError:
        return None
    return content if DIGEST.fullmatch(content) else None


def _remember(stamp: Path, content: str) -> None:
    """Writes a stamp; without it the source is read once more."""
    partial = stamp.with_name(f".{stamp.name}.{uuid.uuid4().hex}.partial")
    with suppress(OSError):
        partial.write_text(content)
        os.replace(partial, stamp)


def _digest(source: Path) -> str:
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _digest_of(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@functools.cache
def _say_once(line: str) -> None:
    logging.getLogger(__name__).warning(line)
