"""The observer that writes a sweep to MLflow while it runs, and makes good what a store that was away has missed."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from segsweep.search.study import TrialRecord
from segtrack.recorder import RunStatus, SweepRecorder, TrackingLostError
from trainables.loaded_weights import LoadedWeights
from trainables.trial_files import TrialFiles

__all__ = ["TrackingObserver"]

STATUS: dict[str, RunStatus] = {
    "running": "RUNNING",
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "over-limit": "FINISHED",
    "crashed": "FAILED",
    "failed": "FAILED",
}
PAUSE_S = 60.0  # after a store did not answer, before it is asked again: each try may block the sweep for a minute

logger = logging.getLogger(__name__)


class TrackingObserver:
    """Forwards trials to a recorder. A store that does not answer never ends a sweep: the trial is written again later.

    Args:
        recorder: Writes to MLflow.
        files_of: Returns a trial's files by its number.
        keeps: Tells whether a trial's best weights are worth an artifact (it is among the best so far).
        clock: Seconds that never run backwards.
    """

    def __init__(
        self,
        recorder: SweepRecorder,
        files_of: Callable[[int], TrialFiles],
        keeps: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recorder, self.files_of, self.keeps, self.clock = recorder, files_of, keeps, clock
        self.missed: dict[int, TrialRecord] = {}  # as last seen; written whole or not at all
        self.running: dict[int, TrialRecord] = {}
        self.ask_again_s = -float("inf")

    def trial_started(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""
        self.catch_up()
        self.running[record.number] = record
        self._try(record, lambda: self._start(record))

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """See `SweepObserver`."""
        self._try(self.running[number], lambda: self.recorder.record_epoch(number, epoch, scores))

    def trial_ended(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""
        self.running.pop(record.number, None)
        if record.number in self.missed:
            self.missed[record.number] = record
        self._try(record, lambda: self._end(record))
        self.catch_up()

    def synchronize(self, records: Iterable[TrialRecord]) -> None:
        """Writes whatever of these trials is not in MLflow yet: runs, epochs, ends."""
        self.missed.update({record.number: record for record in records})
        self.catch_up()

    def catch_up(self, *, at_once: bool = False) -> None:
        """Writes what was missed, unless the store was just found away."""
        if at_once:
            self.ask_again_s = -float("inf")
        for number in sorted(self.missed):
            if self.clock() < self.ask_again_s:
                return
            record = self.missed.pop(number)
            self._try(record, lambda record=record: self._write_all(record))  # type: ignore[misc]

    def write(self, what: Callable[[], None], name: str) -> None:
        """Writes something about the sweep itself; if that fails it is only said."""
        try:
            what()
        except TrackingLostError as error:
            logger.warning("%s is missing in MLflow until the sweep is resumed: %s", name, error)

    def _write_all(self, record: TrialRecord) -> None:
        self._start(record)
        for row in self.files_of(record.number).read_history():
            self.recorder.record_epoch(record.number, row.epoch, row.scores)
        if record.ended:
            self._end(record)

    def _start(self, record: TrialRecord) -> None:
        self.recorder.start_trial(record.number, dict(record.sample), {"segsweep.origin": record.origin})
        if record.mutations:
            self.recorder.record_mutations(record.number, [mutation.to_dict() for mutation in record.mutations])

    def _end(self, record: TrialRecord) -> None:
        files = self.files_of(record.number)
        artifacts = [files.config, files.history, files.log, files.initial]
        if record.best_epoch is not None and self.keeps(record.number):
            artifacts.append(files.best)
        tags = {
            "segsweep.outcome": record.outcome,
            "segsweep.reason": record.reason,
            "segsweep.best_epoch": str(record.best_epoch),
        }
        loaded = LoadedWeights.read(files.initial)
        if loaded is not None:
            tags |= {"init.loaded": loaded.text(), "init.share": f"{loaded.share:.4f}"}
        self.recorder.end_trial(record.number, STATUS[record.outcome], tags, artifacts)

    def _try(self, record: TrialRecord, write: Callable[[], None]) -> None:
        if record.number in self.missed:  # in order or not at all: `catch_up` writes the whole trial
            return
        if self.clock() < self.ask_again_s:
            self.missed[record.number] = record
            return
        try:
            write()
        except TrackingLostError as error:
            logger.warning("trial %04d will be written to MLflow later: %s", record.number, error)
            self.missed[record.number] = record
            self.ask_again_s = self.clock() + PAUSE_S
