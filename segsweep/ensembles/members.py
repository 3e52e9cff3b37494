"""The prediction sets of candidates: one a network, view and role, made once and kept in the sweep's folder.

Imports the predicting processes' driver; no network runs in this process.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from segdata.errors import DatasetError, InputError
from segdata.prediction_parts import milliseconds_of
from segsweep.checkpoints import fetch_weights
from segsweep.data_roles import SweepRoles
from segsweep.ensembles.library import Entry
from segsweep.leaderboard import rank
from segsweep.predicting import How, digest_of, network_settings, predict_images
from segsweep.prediction_source import ImagesSource, Network, images_of_data, network_of
from segsweep.run_folder import RunFolder
from segsweep.search import TrialRecord, trial_records
from segsweep.sweep_file import Sweep

__all__ = ["Shelf", "best_records", "trial_entries"]


@dataclass(frozen=True)
class Shelf:
    """Where candidates' predictions of the sweep's roles are found, or made."""

    sweep: Sweep
    roles: SweepRoles
    how: How
    console: Console
    known: dict[tuple[str, str], tuple[Path, ...]] = field(default_factory=dict)  # (entry's name, role) -> sets

    @property
    def folder(self) -> Path:
        """Returns the folder of all sets."""
        return RunFolder(self.sweep.path).ensembles / "members"

    def fill(self, entries: Sequence[Entry], role: str) -> None:
        """Makes the sets of several entries, whose need of disk is told together.

        Raises:
            DatasetError: An image can't be read.
            InputError: They have no room on the disk, or another tool's predictions of the role were not named.
        """
        distinct = {entry.name: entry for entry in entries if (entry.name, role) not in self.known}
        left = sum(len(entry.networks) for entry in distinct.values())
        for entry in distinct.values():
            self.sets(entry, role, left)
            left -= len(entry.networks)

    def sets(self, entry: Entry, role: str, to_come: int = 1) -> tuple[Path, ...]:
        """Returns an entry's predictions of a role: one set a network; `to_come` sets have to have room on the disk.

        Raises:
            DatasetError: An image can't be read; then there is no set.
            InputError: Another tool's predictions of the role were not named.
        """
        if (entry.name, role) in self.known:
            return self.known[entry.name, role]
        if entry.networks:
            images = images_of_data(self.roles.roles[role])
            made = tuple(
                self.predicted(entry, network, images, role, max(1, to_come - number))
                for number, network in enumerate(entry.networks)
            )
            self.known[entry.name, role] = made
            return made
        if role not in entry.given:
            raise InputError.of(
                f"expected predictions of {role} by {entry.name}, but got those of {', '.join(entry.given)} only",
                where=f"--add {entry.name}",
                cure=f"Put {role}.json, or a folder {role} of label maps, beside them.",
            )
        return (entry.given[role],)

    def predicted(self, entry: Entry, network: Network, images: ImagesSource, role: str, to_come: int) -> Path:
        """Returns the predictions of images by one of an entry's networks."""
        seen = replace(network, view=entry.view)
        settings = network_settings(seen, images, self.how.windows, self.how.stride)
        digest = digest_of(settings | {"images": images.fingerprint})
        out = self.folder / f"{re.sub(r'[^A-Za-z0-9.+-]+', '-', entry.name)}-{role}-{digest}"
        out.parent.mkdir(parents=True, exist_ok=True)
        title, task = f"{entry.name} predicts {role}:", self.sweep.config.task
        done = predict_images(seen, images, out, self.how, self.console, title, task=task, sets=to_come)
        if done.failed:
            raise DatasetError(next(iter(done.failed.values())))
        return out

    def milliseconds(self, entry: Entry, sets: Sequence[Path]) -> float | None:
        """Returns what an image costs by an entry's networks; None where other tools predicted."""
        times = [milliseconds_of(path) for path in sets] if entry.networks else [None]
        return None if None in times else math.fsum(time for time in times if time is not None)


def best_records(sweep: Sweep, top: int) -> tuple[TrialRecord, ...]:
    """Returns the best trials whose weights are still there.

    Raises:
        InputError: There are fewer than `top`.
    """
    folder = RunFolder(sweep.path)
    ranked = rank(trial_records(folder.study()), sweep.config.mode)
    fetch_weights(folder, (record.number for record in ranked[:top]))
    kept = [record for record in ranked if folder.trial(record.number).best.is_file()]
    if len(kept) < top:
        raise InputError.of(
            f"expected {top} trials with weights, but got {len(kept)}",
            where=folder.path,
            cure="Ask for fewer by --top, or raise storage.keep_checkpoints in the next sweep.",
        )
    return tuple(kept[:top])


def trial_entries(sweep: Sweep, records: Sequence[TrialRecord]) -> tuple[Entry, ...]:
    """Returns an entry a trial. Its prior is its best score on val, which the search saw.

    All priors are 1 where a score is zero or below, as weights must be positive, and with a metric of the user's own,
    of which nobody knows what twice as much means.
    """
    folder, config = RunFolder(sweep.path), sweep.config
    scores = [record.best_score for record in records]
    weighs = config.mode == "max" and min(scores) > 0 and config.metric not in config.own_metrics
    return tuple(
        Entry(
            f"{record.number:04d}",
            (network_of(folder.trial(record.number).directory),),
            prior=score if weighs else 1.0,
        )
        for record, score in zip(records, scores, strict=True)
    )
