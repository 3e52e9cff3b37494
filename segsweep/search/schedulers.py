"""Which trials are stopped early: Tune's rules by name, on `epoch`, with the past of a resumed sweep.

Tune keeps rungs in memory only; here each trial is announced before it starts, with the scores that the study has of
it, so that a resumed sweep decides as an unbroken one. The untuned baseline is never stopped (ADR 015).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from segsweep.objectives import Mode
from segsweep.search.study import TrialRecord
from segsweep.search_config import AshaConfig, HyperbandConfig, MedianConfig, SchedulerConfig
from trainables.limits import Limit, broken_at_once

__all__ = ["Halving", "Median", "SweepScheduler", "bracket_of", "bracket_sizes", "build_scheduler", "expect"]

CONTROLLER: Any = SimpleNamespace(get_live_trials=lambda: [])  # the rules ask Tune's for no more


def build_scheduler(
    config: SchedulerConfig, metric: str, mode: Mode, longest_epochs: int, limits: Sequence[Limit] = ()
) -> TrialScheduler:
    """Returns the scheduler that a sweep file names; without one, or with pbt (see `generations`), nothing is stopped.

    Args:
        config: Its name and options.
        metric: Name of the score.
        mode: Its direction.
        longest_epochs: The largest plan in the space; the last rung lies at or below it.
        limits: What ends a trial anyway; a score over such a limit is compared with nothing.
    """
    if config.asha is not None:
        return SweepScheduler(Halving(config.asha, 1, metric, mode, longest_epochs), metric, limits)
    if config.hyperband is not None:
        brackets = config.hyperband.brackets or len(bracket_sizes(config.hyperband, longest_epochs))
        return SweepScheduler(Halving(config.hyperband, brackets, metric, mode, longest_epochs), metric, limits)
    if config.median is not None:
        return SweepScheduler(Median(config.median, metric, mode), metric, limits)
    return FIFOScheduler()  # type: ignore[no-untyped-call]


def expect(scheduler: TrialScheduler, record: TrialRecord, tune_id: str) -> None:
    """Announces a trial under the id that Tune will know it by, with the scores that it has already.

    Decisions of the past are not made again. A trial may be announced again, under another id; what is known of it
    counts once.
    """
    if isinstance(scheduler, SweepScheduler):
        scheduler.expect(record, tune_id)


class StopRule(Protocol):
    """Compares trials by their scores at epochs; never sees NaN, nor an epoch of a trial twice."""

    def add(self, tune_id: str, place: int) -> None:
        """A trial is about to report."""

    def learn(self, tune_id: str, epoch: int, score: float) -> None:
        """Takes note of a score."""

    def stops(self, tune_id: str, epoch: int, score: float) -> bool:
        """Takes note of a score and tells whether the trial is to end with it."""


class SweepScheduler(FIFOScheduler):
    """Stops what its rule stops, apart from the baseline; trials start in the order in which they are suggested."""

    def __init__(self, rule: StopRule, score: str, limits: Sequence[Limit] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rule, self.score, self.limits = rule, score, limits
        self.known_as: dict[str, str] = {}  # Tune's id of a trial -> the rule's, which outlives a launch
        self.last_epoch: dict[str, int] = {}
        self.exempt: set[str] = set()

    def expect(self, record: TrialRecord, tune_id: str) -> None:
        """See the function of that name."""
        known = self.known_as[tune_id] = f"trial-{record.number}"
        if known not in self.last_epoch:
            self.last_epoch[known] = 0
            self.rule.add(known, record.place)
        for epoch, score in sorted(record.scores.items()):
            if epoch > self.last_epoch[known]:
                if broken_at_once(self.limits, record.epochs.get(epoch, {})) is None:
                    self.rule.learn(known, epoch, score)
                self.last_epoch[known] = epoch
        if record.origin == "baseline":
            self.exempt.add(known)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decides about one report of a trial."""
        epoch, score, known = result.get("epoch"), result.get(self.score, math.nan), self.known_as[trial.trial_id]
        if broken_at_once(self.limits, result) is not None:
            return TrialScheduler.CONTINUE
        if epoch is None or math.isnan(score) or epoch <= self.last_epoch[known]:
            return TrialScheduler.CONTINUE
        self.last_epoch[known] = epoch
        if known in self.exempt:
            self.rule.learn(known, epoch, score)
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if self.rule.stops(known, epoch, score) else TrialScheduler.CONTINUE


