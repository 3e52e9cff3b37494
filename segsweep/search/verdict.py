"""How a trial is told to the study: whether it kept the limits, by how much, and its values. Imports optuna."""

from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import Trial, TrialState

from segsweep.objectives import Objective
from segsweep.search.study import CRASH, Outcome, TrialRecord
from trainables.limits import Limit

__all__ = ["judged", "tell_end"]


def judged(
    outcome: Outcome, reason: str, record: TrialRecord, further: Sequence[Objective], limits: Sequence[Limit]
) -> tuple[Outcome, str]:
    """Returns how a trial ended once limits and further objectives were looked at too.

    What training may still mend, such as a score, is judged here alone, at the epoch whose weights are kept.
    """
    if outcome not in ("completed", "stopped"):
        return outcome, reason
    values = record.values
    for limit in limits:
        if limit.excess(values) > 0:
            return "over-limit", limit.reason(values, f"at epoch {record.best_epoch}")
    missing = [objective.name for objective in further if objective.name not in values]
    if outcome == "completed" and missing:
        return "crashed", f"{missing[0]} was NaN at epoch {record.best_epoch}"
    return outcome, reason


def tell_end(
    study: optuna.Study,
    trial: Trial,
    record: TrialRecord,
    outcome: Outcome,
    *,
    further: Sequence[Objective],
    limits: Sequence[Limit],
    values: Mapping[str, float],
    over_time: bool = False,
) -> None:
    """Tells how a trial ended, with all constraints, since the Gaussian process wants equally many of each trial.

    Args:
        study: Of the trial.
        trial: The trial.
        record: What is known of it.
        outcome: How it ended.
        further: Objectives beside the score.
        limits: What it had to keep.
        values: By which the limits are judged.
        over_time: Whether it took longer than a trial may; to the sampler that is a crash.
    """
    unfit = outcome == "crashed" or (outcome == "stopped" and over_time)
    excesses = {CRASH: 1.0 if unfit else 0.0}
    excesses |= {limit.text: limit.excess(values) for limit in limits}
    known = trial.constraints  # a driver that was killed between here and the end has set some
    for name, excess in excesses.items():
        if name not in known:
            trial.set_constraint(name, excess)
    if outcome == "completed":
        rest = record.values
        study.tell(trial, [record.best_score, *(rest[objective.name] for objective in further)])
    else:
        tells_nothing = outcome == "failed" or (outcome == "stopped" and not record.scores and not unfit)
        study.tell(trial, state=TrialState.FAIL if tells_nothing else TrialState.PRUNED)
