"""The files of one trial's directory, and how each is read and written. Imports the standard library and
segdata's errors only.

config.py       stock MMEngine config            best.pth       weights of the best epoch
last.pth        what resume needs                history.jsonl  one line an epoch: all scores
checkpoint/     what Ray is handed: a pointer to last.pth       train.log      output of the training process
epochs/NNNN.pth weights of further epochs (`storage.keep_epochs`)
initial_weights.json  what of the model was loaded before the first step (absent with `init: none`)
states/         last.pth after the last leg, for other trials to go on from (population-based training)
handed-NNNN.pth another trial's state of that epoch, to go on from (population-based training)
taken.json      the last epoch at which another trial's state took the place of last.pth
parts.json      in how many parts each training batch is taken, for want of memory (absent: whole)
stop            asks the trial to end
outcome.json    how the trial ended, as far as the trial itself knows (a scheduler's stop is known to the driver only)
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from segdata.errors import TrialSiteError

__all__ = ["EpochScores", "Outcome", "TrialFiles", "name_again"]

RESERVED_BYTES = 16384
MOST_REASON = 2500  # characters, of which JSON may make six bytes each


@dataclass(frozen=True, slots=True)
class EpochScores:
    """What one validation found; `epoch` counts finished epochs from 1."""

    epoch: int
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended, and why; `values` are those by which it broke a limit."""

    kind: Literal[
        "completed",  # all planned epochs
        "paused",  # at the end of a leg, after which it waits for the others
        "out-of-time",  # the sweep's
        "over-time",  # its own
        "asked-to-stop",  # by the user
        "over-limit",
        "crashed",  # it would come again
        "out-of-memory",
        "killed",  # from outside
        "failed",  # by the fault of the machine
    ]
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """Paths below one trial's directory."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "config.py"

    @property
    def best(self) -> Path:
        return self.directory / "best.pth"

    @property
    def last(self) -> Path:
        return self.directory / "last.pth"

    @property
    def log(self) -> Path:
        return self.directory / "train.log"

    @property
    def history(self) -> Path:
        return self.directory / "history.jsonl"

    @property
    def initial(self) -> Path:
        return self.directory / "initial_weights.json"

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoint"

    @property
    def outcome(self) -> Path:
        return self.directory / "outcome.json"

    @property
    def epochs(self) -> Path:
        return self.directory / "epochs"

    def epoch_weights(self, epoch: int) -> Path:
        """Returns where the weights of an epoch lie if they are kept."""
        return self.epochs / f"{epoch:04d}.pth"

    def kept_epochs(self) -> tuple[int, ...]:
        """Returns the epochs whose weights are kept beside the best one's, in order."""
        return tuple(sorted(int(path.stem) for path in self.epochs.glob("*.pth")))

    def drop_epochs(self) -> None:
        """Removes the weights of all epochs but the best one."""
        shutil.rmtree(self.epochs, ignore_errors=True)

    def read_parts(self) -> int:
        """Returns in how many parts each training batch is taken."""
        path = self.directory / "parts.json"
        return int(json.loads(path.read_text())["parts"]) if path.is_file() else 1

    def write_parts(self, parts: int) -> None:
        """Writes in how many parts each training batch is taken from now on."""
        partial = self.directory / "parts.tmp"
        partial.write_text(json.dumps({"parts": parts}))
        partial.replace(self.directory / "parts.json")

    def ask_to_stop(self) -> None:
        """Leaves word that the trial should end."""
        (self.directory / "stop").touch()

    def is_asked_to_stop(self) -> bool:
        """Tells whether somebody left that word."""
        return (self.directory / "stop").exists()

    def reserve_outcome(self) -> None:
        """Takes room on the disk for the outcome, so that it can be written when the disk is full."""
        self.directory.mkdir(parents=True, exist_ok=True)
        reserve = self.outcome.with_suffix(".tmp")
        with reserve.open("wb") as stream:
            stream.write(b" " * RESERVED_BYTES)
            stream.flush()
            os.fsync(stream.fileno())

    def append_history(self, row: EpochScores) -> None:
        """Adds an epoch; a repeated epoch replaces the earlier line when read.

        A line that a full disk or a kill cut short gets an end first, or it would take the new one along.
        """
        line = json.dumps({"epoch": row.epoch, "scores": dict(row.scores)}) + "\n"
        with self.history.open("a+b") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read(1) == b"\n" else "\n" + line
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())

    def read_history(self) -> tuple[EpochScores, ...]:
        """Returns the epochs in order; a half-written last line, left by a kill, is not an epoch."""
        if not self.history.is_file():
            return ()
        rows: dict[int, EpochScores] = {}
        for line in self.history.read_text().splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                continue
            rows[values["epoch"]] = EpochScores(values["epoch"], values["scores"])
        return tuple(rows[epoch] for epoch in sorted(rows))

    def write_pointer(self, epoch: int) -> Path:
        """Writes the directory that Ray is handed as checkpoint: which file, of which epoch."""
        self.checkpoint.mkdir(exist_ok=True)
        pointer = self.checkpoint / "checkpoint.json"
        pointer.with_suffix(".tmp").write_text(json.dumps({"file": str(self.last), "epoch": epoch}))
        pointer.with_suffix(".tmp").replace(pointer)
        return self.checkpoint

    def note(self, line: str) -> None:
        """Adds a line of ours to the training process's output, if the disk takes it."""
        with contextlib.suppress(OSError), self.log.open("a") as stream:
            stream.write(f"segsweep: {line}\n")

    def keep_state(self, epoch: int) -> None:
        """Gives `last.pth` a second name, which the next epochs leave alone, in the place of an earlier one."""
        states = self.directory / "states"
        states.mkdir(exist_ok=True)
        state = states / f"{epoch:04d}.pth"
        name_again(self.last, state)
        for other in states.iterdir():
            if other != state:
                other.unlink()

    def drop_states(self) -> None:
        """Removes what only a running trial needs."""
        self.last.unlink(missing_ok=True)
        for handed in self.directory.glob("handed-*"):
            handed.unlink()
        shutil.rmtree(self.directory / "states", ignore_errors=True)

    @staticmethod
    def read_pointer(folder: Path) -> int:
        """Returns the epoch that such a directory tells."""
        return int(json.loads((folder / "checkpoint.json").read_text())["epoch"])

    def take_over(self, state: Path) -> None:
        """Puts another trial's state in the place of `last.pth`, whole or not at all.

        Raises:
            TrialSiteError: It is not there.
        """
        partial = self.last.with_suffix(".tmp")
        try:
            shutil.copyfile(state, partial)
        except FileNotFoundError as error:
            raise TrialSiteError(
                f"{state}: expected the state of the trial to go on from, but got none here"
            ) from error
        partial.replace(self.last)

    def hand(self, donor: "TrialFiles", epoch: int) -> None:
        """Puts another trial's state of that epoch beside `last.pth`, to be taken up when this trial goes on.

        Raises:
            TrialSiteError: It is not there.
        """
        state = donor.directory / "states" / f"{epoch:04d}.pth"
        if not state.is_file():
            raise TrialSiteError(f"{state}: expected the state of the trial to go on from, but got none here")
        name_again(state, self.directory / f"handed-{epoch:04d}.pth")

    def take_handed(self, epoch: int) -> None:
        """Lets the state that was handed at that epoch take the place of `last.pth`, once; a kill at any point leaves
        it to be done again, or done.

        Raises:
            TrialSiteError: None was taken, and none is there.
        """
        handed, taken = self.directory / f"handed-{epoch:04d}.pth", self.directory / "taken.json"
        if not taken.is_file() or json.loads(taken.read_text())["epoch"] != epoch:
            self.take_over(handed)
            taken.with_suffix(".tmp").write_text(json.dumps({"epoch": epoch}))
            taken.with_suffix(".tmp").replace(taken)
        handed.unlink(missing_ok=True)

    def write_outcome(self, outcome: Outcome) -> None:
        """Writes how the trial ended, whole or not at all, into the room that was reserved for it."""
        partial = self.outcome.with_suffix(".tmp")
        if not partial.is_file():
            self.reserve_outcome()
        values = {"values": dict(outcome.values)} if outcome.values else {}
        text = json.dumps({"kind": outcome.kind, "reason": outcome.reason[:MOST_REASON], **values}).encode()
        with partial.open("r+b") as stream:
            stream.write(text.ljust(RESERVED_BYTES))
        partial.replace(self.outcome)

    def read_outcome(self) -> Outcome | None:
        """Returns how the trial ended; None while it runs or where the driver stopped it."""
        if not self.outcome.is_file():
            return None
        return Outcome(**json.loads(self.outcome.read_text()))


def name_again(file: Path, name: Path) -> None:
    """Gives a file a second name, which stays as it is when the first one is replaced; a copy where links can't be."""
    partial = name.with_suffix(".tmp")
    partial.unlink(missing_ok=True)
    try:
        os.link(file, partial)
    except OSError:
        shutil.copyfile(file, partial)
    partial.replace(name)
