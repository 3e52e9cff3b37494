"""The members of an ensemble and their prediction sets: one a trial and role, made once, in a fork server's child.

Imports trainables' fork server; no network runs in this process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError, TrialError
from segsweep.checkpoints import fetch_weights
from segsweep.data_roles import SweepRoles
from segsweep.run_folder import RunFolder
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep
from trainables.fork_server import Ended, start_child
from trainables.requests import PredictRequest

__all__ = ["Members", "choose_members"]

PREDICT = "trainables.predict:predict"


@dataclass(frozen=True)
class Members:
    """The trials that an ensemble is made of, best first."""

    sweep: Sweep
    roles: SweepRoles
    records: tuple[TrialRecord, ...]
    threads: int
    console: Console

    @property
    def names(self) -> tuple[str, ...]:
        """The trials' four-digit names."""
        return tuple(f"{record.number:04d}" for record in self.records)

    @property
    def hashes(self) -> tuple[str, ...]:
        """Hashes of the trials' configurations."""
        return tuple(TrialConfig.from_dict(record.config).hash() for record in self.records)

    @property
    def weights(self) -> list[float]:
        """Each member's weight: its best score on val, which the search saw, never on what is scored afterwards.

        Equal weights where a score is zero or below, as weights must be positive, and with a metric of the user's own,
        of which nobody knows what twice as much means.
        """
        scores = [record.best_score for record in self.records]
        config = self.sweep.config
        return scores if min(scores) > 0 and config.metric not in config.own_metrics else [1.0] * len(scores)

    def predict(self, role: str) -> list[Path]:
        """Returns the members' prediction sets of a role; those that are there already are not made again."""
        return [self._predict(record, role) for record in self.records]

    def _predict(self, record: TrialRecord, role: str) -> Path:
        folder = RunFolder(self.sweep.path)
        fingerprint = self.roles.roles[role].fingerprint
        out = folder.ensembles / "members" / f"{record.number:04d}-{role}-{fingerprint}"
        if (out / "meta.json").is_file():
            return out
        files = folder.trial(record.number)
        request = PredictRequest(
            directory=files.directory,
            task=self.sweep.config.task,
            role=self.roles.files(role, folder.data),
            fingerprint=fingerprint,
            out=out,
            config_hash=TrialConfig.from_dict(record.config).hash(),
            threads=self.threads,
            custom_imports=self.sweep.config.custom_imports,
            folder=self.sweep.folder,
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        title = f"trial {record.number:04d} predicts {role}"
        run_prediction(request, files.directory / "predict.log", title, self.console)
        return out


def choose_members(ranked: Sequence[TrialRecord], top: int, folder: RunFolder) -> tuple[TrialRecord, ...]:
    """Returns the best trials whose weights are still there.

    Raises:
        InputError: There are fewer than `top`.
    """
    fetch_weights(folder, (record.number for record in ranked[:top]))
    kept = [record for record in ranked if folder.trial(record.number).best.is_file()]
    if len(kept) < top:
        raise InputError.of(
            f"expected {top} trials with weights, but got {len(kept)}",
            where=folder.path,
            cure="Ask for fewer by --top, or raise storage.keep_checkpoints in the next sweep.",
        )
    return tuple(kept[:top])


def run_prediction(request: PredictRequest, log: Path, title: str, console: Console) -> None:
    """Runs one predicting child to its end and shows how far it is.

    Raises:
        TrialError: The child failed.
    """
    child = start_child(PREDICT, request, log)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task(title, total=None)
            while not isinstance(message := child.receive(None), Ended):
                if message is not None:
                    progress.update(bar, completed=message[1]["done"], total=message[1]["of"])
    finally:
        child.stop()
    if message.kind != "done":
        raise TrialError(f"{title}: {message.reason}")
