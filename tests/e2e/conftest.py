"""A user's folder with data and a sweep file, in which the real `segsweep` command runs as a process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from segdata.synthetic import synthesize
from segsweep.run_folder import RunFolder
from segsweep.search.study import TrialRecord, trial_records

MARK = "SEGSWEEP_TEST_MARK"  # in the environment of all that a test starts, whoever its parent becomes
TINY = {
    "model": "mask-rcnn",
    "backbone": "r18",
    "width": 0.25,
    "head_width": 0.125,
    "rois_per_image": 16,
    "image_width": 64,
    "image_height": 64,
    "optimizer": "adamw",
    "epochs": 2,
    "batch_size": 4,
}


class Workplace:
    """One folder, its sweep and the processes that were started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {MARK: uuid.uuid4().hex, "COLUMNS": "80", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def synthesize(self, images: int = 8) -> None:
        synthesize("particles", self.folder / "data", images=images, size=64)

    def write_sweep(self, fixed: dict[str, Any], space: dict[str, Any], **keys: Any) -> None:
        role = {"annotations": "data/annotations.json", "images": "data/images"}
        values = {
            "name": "tiny",
            "task": "instance",
            "data": {"train": role, "val": role, "test": role},
            "space": space,
            "fixed": TINY | fixed,
            **keys,
        }
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump(values))

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(self.folder / "runs" / "tiny")

    def records(self) -> tuple[TrialRecord, ...]:
        return trial_records(self.run_folder.study())

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Starts the command as the leader of a process group, as a terminal does."""
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("segsweep")), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, expect: int = 0, timeout_s: float = 400) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.end_all()
            out, err = process.communicate()
            pytest.fail(f"segsweep {' '.join(arguments)} took longer than {timeout_s:g} s\n{out}\n{err}")
        assert process.returncode == expect, f"exit code {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def processes(self) -> list[psutil.Process]:
        """All living processes that a command here left or still runs, found by the mark in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.environment[MARK] and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def leftovers(self, within_s: float = 15) -> list[list[str]]:
        """Command lines of what still lives when the command has ended; Ray's own need a moment."""
        end = time.monotonic() + within_s
        while (alive := self.processes()) and time.monotonic() < end:
            time.sleep(0.2)
        return [process.cmdline() for process in alive]

    def end_all(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)

    def trainer(self, number: int) -> psutil.Process | None:
        """The process that trains a trial: the one whose standard output is the trial's log."""
        log = str(self.run_folder.trial(number).log)
        for process in self.processes():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process.pid}/fd/1") == log:
                    return process
        return None

    def history_epochs(self, number: int) -> list[int]:
        """The epochs in a trial's history as they were written, repetitions included."""
        text = self.run_folder.trial(number).history.read_text()
        return [json.loads(line)["epoch"] for line in text.splitlines()]


def wait_until(condition: Callable[[], object], process: "subprocess.Popen[str]", timeout_s: float = 240) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if process.poll() is not None:
            out, err = process.communicate()
            pytest.fail(f"ended early with {process.returncode}\n{out}\n{err}")
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(tmp_path)
    yield place
    place.end_all()


@pytest.fixture(scope="module")
def shared_workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """One for all tests of a module that look at the same sweep."""
    place = Workplace(tmp_path_factory.mktemp("workplace"))
    yield place
    place.end_all()


@pytest.fixture(scope="session")
def wait() -> Callable[..., None]:
    return wait_until
