"""A sweep of five trials, of which four meet what kills trials: each has its reason in the record, and the sweep ends.

One at a time: 0 is left alone, 1 has a loss that is no number, 2 not enough memory for a whole batch, 3 hangs once,
and while 4 trains an image vanishes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables.trial_files import TrialFiles

pytestmark = pytest.mark.slow

# Imported by every training process; the trial's number is in the path of its log, which is its standard output.
SABOTEUR = """
import os, time
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop

FOLDER = os.path.dirname(os.readlink("/proc/self/fd/1"))
TRIAL = int(os.path.basename(FOLDER))
run_iter = EpochBasedTrainLoop.run_iter

def sabotaged(loop, index, batch):
    if TRIAL == 3 and loop.iter == 2 and not os.path.exists(FOLDER + "/hung"):
        open(FOLDER + "/hung", "w").close()
        time.sleep(3600)
    if TRIAL == 4 and loop.iter == 1:
        os.remove(VICTIM)
    run_iter(loop, index, batch)

EpochBasedTrainLoop.run_iter = sabotaged
if TRIAL == 1:
    OptimWrapper.scale_loss = lambda self, loss: loss * float("nan")
if TRIAL == 2:
    convolve = torch.nn.functional.conv2d
    def greedy(input, weight, *others, **options):
        if torch.is_grad_enabled() and input.shape[0] == 4 and weight.shape[1] == 3:
            torch.empty(1 << 50)  # more than any machine has: the allocator itself refuses
        return convolve(input, weight, *others, **options)
    torch.nn.functional.conv2d = torch.conv2d = greedy
"""


GREEDY = """
import torch
convolve = torch.nn.functional.conv2d
def greedy(input, weight, *others, **options):
    if torch.is_grad_enabled() and input.shape[0] == 4 and weight.shape[1] == 3:
        torch.ones(1 << 31)
    return convolve(input, weight, *others, **options)
torch.nn.functional.conv2d = torch.conv2d = greedy
"""


@pytest.fixture(scope="module")
def swept(shared_workplace: Any) -> Any:
    place = shared_workplace
    place.synthesize()
    place.write_sweep(
        {"epochs": 3},
        {"lr": {"float": [1e-5, 1e-3], "log": True}},
        budget={"trials": 5, "concurrent": 1},
        custom_imports="saboteur",
        stall_minutes=0.25,
    )
    victim = sorted((place.folder / "data" / "images").iterdir())[-1]
    place.victim = victim
    (place.folder / "saboteur.py").write_text(SABOTEUR.replace("VICTIM", repr(str(victim))))
    place.out = place.run("run", "sweep.yaml").stdout
    return place


def test_each_trial_ends_as_its_fault_has_it(swept: Any) -> None:
    outcomes = {record.number: record.outcome for record in swept.records()}
    assert outcomes == {0: "completed", 1: "crashed", 2: "completed", 3: "completed", 4: "failed"}
    assert swept.leftovers() == []


def test_a_loss_that_is_no_number_is_recorded_with_its_batch(swept: Any) -> None:
    reason = swept.records()[1].reason
    assert reason.startswith(
        "batch 2 of the training: expected the training loss to stay finite and to fall, but it was"
    )
    assert "trial 0001 crashed   no score" in swept.out


def test_a_batch_that_does_not_fit_is_taken_in_two_parts(swept: Any) -> None:
    files: TrialFiles = swept.run_folder.trial(2)
    assert files.read_parts() == 2 and swept.history_epochs(2) == [1, 2, 3]


def test_a_hang_costs_no_epoch_and_leaves_its_stacks(swept: Any) -> None:
    assert swept.history_epochs(3) == [1, 2, 3]
    log = swept.run_folder.trial(3).log.read_text()
    assert 'saboteur.py", line' in log and "in sabotaged" in log


def test_a_vanished_image_is_named_and_the_machine_is_at_fault(swept: Any) -> None:
    reason = swept.records()[4].reason
    assert reason.startswith(f"{swept.victim}: expected a readable image, but got: No such file or directory")
    assert "trial 0004 failed" in swept.out


def test_what_is_ranked_is_what_was_trained(swept: Any) -> None:
    ranked = json.loads(swept.run("best", "tiny", "--json").stdout)
    assert {row["trial"] for row in ranked} == {0, 2, 3}
    assert all(Path(swept.run_folder.trial(row["trial"]).best).is_file() for row in ranked)


@pytest.mark.root
def test_on_a_machine_with_little_memory_the_kernel_ends_a_training_process_and_its_batch_goes_in_parts(
    workplace: Any, small_memory: Callable[[int], Path]
) -> None:
    """All processes of the sweep, Ray's too, have 6 GiB together; a whole batch takes 8 more."""
    group = small_memory(6 << 30)
    workplace.synthesize()
    workplace.write_sweep({"epochs": 1}, {"lr": {"choice": [1e-3]}}, budget={"trials": 1}, custom_imports="greedy")
    (workplace.folder / "greedy.py").write_text(GREEDY)
    process = workplace.start("run", "sweep.yaml")
    (group / "cgroup.procs").write_text(str(process.pid))
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    (record,) = workplace.records()
    assert record.outcome == "completed" and workplace.run_folder.trial(0).read_parts() == 2
    assert workplace.leftovers() == []
