"""The benchmark of several hosts: its arithmetic, its rows, and its refusal where there can be no lab; no timings."""

import heapq
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "lab_scale.py"


@pytest.fixture(scope="module")
def lab_scale() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_lab_scale", SCRIPT)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def sweep(begins_s: list[float], trials: int, step_s: float) -> tuple[list[float], list[float], list[float]]:
    """Places that begin at these moments and train for `step_s` as long as there are trials.

    Returns:
        When trials were asked for (one for each place at 0, then whenever one had ended), were placed, and ended.
    """
    free_s, placed, ended = sorted(begins_s), list[float](), list[float]()
    for _ in range(trials):
        placed.append(heapq.heappop(free_s))
        ended.append(placed[-1] + step_s)
        heapq.heappush(free_s, ended[-1])
    return [0.0] * len(begins_s) + ended[: -len(begins_s)], placed, ended


@pytest.mark.parametrize("begins_s", [[9.0] * 4, [5.0, 7.5, 10.0, 12.5], [5.0, 5.1, 5.2, 11.0], [5.0, 6.0, 36.0, 38.0]])
def test_trials_an_hour_are_those_of_all_places_wherever_their_ends_bunch(
    lab_scale: Any, begins_s: list[float]
) -> None:
    asked, placed, ended = sweep(begins_s, trials=28, step_s=10.0)
    assert lab_scale.all_taken_s(asked, placed, 4) == begins_s[-1]
    assert lab_scale.trials_an_hour(asked, placed, ended, 4) == pytest.approx(4 * 360)  # 6 a minute of each


def test_the_end_of_a_sweep_whose_places_empty_does_not_count(lab_scale: Any) -> None:
    asked, placed, ended = sweep([5.0, 6.0], trials=12, step_s=10.0)
    ended[-2:] = [300.0, 400.0]  # the last one of each place takes long
    assert lab_scale.trials_an_hour(asked, placed, ended, 2) == pytest.approx(2 * 360)


def test_places_that_were_never_all_taken_or_not_for_long_have_no_rate(lab_scale: Any) -> None:
    with pytest.raises(RuntimeError, match="expected 3 trials at a time"):
        lab_scale.all_taken_s([0.0, 0.0, 0.0, 1.0], [0.5, 0.6, 2.0], 3)
    with pytest.raises(RuntimeError, match="ask for more"):
        lab_scale.trials_an_hour(*sweep([0.0, 1.0], trials=4, step_s=10.0), 2)


def test_a_ratio_is_the_median_of_the_rounds_own_and_beside_it_stands_what_a_place_loses(lab_scale: Any) -> None:
    load = lab_scale.Load(places=2, trials_a_place=8, epochs=2, sleep_s=4.0)  # at best 2 * 3600 / 8 = 900 a host
    rounds = [{1: 720.0, 2: 1440.0, 3: 1800.0}, {3: 2160.0, 2: 1152.0, 1: 720.0}, {1: 720.0, 2: 1296.0, 3: 2160.0}]
    two, lost, three, _ = lab_scale.rows_of(rounds, load)
    assert two["name"].startswith("2 hosts: trials that end, 2 places a host, trials of 2 epochs of 4 s (median of 3")
    assert (two["peer"], two["ours"], two["theirs"], two["target"]) == ("1 host", 1296.0, 720.0, 1.8)
    assert two["ratio"] == pytest.approx(1.8) and three["ratio"] == pytest.approx(3.0) and three["target"] == 2.5
    assert "1.60 to 2.00" in two["name"]
    assert lost["theirs"] == pytest.approx(2000)  # 10 s a trial, of which it trains 8
    assert lost["ours"] == pytest.approx(1e3 * (3600 * 4 / 1296 - 8))


def test_without_root_or_tools_one_line_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "unshare" in done.stderr and done.stderr.startswith("lab_scale.py: ")
