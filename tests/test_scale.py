"""The benchmark of many trials: its arithmetic, and that both sides run the same sweep; no timings."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def scale() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_scale", BENCHMARKS / "scale.py")
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run_of(scale: Any, step_s: float, cpu_s: float = 0.01, kb: int = 40, concurrent: int = 2) -> Any:
    """Twenty trials, one end every `step_s`; the first ones later, as places fill up, the last ones as they empty."""
    ended = [10 + step_s * number for number in range(20)]
    ended[0], ended[-1] = 0.0, 99.0
    uss = {4: 100_000_000, 20: 100_000_000 + 16 * kb * 1024}
    files = {"": (70, 0), "trials": (60, 0), "tune": (4, 0)}
    return scale.Run(concurrent, [0.01] * 20, ended, [cpu_s * number for number in range(20)], uss, files)


def test_a_run_is_measured_while_all_places_are_taken(scale: Any) -> None:
    run = run_of(scale, 0.25, concurrent=2)
    assert run.trial_ms() == pytest.approx(250) and run.cpu_ms() == pytest.approx(10)
    assert run.memory_kb() == pytest.approx(40) and run.files_a_trial() == pytest.approx(64 / 20)
    assert run.trial_ms(run.tenth(1)) == pytest.approx(250)


def test_what_a_place_loses_is_measured_from_one_begin_to_the_next_in_it(scale: Any) -> None:
    first, second = [(1, 0.0), (1, 5.0), (1, 6.0), (1, 7.0)], [(2, 1.0), (2, 5.5), (2, 6.9)]
    run = dataclasses.replace(run_of(scale, 0.5), begun=[*first, *second])  # the first step of each is longer
    assert run.lost_ms(train_s=0.9) == pytest.approx(1e3 * ((1.0 + 1.0 + 1.4) / 3 - 0.9))
    with pytest.raises(RuntimeError, match="expected 2 processes, but got 3"):
        dataclasses.replace(run, begun=[*first, *second, (3, 8.0)]).lost_ms(train_s=0.9)


def test_a_ratio_is_the_median_of_the_pairs_own(scale: Any) -> None:
    pairs = [(run_of(scale, ours), run_of(scale, theirs)) for ours, theirs in ((0.2, 0.1), (0.2, 0.2), (0.4, 0.6))]
    row = scale.paired("a trial", "ms", pairs, scale.Run.trial_ms, 1 / 1.1)
    assert row["name"] == "a trial (median of 3 pairs, 0.50 to 1.50)"
    assert (row["ours"], row["theirs"], row["ratio"]) == (pytest.approx(200), pytest.approx(200), pytest.approx(1))


@pytest.mark.slow
def test_both_sides_run_a_sweep_to_its_end_and_ours_leaves_nothing_with_tune(scale: Any, tmp_path: Path) -> None:
    for side in ("ours", "theirs"):
        run = scale.run(side, tmp_path, 12, 2, epochs=2, marks=[4, 12])
        assert run.trials == 12 and len(run.suggestions_s) == 12 and set(run.uss) == {4, 12}
        in_tune = {"ours": 2, "theirs": 2 + 2 * 12}[side]  # Tune's two files of all, a pointer an epoch
        assert run.files["tune"][0] == pytest.approx(in_tune, abs=2)
        assert run.files["trials"][0] == 12 * 3
        assert len(run.begun) == 12
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.long
def test_the_short_run_prints_a_row_for_each_target() -> None:
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "--quick", "--json"]
    done = subprocess.run(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert {row["target"] for row in rows if row["target"]} == {1 / 1.1, 1.0, 1 / 1.3}
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in rows if "lost" not in row["name"])
