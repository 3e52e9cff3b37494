"""The observer that writes a sweep to MLflow while it runs, and makes good at the end what a dead server missed."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from segsweep.search.study import TrialRecord
from segtrack.recorder import RunStatus, SweepRecorder, TrackingLost
from trainables.trial_files import TrialFiles

__all__ = ["TrackingObserver"]

STATUS: dict[str, RunStatus] = {
    "running": "RUNNING",
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "crashed": "FAILED",
    "failed": "FAILED",
}

logger = logging.getLogger(__name__)


class TrackingObserver:
    """Forwards trials to a recorder. A store that does not answer never ends a sweep: the trial is written again later.

    Args:
        recorder: Writes to MLflow.
        files_of: Returns a trial's files by its number.
        keeps: Tells whether a trial's best weights are worth an artifact (it is among the best so far).
    """

    def __init__(
        self, recorder: SweepRecorder, files_of: Callable[[int], TrialFiles], keeps: Callable[[int], bool]
    ) -> None:
        self.recorder, self.files_of, self.keeps = recorder, files_of, keeps
        self.missed: set[int] = set()

    def trial_started(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""
        self._try(record.number, lambda: self._start(record))

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """See `SweepObserver`."""
        self._try(number, lambda: self.recorder.record_epoch(number, epoch, scores))

    def trial_ended(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""
        self._try(record.number, lambda: self._end(record))

    def synchronize(self, records: Iterable[TrialRecord]) -> None:
        """Writes whatever of these trials is not in MLflow yet: runs, epochs, ends."""
        for record in records:
            self.missed.discard(record.number)
            self._try(record.number, lambda record=record: self._write_all(record))  # type: ignore[misc]

    def _write_all(self, record: TrialRecord) -> None:
        self._start(record)
        for row in self.files_of(record.number).read_history():
            self.recorder.record_epoch(record.number, row.epoch, row.scores)
        if record.ended:
            self._end(record)

    def _start(self, record: TrialRecord) -> None:
        tags = {"segsweep.origin": record.origin}
        self.recorder.start_trial(record.number, dict(record.sample), tags)

    def _end(self, record: TrialRecord) -> None:
        files = self.files_of(record.number)
        artifacts = [files.config, files.history, files.log]
        if record.best_epoch is not None and self.keeps(record.number):
            artifacts.append(files.best)
        tags: dict[str, Any] = {
            "segsweep.outcome": record.outcome,
            "segsweep.reason": record.reason,
            "segsweep.best_epoch": str(record.best_epoch),
        }
        self.recorder.end_trial(record.number, STATUS[record.outcome], tags, artifacts)

    def _try(self, number: int, write: Callable[[], None]) -> None:
        if number in self.missed:  # in order or not at all: `synchronize` writes the whole trial
            return
        try:
            write()
        except TrackingLost as error:
            logger.warning("trial %04d will be written to MLflow at the end of the sweep: %s", number, error)
            self.missed.add(number)
