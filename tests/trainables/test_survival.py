"""What kills training processes, provoked for real: the trial goes on, or ends with a reason that says what happened.

Files of the user's, imported by `custom_imports`, play the fault inside the process.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import trainables.ray_trainable as ray_trainable
from search_spaces.trial_config import TrialConfig
from segdata.errors import TrialMemoryError, TrialSiteError
from trainables import memory
from trainables.checkpoint_store import CheckpointStore
from trainables.description import DataDescription
from trainables.fork_server import Ended
from trainables.ray_trainable import TrialContext, run_to_outcome
from trainables.requests import TrialRequest
from trainables.trial_files import EpochScores, Outcome, TrialFiles

TrialOf = Callable[..., TrialConfig]
RequestOf = Callable[..., TrialRequest]

# A convolution that sees more than LIMIT images in training asks for more memory than there is.
GREEDY = """
import torch
import torch.nn.functional as functional

convolve = functional.conv2d

def greedy(input, *others, **options):
    if torch.is_grad_enabled() and input.shape[0] > LIMIT:
        FAULT
    return convolve(input, *others, **options)

functional.conv2d = torch.conv2d = greedy
"""
DEVICE_FAULT = "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')"
HOST_FAULT = "torch.empty(1 << 50)"  # the allocator itself refuses
STUCK = """
import time
from mmengine.hooks import Hook
from mmengine.runner import Runner

build = Runner.build_train_loop

def build_stuck(self, loop):
    self.register_hook(StuckHook())
    return build(self, loop)

class StuckHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            a_long_sleep()

def a_long_sleep():
    time.sleep(600)

Runner.build_train_loop = build_stuck
"""


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes the place of Tune, which has no session here: the epochs that would have been reported."""
    epochs: list[int] = []

    def report(files: TrialFiles, row: EpochScores) -> None:
        epochs.append(row.epoch)

    monkeypatch.setattr(ray_trainable, "report", report)
    return epochs


@pytest.fixture
def run(litter: DataDescription, tiny_trial: TrialOf, tmp_path: Path, reports: list[int]) -> Callable[..., Outcome]:
    """Returns a function that runs a trial as its Ray actor does, with a file of the user's imported beside."""

    def run(module: str = "", *, data: DataDescription = litter, **others: Any) -> Outcome:
        (tmp_path / "fault.py").write_text(module)
        settings = {"metric": "mIoU", "mode": "max", "seed": 7, "threads": 1, "loader_workers": 0, "max_failures": 0}
        beside = {"custom_imports": ("fault",), "folder": tmp_path}
        context = TrialContext(data=data, trials=tmp_path, **settings | beside | others)  # type: ignore[arg-type]
        config = {"number": 0, "trial": tiny_trial("segformer").to_dict()}
        return run_to_outcome(config, context, TrialFiles(tmp_path / "0000"))

    return run


@pytest.mark.parametrize("fault", [DEVICE_FAULT, HOST_FAULT], ids=["device", "host"])
@pytest.mark.parametrize(("limit", "parts"), [(2, 2), (1, 4)])
def test_a_batch_that_does_not_fit_is_taken_in_parts(
    limit: int, parts: int, fault: str, run: Callable[..., Outcome], reports: list[int], tmp_path: Path
) -> None:
    outcome = run(GREEDY.replace("LIMIT", str(limit)).replace("FAULT", fault))
    assert outcome == Outcome("completed")
    files = TrialFiles(tmp_path / "0000")
    assert files.read_parts() == parts
    assert reports == [1, 2]
    told = [line for line in files.log.read_text().splitlines() if line.startswith("segsweep: a batch of 4 images in")]
    assert len(told) == parts // 2 and "this process took at most" in told[0]


def test_a_trial_that_fits_in_no_way_says_what_it_took(run: Callable[..., Outcome], reports: list[int]) -> None:
    outcome = run(GREEDY.replace("LIMIT", "0").replace("FAULT", HOST_FAULT))
    assert outcome.kind == "out-of-memory" and reports == []
    assert outcome.reason.startswith(
        "a batch of 4 images in 4 part(s): expected memory for a training step, but it ran out"
    )
    assert "GiB were free; this process took at most" in outcome.reason


