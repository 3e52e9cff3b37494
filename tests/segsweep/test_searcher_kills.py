"""A driver that is killed ten times in 200 trials leaves what an unbroken one leaves: no trial twice, none lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from segsweep.search.study import TrialRecord, read_study, trial_records

pytestmark = pytest.mark.slow

TRIALS, KILLS = 200, 10

# A whole driver but for Tune: one trial at a time, nine epochs each, whatever the scheduler lets live.
DRIVER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from search_spaces.space import parse_space
from segsweep.objectives import Objective
from segsweep.search.budget import Budget
from segsweep.search.proposals import enqueue_baseline
from segsweep.search.schedulers import build_scheduler, expect
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import mend_journal, open_study, trial_records
from segsweep.search_config import SamplerConfig, SchedulerConfig
from trainables.limits import Limit, broken_at_once
from trainables.trial_files import Outcome, TrialFiles

folder, sampler, rule, trials = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
metric, several = "segm_mAP", rule == "several"
rule = "none" if several else rule
weighed = {"further": [Objective("latency_ms", "min")] if several else [],
           "limits": [Limit.parse("latency_ms <= 50")] if several else []}
space = parse_space(
    {"lr": {"float": [1e-5, 1e-1], "log": True}, "optimizer": {"choice": ["sgd", "adamw"]},
     "momentum": {"float": [0.5, 0.95], "when": {"optimizer": "sgd"}}},
    {}, [], {"model": "mask-rcnn", "epochs": 9}, task="instance", where="test")
files_of = lambda number: TrialFiles(folder / "trials" / f"{number:04d}")
print("ready", flush=True)
mend_journal(folder / "study.journal")
study = open_study(folder / "study.journal", "max", SamplerConfig.model_validate(sampler), 7, **weighed)
enqueue_baseline(study, space)
scheduler = build_scheduler(SchedulerConfig.model_validate(rule), metric, "max", 9)
for record in trial_records(study):
    expect(scheduler, record, f"study-{record.number}")
names = (f"launch-{index}" for index in range(trials + 1))
searcher = StudySearcher(study, space, metric=metric, mode="max", budget=Budget(trials), files_of=files_of,
                         scheduler=scheduler, **weighed)
while (suggested := searcher.suggest(name := next(names))) != Searcher.FINISHED:
    number, lr = suggested["number"], suggested["trial"]["optimization"]["lr"]
    files_of(number).directory.mkdir(parents=True, exist_ok=True)
    known, result = trial_records(study)[-1].scores, {}
    for epoch in range(max(known, default=1), 10):  # the last known one again, as the actor does
        result = {"epoch": epoch, metric: lr * epoch, "latency_ms": 1000 * lr + epoch, "done": False}
        if (limit := broken_at_once(weighed["limits"], result)) is not None:
            searcher.on_trial_result(name, result)
            files_of(number).write_outcome(Outcome("over-limit", "too slow", {"latency_ms": result["latency_ms"]}))
            break
        if scheduler.on_trial_result(None, SimpleNamespace(trial_id=name), result) == TrialScheduler.STOP:
            break
        searcher.on_trial_result(name, result)
    else:
        files_of(number).write_outcome(Outcome("completed"))
    searcher.on_trial_complete(name, result)
"""


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Starts a driver and returns when it is about to open the study."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def finish(process: "subprocess.Popen[str]") -> None:
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def records_in(folder: Path) -> tuple[TrialRecord, ...]:
    return trial_records(read_study(folder / "study.journal"))


def ended_in(folder: Path) -> int:
    return sum(record.ended for record in records_in(folder))


def what_happened(record: TrialRecord) -> object:
    return record.origin, record.sample, record.outcome, record.reason, record.scores, record.epochs, record.broken


@pytest.mark.parametrize(
    ("sampler", "rule"),
    [
        ("tpe", "asha"),
        pytest.param("tpe", "none", marks=pytest.mark.long),
        pytest.param("random", "median", marks=pytest.mark.long),
        pytest.param("tpe", "hyperband", marks=pytest.mark.long),
        pytest.param("tpe", "several", marks=pytest.mark.long),
    ],
)
def test_killed_ten_times_it_does_what_an_unbroken_one_does(tmp_path: Path, sampler: str, rule: str) -> None:
    arguments = (sampler, rule, str(TRIALS))
    finish(start(tmp_path / "unbroken", *arguments))
    moments = random.Random(0)
    for kill in range(KILLS):
        process = start(tmp_path / "killed", *arguments)
        while ended_in(tmp_path / "killed") < (kill + 1) * TRIALS // (KILLS + 2):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.05))  # into whatever it does then
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path / "killed", *arguments))
    unbroken, killed = records_in(tmp_path / "unbroken"), records_in(tmp_path / "killed")
    assert len(killed) == TRIALS and all(record.ended for record in killed)
    assert [what_happened(record) for record in killed] == [what_happened(record) for record in unbroken]
    outcomes = Counter(record.outcome for record in killed)
    others = {"none": set(), "several": {"over-limit"}}.get(rule, {"stopped"})
    assert set(outcomes) == {"completed", *others}
