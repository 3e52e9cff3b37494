"""Which weights a sweep keeps on disk: the best trials' and the running ones'. Configs, logs and scores always stay."""

from collections.abc import Callable, Mapping, Sequence

from segsweep.run_folder import RunFolder
from segsweep.search.study import TrialRecord

__all__ = ["CheckpointKeeper"]


class CheckpointKeeper:
    """Removes the weights of ended trials that are not among the best `keep`.

    Args:
        folder: The sweep's folder.
        keep: How many trials' weights stay.
        ranked: Returns the trials with a score, best first.
    """

    def __init__(self, folder: RunFolder, keep: int, ranked: Callable[[], Sequence[TrialRecord]]) -> None:
        self.folder, self.keep, self.ranked = folder, keep, ranked

    def keeps(self, number: int) -> bool:
        """Tells whether the trial is among the best so far."""
        return number in {record.number for record in self.ranked()[: self.keep]}

    def trial_started(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """See `SweepObserver`."""

    def trial_ended(self, record: TrialRecord) -> None:
        """See `SweepObserver`; a trial that has ended is never resumed, so its `last.pth` goes."""
        self.folder.trial(record.number).last.unlink(missing_ok=True)
        best = {kept.number for kept in self.ranked()[: self.keep]}
        for other in self.ranked()[self.keep :]:
            if other.ended and other.number not in best:
                self.folder.trial(other.number).best.unlink(missing_ok=True)
