"""Which weights a sweep keeps: the best trials' and the running ones', none of a trial over a limit.

Weights of further epochs go with a trial's best ones. Configs, logs and scores always stay. A sweep with a store keeps
the same there, further epochs aside; whoever needs weights that are not on this machine fetches them first.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from segsweep.leaderboard import rank
from segsweep.objectives import Front, Objective
from segsweep.run_folder import Origin, RunFolder
from segsweep.search.budget import point_of
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
    """Removes the weights of ended trials that are not among the best `keep` of those that have ended: the Pareto front
    first, then by score. What the end of a trial costs does not grow with the number of trials.

    Args:
        folder: The sweep's folder.
        keep: How many trials' weights stay.
        objectives: What ranks them, the score first.
        before: The trials of earlier launches; of those that have ended, weights go with the next one that ends.
        store: Where there are copies.
    """

    def __init__(
        self,
        folder: RunFolder,
        keep: int,
        objectives: Sequence[Objective],
        before: Iterable[TrialRecord] = (),
        store: CheckpointStore | None = None,
    ) -> None:
        self.folder, self.keep, self.objectives, self.store = folder, keep, objectives, store
        self.front = Front()
        self.best: list[TrialRecord] = []
        self.outranked: list[int] = []  # numbers of trials whose weights are to go
        for record in before:
            if record.ended:
                self._place(record)

    def keeps(self, number: int) -> bool:
        """Tells whether the trial is among the best so far."""
        return any(record.number == number for record in self.best)

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
        self._place(record)
        while self.outranked:
            self._drop_weights(self.outranked.pop())

    def _place(self, record: TrialRecord) -> None:
        """Ranks a trial that has ended among the best, and notes which one falls out."""
        if record.outcome == "over-limit":
            self.outranked.append(record.number)
        point = point_of(record, self.objectives)
        if point is not None:
            self.front.add(record.number, point)
        ranked = rank([*self.best, record], self.objectives[0].mode)
        ranked.sort(key=lambda one: one.number not in self.front.points)
        self.best = ranked[: self.keep]
        self.outranked += [one.number for one in ranked[self.keep :]]

    def _drop_weights(self, number: int) -> None:
        files = self.folder.trial(number)
        files.best.unlink(missing_ok=True)
        files.drop_epochs()
        if self.store is not None:
            self.store.drop(files, "best")
