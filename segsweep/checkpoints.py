"""Which weights a sweep keeps: the best trials' and the running ones', none of a trial over a limit.

Weights of further epochs go with a trial's best ones. Configs, logs and scores always stay. A sweep with a store keeps
the same there, further epochs aside; whoever needs weights that are not on this machine fetches them first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from segsweep.run_folder import Origin, RunFolder
from segsweep.search.study import TrialRecord
from segsweep.sweep_config import SweepConfig
from trainables.checkpoint_store import CheckpointStore

__all__ = ["CheckpointKeeper", "fetch_weights", "store_of"]


def store_of(config: SweepConfig, origin: Origin) -> CheckpointStore | None:
    """Returns the store that the sweep file names, with a folder of the sweep's own; None if it names none."""
    place = config.storage.checkpoints
    if place is None:
        return None
    root = place if "://" in place else str(Path(origin.folder) / place)
    return CheckpointStore(f"{root.rstrip('/')}/{config.name}-{origin.id[:8]}")


def fetch_weights(folder: RunFolder, numbers: Iterable[int]) -> None:
    """Fetches the best weights of those trials that have none here, if the sweep has a store.

    Raises:
        TrialSiteError: The store can't be read.
    """
    store = store_of(folder.config(), folder.read_origin())
    if store is None:
        return
    for number in numbers:
        if not folder.trial(number).best.is_file():
            store.pull_best(folder.trial(number))


class CheckpointKeeper:
    """Removes the weights of ended trials that are not among the best `keep`.

    Args:
        folder: The sweep's folder.
        keep: How many trials' weights stay.
        ranked: Returns the trials with a score, best first.
        store: Where there are copies.
    """

    def __init__(
        self,
        folder: RunFolder,
        keep: int,
        ranked: Callable[[], Sequence[TrialRecord]],
        store: CheckpointStore | None = None,
    ) -> None:
        self.folder, self.keep, self.ranked, self.store = folder, keep, ranked, store
        self.dropped: set[int] = set()

    def keeps(self, number: int) -> bool:
        """Tells whether the trial is among the best so far."""
        return number in {record.number for record in self.ranked()[: self.keep]}

    def trial_started(self, record: TrialRecord) -> None:
        """See `SweepObserver`."""

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        """See `SweepObserver`."""

    def trial_ended(self, record: TrialRecord) -> None:
        """See `SweepObserver`; a trial that has ended is never resumed, so its `last.pth` goes."""
        ended = self.folder.trial(record.number)
        ended.drop_states()
        if self.store is not None:
            self.store.drop(ended, "last")
        over_limit = [record] if record.outcome == "over-limit" else []
        for other in [*over_limit, *self.ranked()[self.keep :]]:
            if other.ended and other.number not in self.dropped:
                self.folder.trial(other.number).best.unlink(missing_ok=True)
                self.folder.trial(other.number).drop_epochs()
                if self.store is not None:
                    self.store.drop(self.folder.trial(other.number), "best")
                self.dropped.add(other.number)
