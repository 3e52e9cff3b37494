"""What a sweep says that it waits for, with Tune's trials and clock played."""

import io
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import PlacementGroupFactory
from rich.console import Console

from segsweep.clusters.autoscaler import nodes_that_start_of
from segsweep.clusters.waiting import WaitingCallback, waiting_told
from segsweep.progress import ProgressObserver

ONE_GPU = (("CPU", 4.0), ("GPU", 1.0))


def pending(name: str, status: str = "PENDING", **resources: float) -> Any:
    return SimpleNamespace(
        trial_id=name, status=status, placement_group_factory=PlacementGroupFactory([resources or {"CPU": 4, "GPU": 1}])
    )


def test_the_line() -> None:
    assert waiting_told({}, {}) == ""
    assert waiting_told({ONE_GPU: 1}, {}) == "waiting for a node with 4 CPUs and 1 GPU: 1 trial pending"
    assert waiting_told({ONE_GPU: 2, (("CPU", 1.0),): 1}, {"gpu-worker": 1}) == (
        "waiting for a node with 1 CPU: 1 trial pending, a node with 4 CPUs and 1 GPU: 2 trials pending; "
        "the autoscaler is starting 1 x gpu-worker"
    )


def test_it_is_said_after_a_while_and_when_it_changes() -> None:
    said: list[str] = []
    placed: list[str] = []
    now, coming = [0.0], {"gpu-worker": 1}
    callback = WaitingCallback(said.append, placed.append, lambda: coming, lambda: now[0])

    def step(at_s: float, *trials: Any) -> None:
        now[0] = at_s
        callback.on_step_begin(1, trials)

    one, two = pending("one"), pending("two")
    step(0, one, two)
    step(8, one, two)
    assert said == []  # an actor may start any moment
    step(10, one, two)
    step(10.5, one, two)
    step(14, one, two)
    line = "waiting for a node with 4 CPUs and 1 GPU: {} pending; the autoscaler is starting 1 x gpu-worker"
    assert said == [line.format("2 trials")]
    callback.on_trial_start(1, [one, two], one)
    one.status = "RUNNING"
    step(16, one, two)
    assert said[1:] == [line.format("1 trial")] and placed == ["one"]
    two.status = "RUNNING"
    step(18, one, two)
    assert said[2:] == [""]
    one.status = "PENDING"  # its node was lost
    step(20, one, two)
    assert len(said) == 3


def test_tune_can_pickle_it() -> None:
    assert isinstance(pickle.loads(pickle.dumps(WaitingCallback(print, print))), WaitingCallback)


def test_without_a_terminal_each_line_comes_once() -> None:
    stream = io.StringIO()
    progress = ProgressObserver(Console(file=stream, width=200), "mIoU", "max", 4)
    for line in ("waiting for A", "", "waiting for A", "waiting for B"):
        progress.waits_for(line)
    assert stream.getvalue().splitlines() == ["waiting for A", "waiting for B"]


def test_a_terminal_shows_it_as_long_as_it_lasts() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    progress = ProgressObserver(console, "mIoU", "max", 4)

    def shown() -> str:
        with console.capture() as capture:
            console.print(progress.render())
        return capture.get()

    progress.waits_for("waiting for a node")
    assert "waiting for a node" in shown()
    progress.waits_for("")
    assert "waiting" not in shown()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, {}),
        ({"autoscaler_report": None}, {}),
        (
            {
                "autoscaler_report": {
                    "pending_launches": {"gpu-worker": 2},
                    "pending_nodes": [["10.0.0.7", "gpu-worker", "setting-up"], ["10.0.0.8", "cpu-worker", "waiting"]],
                }
            },
            {"gpu-worker": 3, "cpu-worker": 1},
        ),
    ],
)
def test_what_the_autoscaler_is_starting(status: dict[str, Any], expected: dict[str, int]) -> None:
    assert nodes_that_start_of(status) == expected