def test_who_holds_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho '4711, 20480, /usr/bin/python3.11'\necho '4712, [N/A], [Not Found]'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(memory.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(memory.torch.cuda, "mem_get_info", lambda: (2 << 30, 80 << 30))
    monkeypatch.setattr(memory.torch.cuda, "memory_reserved", lambda: 58 << 30)
    monkeypatch.setattr(memory.torch.cuda, "max_memory_allocated", lambda: 50 << 30)
    with pytest.raises(TrialMemoryError) as told, memory.memory_errors_told("a batch of 8 images"):
        raise memory.torch.OutOfMemoryError("CUDA out of memory")
    assert str(told.value).startswith(
        "a batch of 8 images: expected memory for a training step, but it ran out: others hold 20.00 GiB of the "
        "device's 80.00 GiB: python3.11 20.00 GiB (process 4711); this trial took at most 50.00 GiB. Lower batch_size"
    )


def test_an_error_that_is_not_about_memory_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory.memory_errors_told("x"):
        raise RuntimeError("shapes do not match")


def test_a_loss_that_is_no_number_ends_the_trial(run: Callable[..., Outcome]) -> None:
    module = (
        "from mmengine.optim import OptimWrapper\nOptimWrapper.scale_loss = lambda self, loss: loss * float('nan')\n"
    )
    outcome = run(module)
    assert outcome.kind == "crashed"
    assert "of the training: expected the training loss to stay finite and to fall, but it was nan" in outcome.reason


def test_a_process_that_makes_no_progress_is_ended_with_its_stacks(run: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = run(STUCK, stall_s=6.0)
    assert outcome.kind == "killed"
    assert outcome.reason.startswith("no progress for 6 s after batch ") and "in epoch" in outcome.reason
    assert "a_long_sleep" in (tmp_path / "0000" / "train.log").read_text()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["vanished", "damaged"])
def test_an_image_that_cannot_be_read_is_named(
    damage: str, workers: int, run: Callable[..., Outcome], litter: DataDescription, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(litter.train.images, images)
    assert litter.train.stems is not None
    victim = images / f"{litter.train.stems.read_text().split()[0]}{litter.train.suffix}"
    victim.unlink() if damage == "vanished" else victim.write_bytes(b"no image")
    data = replace(litter, train=replace(litter.train, images=images))
    outcome = run(data=data, loader_workers=workers)
    assert outcome.kind == "failed"
    found = "No such file or directory" if damage == "vanished" else "no image of a known kind"
    assert outcome.reason == (
        f"{victim}: expected a readable image, but got: {found}. Restore the file, then run `segsweep data check`"
    )


@pytest.mark.root
def test_a_process_that_the_kernel_ends_for_want_of_memory_takes_the_batch_in_parts(
    small_memory: Callable[[int], Path], run: Callable[..., Outcome], reports: list[int], tmp_path: Path
) -> None:
    module = GREEDY.replace("LIMIT", "2").replace("FAULT", "torch.ones(1 << 29)")
    processes = str(small_memory(1 << 30) / "cgroup.procs")
    outcome = run(f"import os\nopen({processes!r}, 'w').write(str(os.getpid()))\n{module}")
    assert outcome == Outcome("completed") and reports == [1, 2]
    assert TrialFiles(tmp_path / "0000").read_parts() == 2


@pytest.mark.root
def test_a_full_disk_is_the_machines_fault_and_said(small_disk: Path, run: Callable[..., Outcome]) -> None:
    outcome = run()
    assert outcome.kind == "failed" and "on the disk" in outcome.reason or "No space left" in outcome.reason
    files = TrialFiles(small_disk)
    files.write_outcome(outcome)
    assert files.read_outcome() == outcome


def test_a_trial_whose_state_cannot_be_fetched_does_not_start_from_the_beginning(
    litter: DataDescription, tiny_trial: TrialOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_trainable.tune, "get_checkpoint", lambda: None)
    context = TrialContext(
        litter, tmp_path, "mIoU", "max", 7, 1, 0, max_failures=0, store=CheckpointStore("nosuch://bucket/x")
    )
    ray_trainable.train_trial({"number": 0, "trial": tiny_trial("segformer").to_dict()}, context)
    outcome = TrialFiles(tmp_path / "0000").read_outcome()
    assert outcome is not None and outcome.kind == "failed"
    assert "expected to read a trial's checkpoint, but got: Protocol not known: nosuch" in outcome.reason
    assert not (tmp_path / "0000" / "train.log").exists()  # no training process was started


def test_another_trials_state_that_is_not_here_is_named(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path / "0000")
    files.directory.mkdir()
    files.last.write_bytes(b"own")
    with pytest.raises(TrialSiteError, match="states/0003.pth: expected the state of the trial to go on from"):
        files.take_over(tmp_path / "0001" / "states" / "0003.pth")
    assert files.last.read_bytes() == b"own"


def test_the_outcome_finds_its_room_on_a_full_disk(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path / "0000")
    files.reserve_outcome()
    size = files.outcome.with_suffix(".tmp").stat().st_size
    outcome = Outcome("failed", "x" * 5000 + "\u00e9")
    files.write_outcome(outcome)
    assert files.outcome.stat().st_size == size
    known = files.read_outcome()
    assert known is not None and known.kind == "failed" and outcome.reason.startswith(known.reason)


def own_memory(pid: int) -> int:
    """Anonymous and shared memory of a process in bytes.

    Pages of libraries are left out: a neighbour that maps the same ones, and goes, makes them count for more.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


@pytest.mark.slow
def test_memory_is_back_after_each_of_fifty_trials(
    one_step: dict[str, DataDescription],
    tiny_trial: TrialOf,
    request_of: RequestOf,
    run_job: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    """Between the trials only this process and its fork server are there: neither may grow with their number."""
    held: list[int] = []
    for number in range(50):
        request = request_of(tiny_trial("segformer", epochs=1), one_step["semantic"], tmp_path / str(number))
        ended = run_job("trainables.trial:train", request, request.directory / "train.log")
        assert ended == Ended("done"), ended.reason
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        held.append(sum(own_memory(process.pid) for process in processes))
        shutil.rmtree(request.directory)
    assert held[-1] - held[4] < 50 << 20, [size >> 20 for size in held]
