"""Whether a folder is the same one on all nodes: the driver writes a word there, each node reads it and leaves its own.

Imports the standard library only.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from segdata.errors import InputError

__all__ = ["Seen", "StorageProbe", "look", "storage_probe"]

WORD_FILE = "driver"
SEEN_WITHIN_S = 10.0  # a network file system may remember for seconds that there was no such file
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class StorageProbe:
    """The folder of a probe, and the driver's word in it."""

    folder: Path
    word: str

    def came_back(self, file: str, word: str) -> bool:
        """Tells whether the driver finds a node's word."""
        return read_word(self.folder / file) == word


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node found in the storage.

    Attributes:
        word: That it read; "" = there was no such file.
        own: The word that it left.
        write_s: Seconds that this took, down to the disk.
        problem: Why it could not write.
    """

    word: str
    own: str = ""
    write_s: float = 0.0
    problem: str = ""


@contextmanager
def storage_probe(storage: Path) -> Iterator[StorageProbe]:
    """Makes a probe in `storage`; all of it goes at the end, folders included that were not there.

    Raises:
        InputError: Nothing can be written there.
    """
    made = [path for path in (storage, *storage.parents) if not path.exists()]
    probe = StorageProbe(storage / f".probe-{secrets.token_hex(8)}", secrets.token_hex(16))
    try:
        try:
            probe.folder.mkdir(parents=True)
            write_word(probe.folder / WORD_FILE, probe.word)
        except OSError as error:
            raise InputError.of(
                f"expected a folder to write to, but got: {error.strerror}",
                where=storage,
                cure="Set storage.path in the sweep file to another one.",
            ) from error
        yield probe
    finally:
        shutil.rmtree(probe.folder, ignore_errors=True)
        with suppress(OSError):  # someone else may have put a file there meanwhile
            for path in made:
                path.rmdir()


def look(probe: StorageProbe, file: str) -> Seen:
    """Reads the driver's word on this node, and leaves another in `file`; makes no folder."""
    end_s = time.monotonic() + SEEN_WITHIN_S
    while not (word := read_word(probe.folder / WORD_FILE)) and time.monotonic() < end_s:
        time.sleep(POLL_S)
    if word != probe.word:
        return Seen(word)
    own, begin_s = secrets.token_hex(16), time.perf_counter()
    try:
        write_word(probe.folder / file, own)
    except OSError as error:
        return Seen(word, problem=error.strerror or str(error))
    return Seen(word, own, time.perf_counter() - begin_s)


def write_word(path: Path, word: str) -> None:
    """Writes a word down to the disk."""
    with path.open("w") as stream:
        stream.write(word)
        stream.flush()
        os.fsync(stream.fileno())


def read_word(path: Path) -> str:
    """Returns the word in a file; "" if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
