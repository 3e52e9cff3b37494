"""Children of the fork server: crashes stay inside, ends are told apart, nothing is left behind, no CUDA is touched."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from search_spaces.trial_config import TrialConfig
from segdata.errors import TrialError
from trainables.description import DataDescription
from trainables.fork_server import Child, Ended, start_child
from trainables.requests import TrialRequest
from trainables.trial import start_device

pytestmark = pytest.mark.slow

TRAIN = "trainables.trial:train"
PACKAGES = ("segdata", "segscore", "search_spaces", "trainables")
ROOT = Path(__file__).resolve().parents[2]

# Modules of a user, by name; each registers a transform in the place of the stock flip, or fails when imported.
USER_MODULES = {
    "segfault_on_import": "import ctypes\nctypes.string_at(0)\n",
    "raise_on_import": "raise KeyError('no such setting')\n",
    "segfault_in_transform": "        import ctypes\n        ctypes.string_at(0)\n",
    "raise_in_transform": "        raise ZeroDivisionError('in my transform')\n",
    "killed_worker": "        import os, signal\n        os.kill(os.getpid(), signal.SIGKILL)\n",
}
TRANSFORM = """from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

@TRANSFORMS.register_module(force=True)
class BadFlip(BaseTransform):
    def __init__(self, prob):
        pass

    def transform(self, results):
"""

Follow = Callable[..., tuple[list[dict[str, Any]], Ended]]
RequestOf = Callable[..., TrialRequest]
TrialOf = Callable[..., TrialConfig]


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """A folder with the user's modules."""
    for name, text in USER_MODULES.items():
        (tmp_path / f"{name}.py").write_text(text if "import" in name else TRANSFORM + text)
    return tmp_path


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small jobs that children can run as `probes:NAME`."""
    (tmp_path / "probes.py").write_text(
        "import os, sys, time\n"
        "def cuda(request, connection):\n"
        "    import torch\n"
        "    settings = os.environ.get('PYTORCH_NVML_BASED_CUDA_CHECK'), os.environ.get('PYTHONSAFEPATH')\n"
        "    connection.send(('probe', {'initialised': torch.cuda.is_initialized(), 'settings': settings}))\n"
        "def sleep(request, connection):\n"
        "    connection.send(('probe', {}))\n"
        "    time.sleep(600)\n"
        "def leave(request, connection):\n"
        "    os._exit(3)\n"
        "def speak(request, connection):\n"
        "    print('to the log'); os.write(2, b'from native code\\n'); connection.send(('probe', {}))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def run_bad(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, follow: Follow, user_folder: Path
) -> Callable[..., Ended]:
    """Returns a function that trains with one of the user's modules and tells how it ended."""

    def run(module: str, loader_workers: int = 0) -> Ended:
        trial = tiny_trial("segformer")
        if "import" not in module:
            flip = "train_dataloader.dataset.pipeline[4].type"
            trial = replace(trial, overrides=((flip, "BadFlip"),))
        request = request_of(
            trial,
            litter,
            user_folder / "bad",
            folder=user_folder,
            custom_imports=(module,),
            loader_workers=loader_workers,
        )
        messages, ended = follow(start_child(TRAIN, request, user_folder / "bad" / "train.log"))
        assert messages == []
        return ended

    return run


@pytest.mark.parametrize(
    ("module", "loader_workers", "told"),
    [
        ("segfault_on_import", 0, "SIGSEGV"),
        ("segfault_in_transform", 0, "SIGSEGV"),
        ("segfault_in_transform", 1, "Segmentation fault"),
        ("raise_on_import", 0, "KeyError: 'no such setting'"),
        ("raise_in_transform", 0, "ZeroDivisionError: in my transform"),
        ("raise_in_transform", 1, "ZeroDivisionError"),
    ],
)
def test_a_crash_is_told_with_its_reason(
    module: str, loader_workers: int, told: str, run_bad: Callable[..., Ended], user_folder: Path
) -> None:
    ended = run_bad(module, loader_workers)
    assert ended.kind == "crashed" and told in ended.reason
    assert str(user_folder / "bad" / "train.log") in ended.reason


