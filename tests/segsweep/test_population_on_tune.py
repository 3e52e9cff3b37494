"""Population-based training on a real Ray Tune: a stand-in for training, and once a whole sweep that trains."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
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
from segsweep.search.study import TrialRecord, mend_journal, open_study, read_study, trial_records
from segsweep.search_config import PbtConfig, SamplerConfig, SchedulerConfig
from trainables.trial_files import TrialFiles

pytestmark = pytest.mark.slow

METRIC, EPOCHS, TRIALS, PLACES = "segm_mAP", 5, 8, 2


def stand_in(config: Mapping[str, Any], context: Any) -> None:
    """Trains nothing: an epoch's score is the learning rate, the state the learning rates of all epochs."""
    import json
    import os
    import time

    from ray import tune

    from trainables.trial_files import Outcome, TrialFiles

    files = TrialFiles(context.trials / f"{config['number']:04d}")
    files.directory.mkdir(parents=True, exist_ok=True)
    files.outcome.unlink(missing_ok=True)
    if config["take_over"] is not None:
        files.take_handed(config["take_over"])
    past = json.loads(files.last.read_text()) if files.last.is_file() else []
    running = files.directory.parent / f"running-{config['number']}-{os.getpid()}"
    running.touch()
    most = len(list(files.directory.parent.glob("running-*")))
    with (files.directory.parent / "side-by-side.txt").open("a") as stream:
        stream.write(f"{most}\n")
    for epoch in range(len(past) + 1, (config["until"] or 5) + 1):
        time.sleep(0.05)
        past.append(config["trial"]["optimization"]["lr"])
        files.last.with_suffix(".tmp").write_text(json.dumps(past))
        files.last.with_suffix(".tmp").replace(files.last)
        tune.report({"epoch": epoch, "segm_mAP": past[-1]})
    if config["until"] is not None:
        files.keep_state(len(past), 1)
    running.unlink()
    files.write_outcome(Outcome("completed" if config["until"] is None else "paused"))


def search(folder: Path) -> None:
    """Runs a population to its end, from wherever it stands."""
    space = parse_space(
        {"lr": {"float": [1e-5, 1e-1], "log": True}},
        {},
        [],
        {"model": "mask-rcnn", "epochs": EPOCHS},
        task="instance",
        where="test",
    )
    pbt = PbtConfig()
    mend_journal(folder / "study.journal")
    study = open_study(folder / "study.journal", "max", SamplerConfig.model_validate("random"), 7)
    enqueue_baseline(study, space)
    searcher = PopulationSearcher(
        study,
        space,
        population=pbt,
        metric=METRIC,
        mode="max",
        budget=Budget(TRIALS),
        files_of=lambda number: TrialFiles(folder / "trials" / f"{number:04d}"),
        scheduler=build_scheduler(SchedulerConfig(pbt=pbt), METRIC, "max", EPOCHS),
        seed=7,
    )
    context: Any = SimpleNamespace(trials=folder / "trials", max_failures=0)
    vars(tuning)["train_trial"] = stand_in
    tuning.fit(searcher, context, TrialResources(0.5, 0, PLACES), RunFolder(folder))


def records_in(folder: Path) -> tuple[TrialRecord, ...]:
    return trial_records(read_study(folder / "study.journal"))


def assert_whole(folder: Path) -> None:
    records = records_in(folder)
    assert [record.number for record in records] == list(range(TRIALS))
    assert [record.outcome for record in records] == ["completed"] * TRIALS
    assert [len(record.scores) for record in records] == [EPOCHS] * TRIALS
    takeovers = [(record, mutation) for record in records for mutation in record.mutations[1:]]
    assert {mutation.epoch for _, mutation in takeovers} == {1, 2, 3, 4}
    assert records[0].origin == "baseline" and len(records[0].mutations) == 1
    for record in records:
        state = json.loads((folder / "trials" / f"{record.number:04d}" / "last.pth").read_text())
        since, donor = record.mutations[-1].epoch, record.mutations[-1].donor
        assert len(state) == EPOCHS
        assert state[since:] == [record.values["lr"]] * (EPOCHS - since)
        assert donor is None or state[since - 1] == records[donor].scores[since]


def what_happened(folder: Path) -> list[object]:
    return [(record.sample, record.scores, record.mutations) for record in records_in(folder)]


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "train_trial", tuning.train_trial)  # put back what `search` replaces


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    with ray_session(None, Console(file=io.StringIO())):
        yield


def test_a_population_larger_than_its_places(one_ray: None, restored: None, tmp_path: Path) -> None:
    search(tmp_path)
    assert_whole(tmp_path)
    most = [int(line) for line in (tmp_path / "trials" / "side-by-side.txt").read_text().split()]
    assert len(most) == TRIALS * EPOCHS and max(most) == PLACES  # legs, two at a time and never more


DRIVER = """
import io, sys
from pathlib import Path
from rich.console import Console
from segsweep.ray_session import ray_session
from tests.segsweep.test_population_on_tune import search
with ray_session(None, Console(file=io.StringIO())):
    print("ready", flush=True)
    search(Path(sys.argv[1]))
"""


def test_killed_and_resumed_it_ends_as_an_unbroken_one(
    one_ray: None, restored: None, tmp_path: Path, run_driver: Callable[..., "subprocess.Popen[str]"]
) -> None:
    search(tmp_path / "unbroken")
    for reports in (5, 13, 22, 31):
        process = run_driver(tmp_path / "killed")
        while sum(len(record.scores) for record in records_in(tmp_path / "killed")) < reports:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    process = run_driver(tmp_path / "killed")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert_whole(tmp_path / "killed")
    assert what_happened(tmp_path / "killed") == what_happened(tmp_path / "unbroken")


@pytest.fixture
def run_driver() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a driver of its own process with a Ray of its own; none is left."""
    processes: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
