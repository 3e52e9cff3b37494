"""The kill test of a whole sweep on a real Ray Tune: ten SIGKILLs at random moments lose no trial and repeat none.

Ray outlives the drivers, as a cluster's does: this process starts it and ends it.
"""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from segsweep.ray_session import ray_session
from segsweep.run_folder import RunFolder
from segsweep.search.schedulers import build_scheduler, expect
from segsweep.search.study import TrialRecord, read_study, trial_records
from segsweep.search_config import SchedulerConfig
from tests.segsweep.stand_in_driver import EPOCHS, METRIC
from tests.segsweep.test_schedulers import feed, record, rungs

pytestmark = [pytest.mark.slow, pytest.mark.long]

DRIVER = Path(__file__).with_name("stand_in_driver.py")
TRIALS, KILLS, SEED = 200, 10, 5
LAST = 30  # trials, in which no kill begins: they must not all end before it comes
LAUNCH_S = 240.0  # no launch takes as long
SET_STATE, SET_SCORE, SET_ATTRIBUTE = 6, 7, 8  # Optuna's numbers of entries in a journal
STATES = {int(state) for state in TrialState if state.is_finished()}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a Ray that lives as long as this module's tests."""
    with ray_session(None, Console(file=io.StringIO())):
        yield ray.get_runtime_context().gcs_address


class Launch:
    """One driver in a session of its own, with all its imports done; it runs from `go` on."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(DRIVER), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def finish(self) -> str:
        out, err = self.process.communicate(timeout=LAUNCH_S)
        assert self.process.returncode == 0, err
        return out

    def kill(self) -> str:
        """Ends it by SIGKILL, with whatever it has started; returns what it had said."""
        os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.communicate(timeout=LAUNCH_S)[0]


def ended_in(folder: RunFolder) -> int:
    """How many trials have ended so far; a quick look, as the driver goes on meanwhile."""
    lines = folder.journal.read_bytes().split(b"\n")[:-1] if folder.journal.is_file() else []
    states = (json.loads(line) for line in lines if b'"op_code":%d' % SET_STATE in line)
    return sum(entry["state"] in STATES for entry in states)


def killed_sweep(folder: RunFolder, *arguments: object) -> Counter[int]:
    """Runs a sweep that is killed at random moments all over it; counts how often it said that a trial ended."""
    moments = random.Random(SEED)
    said: list[str] = []
    spare = Launch(*arguments)
    for kill_at in sorted(moments.sample(range(1, TRIALS - LAST), KILLS)):
        launch, spare = spare, Launch(*arguments)
        launch.go()
        give_up = time.monotonic() + LAUNCH_S
        while ended_in(folder) < kill_at:
            assert launch.process.poll() is None, launch.process.communicate()[1]
            assert time.monotonic() < give_up
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))  # into whatever it does then
        assert launch.process.poll() is None, "it had ended before it was killed"
        said += launch.kill().split("\n")
    spare.go()
    said += spare.finish().split("\n")
    return Counter(int(line.removeprefix("ended ")) for line in said if line.startswith("ended "))


def entries(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.journal.read_text().splitlines()]


def assert_whole(folder: RunFolder, said: Counter[int]) -> tuple[TrialRecord, ...]:
    """All trials of the budget ended, once, with suggestions of their own, and no number is missing."""
    study = read_study(folder.journal)
    records = trial_records(study)
    assert len(records) == TRIALS and all(known.ended for known in records)
    ends = Counter(e["trial_id"] for e in entries(folder) if e["op_code"] == SET_STATE and e["state"] in STATES)
    assert set(ends.values()) == {1}
    assert len({tuple(sorted(known.sample.items())) for known in records}) == TRIALS
    assert set(said.values()) == {1} and len(said) > TRIALS - KILLS * 3
    discarded = {trial.number for trial in study.trials if trial.user_attrs["outcome"] == "rejected"}
    assert {known.number for known in records} | discarded == set(range(len(study.trials)))
    assert len(discarded) <= KILLS
    return records


def replay(folder: RunFolder, records: tuple[TrialRecord, ...], rule: str) -> tuple[TrialScheduler, set[int]]:
    """Returns a scheduler that was fed with all results in the order of the journal, and whom it stopped."""
    known = {record.number: record for record in records}
    unbroken = build_scheduler(SchedulerConfig.model_validate(rule), METRIC, "max", EPOCHS)
    announced: set[int] = set()
    stopped: set[int] = set()
    for entry in entries(folder):
        if entry["op_code"] == SET_SCORE:
            number = entry["trial_id"]
            if number not in announced:
                announced.add(number)
                expect(unbroken, record(number, origin=known[number].origin), str(number))
            decision = feed(unbroken, str(number), entry["step"], entry["intermediate_value"])
            if decision == TrialScheduler.STOP and entry["step"] < EPOCHS:  # at the end of its plan it has completed
                stopped.add(number)
    return unbroken, stopped


def test_ten_kills_leave_the_rungs_and_the_stops_of_an_unbroken_sweep(address: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "sweep")
    said = killed_sweep(folder, address, folder.path, "asha", 2, TRIALS)
    records = assert_whole(folder, said)
    unbroken, stopped = replay(folder, records, "asha")
    assert stopped == {known.number for known in records if known.outcome == "stopped"}
    assert len(stopped) > TRIALS / 4
    rebuilt = build_scheduler(SchedulerConfig.model_validate("asha"), METRIC, "max", EPOCHS)
    for known in records:
        expect(rebuilt, known, f"study-{known.number}")
    assert rungs(rebuilt) == rungs(unbroken)


def test_ten_kills_leave_the_suggestions_of_an_unbroken_sweep(address: str, tmp_path: Path) -> None:
    unbroken = Launch(address, tmp_path / "unbroken", "none", 1, TRIALS)
    unbroken.go()
    unbroken.finish()
    folder = RunFolder(tmp_path / "killed")
    records = assert_whole(folder, killed_sweep(folder, address, folder.path, "none", 1, TRIALS))
    expected = trial_records(read_study(RunFolder(tmp_path / "unbroken").journal))
    assert [(known.sample, known.scores, known.outcome) for known in records] == [
        (known.sample, known.scores, "completed") for known in expected
    ]
