"""The ranking, its table in a terminal of 80 columns, and the live table beside it."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segsweep.leaderboard import as_rows, leaderboard_table, rank
from segsweep.progress import ProgressObserver
from segsweep.search.study import Outcome, TrialRecord

SAMPLE = {"lr": 0.000123456, "optimizer": "adamw", "model": "cascade-mask-rcnn", "backbone": "x101-32x4d"}


def record(
    number: int, scores: Mapping[int, float], outcome: Outcome = "completed", reason: str = "", **sample: Any
) -> TrialRecord:
    best = max(scores, key=lambda epoch: (scores[epoch], -epoch), default=None)
    return TrialRecord(
        number=number,
        origin="sampler",
        sample=sample or SAMPLE,
        config={},
        outcome=outcome,
        reason=reason,
        scores=scores,
        best_epoch=best,
        best_score=math.nan if best is None else scores[best],
        planned_epochs=12,
        duration_s=1.0,
    )


def shown(what: object, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_trials_are_ranked_by_their_best_epoch_not_their_last() -> None:
    fallen = record(0, {1: 0.9, 2: 0.1})
    steady = record(1, {1: 0.5, 2: 0.6})
    assert [r.number for r in rank([steady, fallen], "max")] == [0, 1]


def test_of_equal_trials_the_earlier_comes_first_and_those_without_a_score_do_not_come() -> None:
    trials = [record(3, {1: 0.5}), record(1, {4: 0.5}), record(2, {}, "crashed"), record(0, {1: 0.4})]
    assert [r.number for r in rank(trials, "max")] == [1, 3, 0]
    assert [r.number for r in rank(trials, "min")] == [0, 1, 3]


def test_a_stopped_and_a_running_trial_are_ranked_too() -> None:
    trials = [record(0, {1: 0.5}, "stopped"), record(1, {1: 0.7}, "running")]
    assert [r.outcome for r in rank(trials, "max")] == ["running", "stopped"]


def test_the_table_fits_80_columns_and_loses_no_parameter() -> None:
    knobs = {f"some_rather_long_knob_{index}": 0.1 * index for index in range(8)}
    lines = shown(leaderboard_table([record(0, {3: 0.51234}, **SAMPLE, **knobs)], "segm_mAP", "nuclei: best trials"))
    assert max(map(len, lines)) <= 80
    text = "".join("".join(lines).split())
    assert all(name in text for name in knobs)
    assert lines[0].startswith("nuclei: best trials")
    assert lines[2].split()[:5] == ["1", "0000", "0.5123", "3/12", "completed"]
    assert "lr=0.000123" in text


def test_rows_for_machines_are_unrounded() -> None:
    (row,) = as_rows([record(7, {3: 0.512345678})], "segm_mAP", Path("/runs/x/trials"))
    assert row["segm_mAP"] == 0.512345678 and row["parameters"] == SAMPLE
    assert (row["rank"], row["trial"], row["epoch"], row["directory"]) == (1, 7, 3, "/runs/x/trials/0007")


@pytest.fixture
def progress() -> ProgressObserver:
    console = Console(file=io.StringIO(), width=80)
    return ProgressObserver(console, "segm_mAP", "max", 12, [record(0, {1: 0.4}), record(1, {}, "running")])


def test_the_live_table_shows_running_trials_and_says_what_it_waits_for(progress: ProgressObserver) -> None:
    progress.trial_started(record(1, {}, "running"))
    assert "training processes are loading" in progress.summary()
    progress.epoch_ended(1, 2, {"segm_mAP": 0.25, "bbox_mAP": 0.5})
    lines = shown(progress.render())
    assert lines[1].split()[:3] == ["0001", "2/12", "0.2500"]
    assert lines[-1].startswith("1/12 trials ended: 1 completed; best 0.4000 (trial 0000); 0:0")
    assert max(map(len, lines)) <= 80 and "loading" not in lines[-1]


def test_a_trial_that_ends_leaves_a_line_with_its_reason(progress: ProgressObserver) -> None:
    progress.trial_started(record(1, {}, "running"))
    progress.trial_ended(record(1, {}, "crashed", "ended by SIGSEGV"))
    progress.trial_ended(record(2, {1: 0.6}, "stopped"))
    assert isinstance(progress.console.file, io.StringIO)
    crashed, stopped = progress.console.file.getvalue().splitlines()
    assert crashed.startswith("[ 2/12] trial 0001 crashed   no score  cascade-mask-rcnn x101-32x4d adamw")
    assert crashed.endswith("(ended by SIGSEGV)")
    assert stopped.startswith("[ 3/12] trial 0002 stopped   segm_mAP 0.6000 at epoch 1/12")
    assert "2 crashed" not in progress.summary() and "best 0.6000 (trial 0002)" in progress.summary()


def test_brackets_in_a_reason_are_shown_as_they_are(progress: ProgressObserver) -> None:
    progress.trial_started(record(1, {}, "running"))
    progress.trial_ended(record(1, {}, "crashed", "expected [/x] but got [red]"))
    assert isinstance(progress.console.file, io.StringIO)
    assert "expected [/x] but got [red]" in progress.console.file.getvalue()
