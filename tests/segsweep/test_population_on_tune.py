"""Population-based training on a real Ray Tune with a stand-in for training, unbroken and killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segsweep.search.study import TrialRecord, read_study, trial_records

pytestmark = [pytest.mark.slow, pytest.mark.long]

EPOCHS, TRIALS, PLACES = 5, 8, 2

# A driver with a Ray of its own. An epoch's score is the learning rate; the state is those of all epochs.
DRIVER = """
import io, os, signal, sys
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
    past = json.loads(files.last.read_text()) if files.last.is_file() else []
    if past:  # as a trial does, since the driver may have died before it heard of that
        tune.report({"epoch": len(past), "segm_mAP": past[-1]})
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

class Killer:
    def __init__(self, events):
        self.left = events

    def event(self, *told):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    trial_started = epoch_ended = trial_ended = event

folder, trials, places, events = Path(sys.argv[1]), *map(int, sys.argv[2:])
space = parse_space({"lr": {"float": [1e-5, 1e-1], "log": True}}, {}, [], {"model": "mask-rcnn", "epochs": 5},
                    task="instance", where="test")
tuning.train_trial = stand_in
with ray_session(None, Console(file=io.StringIO())):
    pbt = PbtConfig()
    mend_journal(folder / "study.journal")
    study = open_study(folder / "study.journal", "max", SamplerConfig.model_validate("random"), 7)
    enqueue_baseline(study, space)
    searcher = PopulationSearcher(
        study, space, population=pbt, metric="segm_mAP", mode="max", budget=Budget(trials), seed=7,
        observers=[Killer(events)],
        files_of=lambda number: TrialFiles(folder / "trials" / f"{number:04d}"),
        scheduler=build_scheduler(SchedulerConfig(pbt=pbt), "segm_mAP", "max", 5))
    context = SimpleNamespace(trials=folder / "trials", max_failures=0)
    tuning.fit(searcher, context, TrialResources(0.5, 0, places), RunFolder(folder))
"""


def drive(folder: Path, kill_after: int = 0) -> None:
    """Runs a driver to its end, or to the start, epoch or end of a trial of that number, where it is killed."""
    arguments = (TRIALS, PLACES, kill_after)
    ended = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder), *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == (-signal.SIGKILL if kill_after else 0), ended.stderr


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
        assert state[since:] == [record.in_force["lr"]] * (EPOCHS - since)
        assert donor is None or state[since - 1] == records[donor].scores[since]


def what_happened(folder: Path) -> list[object]:
    return [(record.sample, record.scores, record.mutations) for record in records_in(folder)]


def test_a_population_on_fewer_places_unbroken_and_killed(tmp_path: Path) -> None:
    drive(tmp_path / "unbroken")
    assert_whole(tmp_path / "unbroken")
    spans = [
        tuple(map(float, line.split())) for line in (tmp_path / "unbroken/trials/legs.txt").read_text().splitlines()
    ]
    assert len(spans) == TRIALS * EPOCHS
    most = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert most == PLACES  # legs at a time, never more
    for events in (9, 20, 33):  # of 120 in all: 40 legs, 40 epochs and 32 that are told again, 8 ends
        drive(tmp_path / "killed", kill_after=events)
        assert any(not record.ended for record in records_in(tmp_path / "killed"))
    drive(tmp_path / "killed")
    assert_whole(tmp_path / "killed")
    assert what_happened(tmp_path / "killed") == what_happened(tmp_path / "unbroken")