def test_a_loader_worker_that_somebody_kills_is_no_fault_of_the_trial(run_bad: Callable[..., Ended]) -> None:
    assert run_bad("killed_worker", loader_workers=1).kind == "killed"


def test_after_a_crash_the_next_trial_trains(
    run_bad: Callable[..., Ended],
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Callable[[TrialRequest], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    assert "SIGSEGV" in run_bad("segfault_on_import").reason
    good = request_of(tiny_trial("segformer", epochs=1), litter, tmp_path / "good")
    assert [message["epoch"] for message in train(good)] == [1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_that_is_killed_is_told_apart_from_a_crash(number: signal.Signals, jobs: Path) -> None:
    child = start_child("probes:sleep", None, jobs / "log")
    assert child.receive(60) == ("probe", {})
    assert child.process.pid is not None
    os.kill(child.process.pid, number)
    ended = child.receive(10)
    assert isinstance(ended, Ended) and ended.kind == "killed" and number.name in ended.reason
    child.answer("go on")  # a word to a dead child is harmless
    child.stop()
    child.stop()


def test_a_child_that_leaves_without_a_word_is_a_crash(jobs: Path, follow: Follow) -> None:
    _, ended = follow(start_child("probes:leave", None, jobs / "log"))
    assert ended == Ended("crashed", f"the training process exited with code 3; see {jobs / 'log'}")


def test_threads_that_start_and_end_children_side_by_side_hear_of_each_end(
    jobs: Path, run_job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads an exit status first is held up, so that a second reader would take it away."""
    read_status, reading = forkserver.read_signed, set()

    def read_late(descriptor: int) -> int:
        if descriptor not in reading:
            reading.add(descriptor)
            time.sleep(0.2)
            reading.discard(descriptor)
        return int(read_status(descriptor))

    monkeypatch.setattr(forkserver, "read_signed", read_late)
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda number: run_job("probes:leave", None, jobs / f"log{number}"), range(24)))
    assert ended == [
        Ended("crashed", f"the training process exited with code 3; see {jobs / f'log{number}'}")
        for number in range(24)
    ]


def test_a_server_that_is_killed_is_no_fault_of_the_trial(jobs: Path, run_job: Callable[..., Ended]) -> None:
    child = start_child("probes:sleep", None, jobs / "log")
    assert child.receive(60) == ("probe", {})
    assert child.process.pid is not None
    psutil.Process(child.process.pid).parent().kill()
    ended = child.receive(10)
    child.stop()
    assert isinstance(ended, Ended) and ended.kind == "killed" and "server" in ended.reason
    assert run_job("probes:leave", None, jobs / "log").kind == "crashed"  # by another server


@pytest.mark.parametrize("late", [1, 2, 3, 4])
def test_a_server_whose_end_the_system_tells_late_is_waited_for(
    late: int, jobs: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed closes its socket first and can be collected a moment later."""
    child = start_child("probes:sleep", None, jobs / "log")
    assert child.receive(60) == ("probe", {})
    server = psutil.Process(child.process.pid).parent()
    assert server is not None
    server.kill()
    child.receive(10)
    child.stop()
    waitpid, told = os.waitpid, []

    def tell_late(pid: int, options: int) -> tuple[int, int]:
        if pid == server.pid and len(told) < late:
            told.append(pid)
            return 0, 0
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", tell_late)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)  # the next server gets it whoever of us starts it
    messages, _ = follow(start_child("probes:cuda", None, jobs / "log"))
    assert messages == [{"initialised": False, "settings": ("1", "1")}]
    assert len(told) == late


def test_all_output_goes_to_the_log(jobs: Path, follow: Follow) -> None:
    follow(start_child("probes:speak", None, jobs / "deep" / "log"))
    assert (jobs / "deep" / "log").read_text() == "to the log\nfrom native code\n"


def test_the_server_hands_on_no_cuda_context(jobs: Path, follow: Follow) -> None:
    messages, _ = follow(start_child("probes:cuda", None, jobs / "log"))
    assert messages == [{"initialised": False, "settings": ("1", "1")}]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA starts here")
def test_a_gpu_that_is_seen_but_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    start_device()  # no GPU: nothing to start
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrialError, match=r"expected CUDA to start, since a GPU is visible, but got: .*CUDA_VIS"):
        start_device()


@pytest.fixture
def long_training(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, tmp_path: Path
) -> Iterator[Child]:
    """A child in the middle of a training with two loader workers."""
    trial = replace(tiny_trial("segformer", epochs=500))
    child = start_child(TRAIN, request_of(trial, litter, tmp_path, loader_workers=2), tmp_path / "train.log")
    yield child
    child.stop()


def test_stop_ends_the_child_and_its_loader_workers(long_training: Child) -> None:
    assert long_training.process.pid is not None
    process = psutil.Process(long_training.process.pid)
    workers = wait_for_workers(long_training, process)
    long_training.stop()
    assert all_end([process, *workers], within_s=2)


def all_end(processes: list[psutil.Process], within_s: float) -> bool:
    """Waits until none runs any more; one that ended but that its new parent has not collected yet has ended."""
    deadline_s = time.monotonic() + within_s
    while any(runs(process) for process in processes):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_workers(child: Child, process: psutil.Process) -> list[psutil.Process]:
    """Keeps the training going until loader workers are there."""
    for _ in range(600):
        if found := process.children(recursive=True):
            return found
        if child.receive(0.02) is not None:
            child.answer("go on")
    raise AssertionError("no loader worker was ever there")


def test_a_script_without_a_main_guard_is_not_run_again_and_takes_its_child_with_it(jobs: Path) -> None:
    (jobs / "script.py").write_text(
        "import sys; from pathlib import Path; from trainables.fork_server import start_child\n"
        "print('the script runs')\n"
        f"child = start_child('probes:sleep', None, Path({str(jobs / 'log')!r}))\n"
        "print(child.receive(120))\n"
        "print(child.process.pid, flush=True); sys.stdin.read()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(jobs), str(ROOT)))}
    command = [sys.executable, str(jobs / "script.py")]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout is not None
        said = [asker.stdout.readline().strip() for _ in range(3)]
        assert said[:2] == ["the script runs", "('probe', {})"]
        child = psutil.Process(int(said[2]))
        server = child.parent()
        assert child.is_running() and server is not None
        asker.kill()
        assert all_end([child, server], within_s=5), "child and server are gone within seconds"


def test_imports_that_fail_in_the_server_are_one_clear_message(jobs: Path) -> None:
    broken = jobs / "broken"
    (broken / "mmdet").mkdir(parents=True)
    (broken / "mmdet" / "__init__.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    script = (
        "from pathlib import Path; from trainables.fork_server import start_child\n"
        f"child = start_child('probes:speak', None, Path({str(jobs / 'log')!r}))\n"
        "print(child.receive(120).reason)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(broken), str(jobs), str(ROOT)))}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == (
        "training process: expected mmdet and mmseg to be importable, but got ImportError: "
        "libGL.so.1: cannot open shared object file. Run `segsweep doctor`.\n"
    ), done.stderr
    assert "Traceback" in (jobs / "log").read_text()


def test_all_children_come_from_one_server_that_pays_the_imports_once(jobs: Path) -> None:
    servers = []
    for _ in range(2):
        child = start_child("probes:sleep", None, jobs / "log")
        try:
            assert child.receive(120) == ("probe", {})
            servers.append(psutil.Process(child.process.pid).ppid())
        finally:
            child.stop()
    assert servers[0] == servers[1] != os.getpid()
