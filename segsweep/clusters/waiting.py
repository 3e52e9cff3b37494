"""What a sweep waits for: trials that were handed to Tune and have no node yet. Imports ray."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from segsweep.clusters.autoscaler import nodes_that_start

__all__ = ["WaitingCallback", "waiting_told"]

LOOK_S = 2.0
PATIENCE_S = 10.0  # an actor starts within that where there is a place for it

Request = tuple[tuple[str, float], ...]  # resources of a trial by name, in the order of the names


class WaitingCallback(Callback):
    """Says what trials wait for whenever that changes, and which trials have come to a node.

    Args:
        tell: Called with a line, "" once nothing is waited for any more.
        placed: Called with Tune's id of a trial that has come to a node.
        coming: Returns the nodes that the autoscaler is starting, by type.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        placed: Callable[[str], None],
        coming: Callable[[], Mapping[str, int]] = nodes_that_start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tell, self.placed, self.coming, self.clock = tell, placed, coming, clock
        self.looked_s = -LOOK_S
        self.since_s: dict[str, float] = {}  # trials without a node -> since when
        self.said = ""

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """See `Callback`: the trial's actor is there."""
        self.since_s.pop(trial.trial_id, None)
        self.placed(trial.trial_id)

    def on_step_begin(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """See `Callback`; Tune calls it at least ten times a second."""
        now_s = self.clock()
        if now_s - self.looked_s < LOOK_S:
            return
        self.looked_s = now_s
        pending = {trial.trial_id: trial for trial in trials if trial.status == Trial.PENDING}
        self.since_s = {name: self.since_s.get(name, now_s) for name in pending}
        late = [trial for name, trial in pending.items() if now_s - self.since_s[name] >= PATIENCE_S]
        line = waiting_told(Counter(map(request_of, late)), self.coming() if late else {})
        if line != self.said:
            self.said = line
            self.tell(line)

    def __getstate__(self) -> dict[str, object]:
        """Tune pickles its callbacks into a file that nothing of ours reads back."""
        return {}


def request_of(trial: Trial) -> Request:
    """Returns what a trial needs of a node."""
    placement = trial.placement_group_factory
    return () if placement is None else tuple(sorted(placement.required_resources.items()))


def waiting_told(requests: Mapping[Request, int], coming: Mapping[str, int]) -> str:
    """Returns one line, such as "waiting for a node with 4 CPUs and 1 GPU: 2 trials pending; the autoscaler is starting
    1 x gpu-worker"; "" if nothing is waited for.
    """
    if not requests:
        return ""
    parts = []
    for request, count in sorted(requests.items()):
        needs = " and ".join(f"{amount:g} {name}{'s' * (amount != 1)}" for name, amount in request)
        parts.append(f"a node with {needs}: {count} trial{'s' * (count != 1)} pending")
    nodes = ", ".join(f"{count} x {kind}" for kind, count in sorted(coming.items()))
    return "waiting for " + ", ".join(parts) + (f"; the autoscaler is starting {nodes}" if nodes else "")
