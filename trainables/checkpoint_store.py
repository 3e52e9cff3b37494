"""A second place for what a trial needs to go on, on a shared disk or an object store: it outlives the trial's machine.

NNNN/state-0003.json   which files belong together after epoch 3; written last, so it speaks of whole files only
NNNN/last-0003.pth     what resume needs                 NNNN/best-0002.pth   weights of the best epoch
NNNN/...               the trial's small files, each as it was last

A new state is complete before the one before it goes. Imports fsspec, which finds the way by the URL.
"""

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fsspec

from segdata.errors import TrialSiteError
from trainables.trial_files import TrialFiles

__all__ = ["CheckpointStore"]

logger = logging.getLogger(__name__)

Weights = Literal["best", "last"]
SMALL_FILES = ("config.py", "history.jsonl", "initial_weights.json", "parts.json", "taken.json")


@dataclass(slots=True)
class CheckpointStore:
    """The checkpoints of one sweep at a folder or an fsspec URL (`s3://bucket/folder`, `sftp://host/folder`).

    Attributes:
        url: The sweep's own folder there.
    """

    url: str
    pushed: dict[Path, tuple[int, str]] = field(default_factory=dict)  # file -> its mtime (ns) when copied, its name

    def try_out(self) -> None:
        """Writes, reads and removes a small file.

        Raises:
            TrialSiteError: That does not work; the message says what it said.
        """
        with self.troubles_told("a place for checkpoints that can be written"):
            system, root = self.open()
            probe, is_new = f"{root}/probe", not system.exists(root)
            make_folder(system, root)
            system.pipe_file(probe, b"probe")
            found = system.cat_file(probe)
            system.rm_file(probe)
            if is_new and system.exists(root):
                system.rm(root, recursive=True)
            if found != b"probe":
                raise OSError("a file that was written came back otherwise")

    def push(self, files: TrialFiles, epoch: int) -> None:
        """Copies what the trial has after an epoch. Without success the trial goes on; its log says so.

        The trial's own folder has it all: only if its machine is lost before the next epoch, this one is trained again.
        """
        try:
            with self.troubles_told("to copy a checkpoint"):
                self.push_files(files, epoch)
        except TrialSiteError as error:
            files.note(str(error))

    def push_files(self, files: TrialFiles, epoch: int) -> None:
        system, folder = self.open(files)
        if not self.pushed:
            make_folder(system, folder)
        state = {"epoch": epoch}
        names = {"last": self.push_weights(system, folder, files.last, epoch)}
        if files.best.is_file():
            names["best"] = self.push_weights(system, folder, files.best, epoch)
        for name in SMALL_FILES:
            if (files.directory / name).is_file():
                system.put_file(str(files.directory / name), f"{folder}/{name}")
        system.pipe_file(f"{folder}/state-{epoch:04d}.json", json.dumps(state | names).encode())
        current = {*names.values(), f"state-{epoch:04d}.json"}
        for path in listed(system, folder):
            if Path(path).name.startswith(("last-", "best-", "state-")) and Path(path).name not in current:
                system.rm_file(path)

    def push_weights(self, system: Any, folder: str, path: Path, epoch: int) -> str:
        """Copies a file unless it has not changed since; returns its name there."""
        changed = path.stat().st_mtime_ns
        if path not in self.pushed or self.pushed[path][0] != changed:
            name = f"{path.stem}-{epoch:04d}.pth"
            system.put_file(str(path), f"{folder}/{name}")
            self.pushed[path] = (changed, name)
        return self.pushed[path][1]

    def pull(self, files: TrialFiles) -> None:
        """Fetches the trial's state if the store knows a later epoch than its own folder.

        Raises:
            TrialSiteError: The store can't be read. To start from the beginning instead would lose epochs.
        """
        with self.troubles_told("to read a trial's checkpoint"):
            system, folder = self.open(files)
            state = newest_state(system, folder)
            if state is None or not system.exists(f"{folder}/{state['last']}"):
                return
            own = files.read_history()[-1].epoch if files.last.is_file() and files.read_history() else 0
            if state["epoch"] <= own:
                return
            files.directory.mkdir(parents=True, exist_ok=True)
            for name in SMALL_FILES:
                if system.exists(f"{folder}/{name}"):
                    fetch(system, f"{folder}/{name}", files.directory / name)
            if "best" in state:
                fetch(system, f"{folder}/{state['best']}", files.best)
            fetch(system, f"{folder}/{state['last']}", files.last)  # last: it says that the rest is there

    def pull_best(self, files: TrialFiles) -> None:
        """Fetches weights and config of a trial whose folder has no weights, if the store has some.

        Raises:
            TrialSiteError: The store can't be read.
        """
        with self.troubles_told("to read a trial's weights"):
            system, folder = self.open(files)
            state = newest_state(system, folder)
            if state is None or "best" not in state or not system.exists(f"{folder}/{state['best']}"):
                return
            files.directory.mkdir(parents=True, exist_ok=True)
            fetch(system, f"{folder}/config.py", files.config)
            fetch(system, f"{folder}/{state['best']}", files.best)

    def drop(self, files: TrialFiles, which: Weights) -> None:
        """Removes weights of a trial; without success they stay, and a warning says so."""
        try:
            with self.troubles_told("to remove weights"):
                system, folder = self.open(files)
                for path in listed(system, folder):
                    if Path(path).name.startswith(f"{which}-"):
                        system.rm_file(path)
        except TrialSiteError as error:
            logger.warning("%s", error)

    def open(self, files: TrialFiles | None = None) -> tuple[Any, str]:
        """Returns the file system, and in it the sweep's folder or a trial's."""
        system, root = fsspec.core.url_to_fs(self.url)
        return system, root if files is None else f"{root}/{files.directory.name}"

    @contextlib.contextmanager
    def troubles_told(self, wanted: str) -> Iterator[None]:
        """Makes one kind of error of all that file systems raise: each has kinds of its own."""
        try:
            yield
        except Exception as error:
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrialSiteError.of(
                f"expected {wanted}, but got: {told}",
                where=self.url,
                cure="Check storage.checkpoints and its credentials.",
            ) from error


def make_folder(system: Any, path: str) -> None:
    """Makes a folder with those above it, but never the first part, a bucket: a wrong name would make another one."""
    above = path.rpartition("/")[0]
    if not above or system.exists(path):
        return
    make_folder(system, above)
    system.mkdir(path, create_parents=False)


def listed(system: Any, folder: str) -> list[str]:
    """Returns the paths in a folder as they are now: file systems remember listings."""
    system.invalidate_cache()
    return [str(path) for path in system.ls(folder, detail=False)] if system.exists(folder) else []


def newest_state(system: Any, folder: str) -> dict[str, Any] | None:
    """Returns the last state that is whole."""
    states = [path for path in listed(system, folder) if Path(path).name.startswith("state-")]
    for path in sorted(states, key=lambda path: (len(path), path), reverse=True):  # state-10000 comes after state-9999
        with contextlib.suppress(json.JSONDecodeError):
            state: dict[str, Any] = json.loads(system.cat_file(path))
            return state
    return None


def fetch(system: Any, source: str, path: Path) -> None:
    """Copies a file here, whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    system.get_file(source, str(partial))
    partial.replace(path)
