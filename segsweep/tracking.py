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
PAUSE_S = 60.0  # after a store did not answer, before it is asked again: each try may block the sweep for 20 s
LAST_PAUSE_S = 5.0  # the same at the end, when only the store is waited for

logger = logging.getLogger(__name__)


class TrackingObserver:
    """Forwards trials to a recorder. A store that does not answer never ends a sweep: the trial is written again later.

    Args:
        recorder: Writes to MLflow.
        files_of: Returns a trial's files by its number.
        keeps: Tells whether a trial's best weights are worth an artifact (it is among the best so far).
        clock: Seconds that never run backwards.
        wait: Lets seconds pass.
    """

    def __init__(
        self,
        recorder: SweepRecorder,
        files_of: Callable[[int], TrialFiles],
        keeps: Callable[[int], bool],
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.recorder, self.files_of, self.keeps, self.clock, self.wait = recorder, files_of, keeps, clock, wait
        self.missed: dict[int, TrialRecord] = {}  # as last seen; written whole or not at all
        self.told: set[int] = set()
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

    def catch_up(self) -> bool:
        """Writes what was missed; returns whether the store was found away. What it does not take holds up no other."""
        if self.clock() < self.ask_again_s:
            return True
        for number, record in sorted(self.missed.items()):
            try:
                self._write_all(record)
            except TrackingLostError as error:
                self._lose(record, error)
                if not self.recorder.answers():
                    return True
            else:
                del self.missed[number]
        return False

    def catch_up_at_last(self, patience_s: float) -> None:
        """Writes what was missed. A store that is away is asked again for so long: nobody will do so later."""
        give_up_s, waited = self.clock() + patience_s, False
        self.ask_again_s = -float("inf")
        while self.catch_up() and self.clock() < give_up_s:
            if not waited:
                logger.warning("waiting %g s at most for the MLflow store", patience_s)
            waited = True
            self.wait(LAST_PAUSE_S)
            self.ask_again_s = -float("inf")
        if self.missed:
            names = ", ".join(f"{number:04d}" for number in sorted(self.missed))
            logger.warning("missing in MLflow until the sweep is resumed: trials %s", names)

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
            self._lose(record, error)

    def _lose(self, record: TrialRecord, error: TrackingLostError) -> None:
        """Keeps a trial for later, and says so once."""
        if record.number not in self.told:
            self.told.add(record.number)
            logger.warning("trial %04d will be written to MLflow later: %s", record.number, error)
        self.missed[record.number] = record
        self.ask_again_s = self.clock() + PAUSE_S
