"""The journal file of a study, with entries that belong together written at once (ADR 003).

The file is Optuna's, entry for entry; what differs is when it is written. A suggestion is two dozen entries, each of
which would cost a lock and a wait for the disk. Nobody sees the trial before all of them are on disk, so they go in one
piece; a kill leaves none of them or, as a system may write half a piece, the first few.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock
from optuna.study import Study, StudyDirection

from segdata.errors import InputError, SegsweepError

__all__ = ["SweepJournal", "at_once", "load_journal"]

JOURNALS: "WeakKeyDictionary[Study, SweepJournal]" = WeakKeyDictionary()
CURE = "Put the file back from a copy, or start a new sweep."
SHOWN = 40  # characters of a damaged line


def load_journal(path: Path, name: str, directions: Sequence[StudyDirection] | None = None) -> Study | None:
    """Opens the study of that name in a journal.

    Args:
        path: The file.
        name: Of the study.
        directions: To create the study, and the file, where there is none; None = only look.

    Raises:
        InputError: A line of the file is no entry, or it belongs to something else than a sweep.
    """
    journal = SweepJournal(path)
    storage = JournalStorage(journal)
    names = optuna.get_all_study_names(storage)
    if names and name not in names:
        raise InputError.of(
            f"expected the journal of a sweep, but got one of another study: {names[0]}", where=path, cure=CURE
        )
    if name in names:
        study = optuna.load_study(study_name=name, storage=storage)
    elif directions is None:
        return None
    else:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    JOURNALS[study] = journal
    return study


def read_entry(line: bytes) -> Any:
    """Reads a line; the names in it, which are the same in each trial, are in memory once."""
    return json.loads(line, object_pairs_hook=shared)


def shared(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object whose names and texts are shared with all others."""
    return {sys.intern(name): sys.intern(value) if type(value) is str else value for name, value in pairs}


@contextmanager
def at_once(study: Study) -> Iterator[None]:
    """Writes what happens to the study inside at its end; without effect on one that is not on disk."""
    journal = JOURNALS.get(study)
    if journal is None:
        yield
        return
    with journal.batch():
        yield


class SweepJournal(BaseJournalBackend):
    """A journal file with one writer, the sweep's driver; others may read it, and add notes to the study.

    Args:
        path: The file; it is made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, JournalFileSymlinkLock(str(path))
        path.touch()
        self.offset = self.line = 0  # how far the file was read
        self.own: list[tuple[int, int, int]] = []  # begin, end and lines of what was read before it was in the file
        self.depth = 0
        self.waiting: list[bytes] = []
        self.told = 0  # of those that wait
        self.lost: SegsweepError | None = None  # why the file lacks what the study in memory knows

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Keeps what is appended inside until its end, also where an error ends it; one in another is part of it."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if self.depth == 0 and self.waiting:
                lines, told, self.waiting, self.told = self.waiting, self.told, [], 0
                begin = self._write(b"".join(lines))
                self.own.append((begin, begin + sum(map(len, lines[:told])), told))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Writes entries, or keeps them until the batch ends."""
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        if self.depth:
            self.waiting += lines
        else:
            self._write(b"".join(lines))

    def _write(self, content: bytes) -> int:
        """Appends to the file, waits for the disk, and returns where the content begins.

        Raises:
            SegsweepError: The disk did not take it, now or earlier. Nothing is written then or any more: what is in
                memory only must not be built upon.
        """
        if self.lost is not None:
            raise self.lost
        try:
            self.lock.acquire()
            try:
                return append_whole(self.path, content)
            finally:
                self.lock.release()
        except OSError as error:
            self.lost = SegsweepError.of(
                f"expected a disk that takes the study's entries, but got: {error.strerror}",
                where=self.path,
                cure=f"Make room, or bring the disk back; then go on with `segsweep resume {self.path.parent}`.",
            )
            raise self.lost from error

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yields what has not been read yet: of the file, then of the batch.

        The one storage that reads here goes on where it was, or begins anew; so it needs no numbers.
        """
        if log_number_from == 0:
            self.offset = self.line = self.told = 0
            self.own.clear()
        if self.path.stat().st_size > self.offset:
            yield from self._read_file()
        while self.told < len(self.waiting):
            self.told += 1
            yield read_entry(self.waiting[self.told - 1])

    def _read_file(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            while True:
                if self.own and self.own[0][0] == self.offset:
                    _, self.offset, lines = self.own.pop(0)
                    self.line += lines
                    stream.seek(self.offset)
                line = stream.readline()
                if not line.endswith(b"\n"):  # the end, or what someone is about to write
                    return
                self.offset += len(line)
                self.line += 1
                yield self._entry(line)

    def _entry(self, line: bytes) -> dict[str, Any]:
        try:
            entry = read_entry(line)
        except ValueError:  # no JSON, or no text at all
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("op_code"), int) and "worker_id" in entry:
            return entry
        shown = line.decode(errors="replace").strip()
        raise InputError.of(
            f"expected an entry of a study's journal, but got {shown[:SHOWN] + '...' * (len(shown) > SHOWN)!r}",
            where=f"{self.path}:{self.line}",
            cure=CURE,
        )


def append_whole(path: Path, content: bytes) -> int:
    """Appends all of `content` or nothing, and returns where it begins: half a line would spoil the next one."""
    with path.open("ab", buffering=0) as stream:
        begin, left = stream.seek(0, os.SEEK_END), memoryview(content)
        try:
            while left:
                left = left[stream.write(left) :]
            os.fsync(stream.fileno())
        except OSError:
            os.ftruncate(stream.fileno(), begin)
            raise
    return begin
