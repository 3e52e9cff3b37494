"""Trials that end before their plan though neither a scheduler nor a crash ended them: what the study makes of each."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState

from trainables.trial_files import Outcome

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search


@pytest.mark.parametrize(
    ("kind", "scores", "outcome", "state"),
    [
        ("out-of-time", [0.3], "stopped", TrialState.PRUNED),
        ("out-of-time", [], "failed", TrialState.FAIL),
        ("over-time", [0.3], "stopped", TrialState.PRUNED),
        ("over-time", [], "stopped", TrialState.PRUNED),
        ("asked-to-stop", [0.3], "stopped", TrialState.PRUNED),
        ("asked-to-stop", [], "stopped", TrialState.FAIL),  # which the sampler does not see
    ],
)
def test_the_sampler_keeps_away_from_what_takes_too_long_only(
    kind: Any, scores: list[float], outcome: str, state: TrialState, search: Callable[..., "Search"]
) -> None:
    one = search()
    number = one.searcher.suggest("a")["number"]
    for epoch, score in enumerate(scores, start=1):
        one.report("a", epoch, score)
    one.files(number).write_outcome(Outcome(kind, "because"))
    one.searcher.on_trial_complete("a", {"done": True})
    (record,), (trial,) = one.records(), one.study.get_trials(deepcopy=False)
    assert (record.outcome, record.reason, trial.state) == (outcome, "because", state)
    assert trial.constraints["crash"] == (1.0 if kind == "over-time" else 0.0)
    assert list(record.scores.values()) == scores and record.broken == ()  # what it reached still counts