@dataclass(frozen=True, slots=True)
class Known:
    """A trial as Tune's rules want to see it."""

    trial_id: str


class Halving:
    """Asynchronous successive halving, in one bracket (ASHA) or several (Hyperband).

    L. Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2 and section 3.3. A
    trial's bracket follows from its place, so that it is the same after a resume; Tune's own `brackets` draws it.

    Args:
        config: The first rung, and the share of trials that survives one (1 / reduction_factor).
        brackets: How many; each begins one rung later.
        metric: Name of the score.
        mode: Its direction.
        longest_epochs: The last rung lies at or below it.
    """

    def __init__(
        self, config: AshaConfig | HyperbandConfig, brackets: int, metric: str, mode: Mode, longest_epochs: int
    ) -> None:
        self.metric = metric
        self.sizes = bracket_sizes(config, longest_epochs)[:brackets]
        self.brackets = [
            AsyncHyperBandScheduler(
                time_attr="epoch",
                metric=metric,
                mode=mode,
                max_t=max(longest_epochs, config.grace_epochs + 1),
                grace_period=config.grace_epochs * config.reduction_factor**index,  # type: ignore[arg-type]
                reduction_factor=config.reduction_factor,
                stop_last_trials=False,  # a trial that reaches its planned end is complete, not stopped
            )
            for index in range(len(self.sizes))
        ]
        self.bracket: dict[str, AsyncHyperBandScheduler] = {}

    def add(self, tune_id: str, place: int) -> None:
        """See `StopRule`."""
        self.bracket[tune_id] = self.brackets[bracket_of(place, self.sizes)]
        self.bracket[tune_id].on_trial_add(CONTROLLER, Known(tune_id))  # type: ignore[arg-type]

    def learn(self, tune_id: str, epoch: int, score: float) -> None:
        """See `StopRule`."""
        self.stops(tune_id, epoch, score)

    def stops(self, tune_id: str, epoch: int, score: float) -> bool:
        """See `StopRule`."""
        result = {"epoch": epoch, self.metric: score}
        known: Any = Known(tune_id)
        return self.bracket[tune_id].on_trial_result(CONTROLLER, known, result) == TrialScheduler.STOP


def bracket_sizes(config: AshaConfig | HyperbandConfig, longest_epochs: int) -> list[int]:
    """Returns how many of each round's trials belong to each of Hyperband's brackets, the strictest first.

    Such that all brackets take about the same epochs: a bracket with k of r rungs
    has ceil((r + 1) / (k + 1) * reduction_factor ** k) trials (L. Li et al., Hyperband, JMLR 2018, algorithm 1).
    """
    rungs = 0
    while config.grace_epochs * config.reduction_factor ** (rungs + 1) <= longest_epochs:
        rungs += 1
    return [math.ceil((rungs + 1) / (k + 1) * config.reduction_factor**k) for k in range(rungs, -1, -1)]


def bracket_of(place: int, sizes: Sequence[int]) -> int:
    """Returns the bracket of the trial at that place; sum(sizes) trials are a round, which spreads them evenly."""
    slots = sorted(((k + 0.5) / size, index) for index, size in enumerate(sizes) for k in range(size))
    return slots[place % len(slots)][1]


class Median:
    """Stops a trial whose best score so far is below the median of the other trials' mean scores up to that epoch.

    D. Golovin et al., Google Vizier, KDD 2017, section 3.2.2.
    """

    def __init__(self, config: MedianConfig, metric: str, mode: Mode) -> None:
        self.metric = metric
        self.rule = MedianStoppingRule(
            time_attr="epoch",
            metric=metric,
            mode=mode,
            grace_period=config.grace_epochs,
            min_samples_required=config.min_trials,
        )

    def add(self, tune_id: str, place: int) -> None:
        """See `StopRule`."""
        self.rule.on_trial_add(CONTROLLER, Known(tune_id))  # type: ignore[arg-type]

    def learn(self, tune_id: str, epoch: int, score: float) -> None:
        """See `StopRule`. What Tune calls for a trial's last result takes note of it and decides nothing."""
        known: Any = Known(tune_id)
        self.rule.on_trial_complete(CONTROLLER, known, {"epoch": epoch, self.metric: score})

    def stops(self, tune_id: str, epoch: int, score: float) -> bool:
        """See `StopRule`."""
        known: Any = Known(tune_id)
        result = {"epoch": epoch, self.metric: score}
        return self.rule.on_trial_result(CONTROLLER, known, result) == TrialScheduler.STOP
