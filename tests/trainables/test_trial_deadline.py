"""A trial ends at its own deadline, in the middle of an epoch, and its training process with it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from search_spaces.trial_config import ScheduleChoice, TrialConfig
from trainables.description import DataDescription
from trainables.ray_trainable import TrialContext, first_deadline, run_once, time_is_up, trial_files
from trainables.trial_files import Outcome

pytestmark = pytest.mark.slow


def test_a_trial_stops_at_its_own_deadline(
    litter: DataDescription, tiny_trial: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    trial = replace(tiny_trial("segformer"), schedule=ScheduleChoice(epochs=5000, validation_interval=5000))
    context = TrialContext(
        litter, tmp_path, "mIoU", "max", seed=7, threads=1, loader_workers=0, max_failures=2, trial_timeout_s=25.0
    )
    files = trial_files(tmp_path, 3)
    deadline_s = first_deadline(context)
    assert deadline_s is not None
    before = {process.pid for process in psutil.process_iter()}

    outcome = run_once({"number": 3, "trial": trial.to_dict()}, context, files, deadline_s)

    assert outcome == Outcome("over-time", "took longer than 0.416667 min (trial_timeout_minutes)")
    assert 0 <= time.time() - deadline_s < 10
    assert "Epoch(train)" in files.log.read_text()  # it had really begun
    assert not any(is_training(process, files.log) for process in psutil.process_iter() if process.pid not in before)


def test_a_trial_that_is_asked_to_stop_ends_in_the_middle_of_an_epoch(
    litter: DataDescription, tiny_trial: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    trial = replace(tiny_trial("segformer"), schedule=ScheduleChoice(epochs=5000, validation_interval=5000))
    context = TrialContext(litter, tmp_path, "mIoU", "max", seed=7, threads=1, loader_workers=0, max_failures=2)
    files = trial_files(tmp_path, 3)
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(run_once, {"number": 3, "trial": trial.to_dict()}, context, files, None)
        while not (files.log.is_file() and "Epoch(train)" in files.log.read_text()):
            assert not ending.done()
            time.sleep(0.1)
        files.ask_to_stop()
        assert ending.result() == Outcome("asked-to-stop", "ended by `segsweep stop-trial`")


def is_training(process: psutil.Process, log: Path) -> bool:
    """Tells whether the process writes to the trial's log."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any(file.path == str(log) for file in process.open_files())
    except psutil.Error:
        return False


def test_the_sweeps_deadline_counts_when_it_is_earlier(litter: DataDescription, tmp_path: Path) -> None:
    context = TrialContext(litter, tmp_path, "mIoU", "max", seed=7, threads=1, loader_workers=0, max_failures=2)
    assert first_deadline(context) is None
    short = replace(context, deadline_unix_s=5.0, trial_timeout_s=60.0)
    assert first_deadline(short) == 5.0
    assert time_is_up(short, 5.0) == Outcome("out-of-time", "the time of the sweep was up")
