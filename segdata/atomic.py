"""Files and folders that appear whole or not at all.

Everything is built under a hidden name beside its place and moved there at the end, so an error or Ctrl-C leaves
nothing half-written. May import `segdata.errors` only.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from segdata.errors import InputError

__all__ = ["link_or_copy", "new_file", "new_folder", "refuse_existing", "refuse_existing_file", "write_text"]

# What a write says that names no file: a full disk or share, a file system turned read-only, a broken disk.
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, replacing an older one in one step.

    Raises:
        InputError: if the file can't be written there.
    """
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if partial.exists():
            partial.unlink()


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Gives a text file to fill in UTF-8, which becomes `path` when the block ends without an error.

    Raises:
        InputError: if something is at `path`, or it can't be written, at first or later.
    """
    refuse_existing_file(path)
    partial = _beside(path)
    made = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        stream = partial.open("x", encoding="utf-8", newline="")
    except OSError as error:
        raise _cannot_write(path, error) from error
    with _undone(path, partial, made), stream:
        yield stream
        stream.close()
        refuse_existing_file(path)  # it may have come up in the meantime
        os.replace(partial, path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives a hidden folder to fill, which becomes `path` when the block ends without an error.

    Raises:
        InputError: if `path` exists and is not an empty folder, or can't be made or filled.
    """
    refuse_existing(path)
    partial = _beside(path)
    made = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    with _undone(path, partial, made):
        yield partial
        refuse_existing(path)  # it may have come up in the meantime
        os.replace(partial, path)


@contextmanager
def _undone(path: Path, partial: Path, made: Sequence[Path]) -> Iterator[None]:
    """Removes what was begun, and the folders made for it, where the block ends by an error; tells one of writing."""
    try:
        yield
    except BaseException as error:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
        with suppress(OSError):  # someone else may have put a file there meanwhile
            for parent in made:
                parent.rmdir()
        if isinstance(error, OSError) and _is_of_writing(error, partial):
            raise _cannot_write(path, error) from error
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Gives a file a second name; a copy where the file system has no links."""
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def refuse_existing(path: Path) -> None:
    """Refuses to write where something already is; an empty folder is fine.

    Raises:
        InputError: naming the path.
    """
    if not path.exists() and not path.is_symlink():
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    found = "a folder with files in it" if path.is_dir() else "a file"
    raise InputError.of(
        f"expected a new or empty folder to write to, but got {found}",
        where=path,
        cure="Name another one, or remove it.",
    )


def refuse_existing_file(path: Path) -> None:
    """Refuses to write a file where something already is.

    Raises:
        InputError: naming the path.
    """
    if path.exists() or path.is_symlink():
        found = "a folder" if path.is_dir() else "one that is there already"
        raise InputError.of(f"expected a new file, but got {found}", where=path, cure="Name another one, or remove it.")


def _beside(path: Path) -> Path:
    return path.absolute().parent / f".{path.name}.{uuid.uuid4().hex[:8]}.partial"


def _is_of_writing(error: OSError, partial: Path) -> bool:
    """Tells what is written to `partial` from what is read elsewhere meanwhile."""
    names = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)]
    return error.errno in _OF_DISKS or any(name.is_relative_to(partial) for name in names)


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError.of(
        f"expected a place to write to, but got: {error.strerror}", where=path, cure="Name another one."
    )
