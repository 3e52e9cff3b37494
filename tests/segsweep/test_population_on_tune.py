"""Population-based training on a real Ray Tune with a stand-in for training, unbroken and killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segsweep.search.study import TrialRecord, read_study, trial_records

pytestmark = pytest.mark.slow

EPOCHS, TRIALS, PLACES = 5, 8, 2

Driver = Callable[[Path], "subprocess.Popen[str]"]

# A driver with a Ray of its own. An epoch's score is the learning rate; the state is those of all epochs.
DRIVER = """
import io, sys
from pathlib import Path
from types import SimpleNamespace
from rich.console import Console
from search_spaces.space import parse_space
from segsweep import tuning
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder
from segsweep.search.budget import Budget
from segsweep.search.generations import PopulationSearcher
from segsweep.search.proposals import enqueue_baseline
from segsweep.search.schedulers import build_scheduler
from segsweep.search.study import mend_journal, open_study
from segsweep.search_config import PbtConfig, SamplerConfig, SchedulerConfig
from trainables.trial_files import TrialFiles

def stand_in(config, context):
    import json, time
    from ray import tune
    from trainables.trial_files import Outcome, TrialFiles

    files = TrialFiles(context.trials / f"{config['number']:04d}")
    files.directory.mkdir(parents=True, exist_ok=True)
    files.outcome.unlink(missing_ok=True)
    if config["take_over"] is not None:
        files.take_handed(config["take_over"])
    past = json.loads(files.last.read_text()) if files.last.is_file() else []
    began = time.time()
    for epoch in range(len(past) + 1, (config["until"] or 5) + 1):
        time.sleep(0.05)
        past.append(config["trial"]["optimization"]["lr"])
        files.last.with_suffix(".tmp").write_text(json.dumps(past))
        files.last.with_suffix(".tmp").replace(files.last)
        tune.report({"epoch": epoch, "segm_mAP": past[-1]})
    if config["until"] is not None:
        files.keep_state(len(past))
    with (context.trials / "legs.txt").open("a") as stream:
        stream.write(f"{began} {time.time()}\\n")
    files.write_outcome(Outcome("completed" if config["until"] is None else "paused"))

folder, trials, places = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
space = parse_space({"lr": {"float": [1e-5, 1e-1], "log": True}}, {}, [], {"model": "mask-rcnn", "epochs": 5},
                    task="instance", where="test")
tuning.train_trial = stand_in
with ray_session(None, Console(file=io.StringIO())):
    print("ready", flush=True)
    pbt = PbtConfig()
    mend_journal(folder / "study.journal")
    study = open_study(folder / "study.journal", "max", SamplerConfig.model_validate("random"), 7)
    enqueue_baseline(study, space)
    searcher = PopulationSearcher(
        study, space, population=pbt, metric="segm_mAP", mode="max", budget=Budget(trials), seed=7,
        files_of=lambda number: TrialFiles(folder / "trials" / f"{number:04d}"),
        scheduler=build_scheduler(SchedulerConfig(pbt=pbt), "segm_mAP", "max", 5))
    context = SimpleNamespace(trials=folder / "trials", max_failures=0)
    tuning.fit(searcher, context, TrialResources(0.5, 0, places), RunFolder(folder))
"""


@pytest.fixture
def driver() -> Iterator[Driver]:
    """Starts a driver on a folder and returns when its Ray runs; none is left."""
    processes: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder), str(TRIALS), str(PLACES)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[str]") -> None:
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def records_in(folder: Path) -> tuple[TrialRecord, ...]:
    return trial_records(read_study(folder / "study.journal"))


def assert_whole(folder: Path) -> None:
    """Each trial ended once, took over in each generation, and has the state that the study says it has."""
    records = records_in(folder)
    assert [record.number for record in records] == list(range(TRIALS))
    assert [record.outcome for record in records] == ["completed"] * TRIALS
    assert [len(record.scores) for record in records] == [EPOCHS] * TRIALS
    assert {mutation.epoch for record in records for mutation in record.mutations[1:]} == {1, 2, 3, 4}
    assert records[0].origin == "baseline" and len(records[0].mutations) == 1
    for record in records:
        state = json.loads((folder / "trials" / f"{record.number:04d}" / "last.pth").read_text())
        since, donor = record.mutations[-1].epoch, record.mutations[-1].donor
        assert len(state) == EPOCHS
        assert state[since:] == [record.values["lr"]] * (EPOCHS - since)
        assert donor is None or state[since - 1] == records[donor].scores[since]


def what_happened(folder: Path) -> list[object]:
    return [(record.sample, record.scores, record.mutations) for record in records_in(folder)]


def test_a_population_on_fewer_places_unbroken_and_killed(driver: Driver, tmp_path: Path) -> None:
    finish(driver(tmp_path / "unbroken"))
    assert_whole(tmp_path / "unbroken")
    spans = [
        tuple(map(float, line.split())) for line in (tmp_path / "unbroken/trials/legs.txt").read_text().splitlines()
    ]
    assert len(spans) == TRIALS * EPOCHS
    most = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert most == PLACES  # legs at a time, never more
    for reports in (5, 17, 29):
        process = driver(tmp_path / "killed")
        while sum(len(record.scores) for record in records_in(tmp_path / "killed")) < reports:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    finish(driver(tmp_path / "killed"))
    assert_whole(tmp_path / "killed")
    assert what_happened(tmp_path / "killed") == what_happened(tmp_path / "unbroken")
