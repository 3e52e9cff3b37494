"""The benchmarks: their arithmetic, their rows, and what they say where there is no GPU; no timings."""

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
COLUMNS = {"name", "peer", "ours", "theirs", "unit", "ratio", "target"}
NOTES = """\
0 100.0 1.0 0
0 101.0 1.5 0
0 103.0 2.5 0
0 105.0 3.5 7
1 120.0 9.0 0
1 121.0 9.5 0
1 122.0 10.0 0
-1 130.0 12.0 0
"""


def load(name: str) -> Any:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def rows_of(*command: str, **environment: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, *command, "--json"], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    assert all(set(row) >= COLUMNS for row in rows)
    return rows


def test_a_timing_leaves_out_the_first_two_iterations_of_each_epoch() -> None:
    timing = load("training").read_timing(NOTES, 90.0)
    assert timing.first_s == 100.0 - 90.0
    assert timing.per_s == 3 / ((105.0 - 101.0) + (122.0 - 121.0))  # two of the first epoch, one of the second
    assert timing.cpu_s == ((3.5 - 1.5) + (10.0 - 9.5)) / 3
    assert timing.rest_s == 130.0 - 101.0


def test_a_training_that_did_not_end_or_is_too_short_has_no_timing() -> None:
    read_timing = load("training").read_timing
    with pytest.raises(ValueError, match="to its end"):
        read_timing("0 100.0 1.0 0\n", 90.0)
    with pytest.raises(ValueError, match="more than 2 iterations"):
        read_timing("0 100.0 1.0 0\n0 101.0 1.0 0\n-1 102.0 1.0 0\n", 90.0)


def test_between_trials_of_a_sweep_lies_the_end_of_one_and_the_first_iteration_of_the_next() -> None:
    assert load("training").turnarounds(NOTES + "0 132.5 1.0 0\n-1 140.0 1.0 0\n0 141.0 1.0 0\n") == [2.5, 1.0]


def test_a_row_tells_the_median_of_the_pairs_own_ratios_and_their_range() -> None:
    training = load("training")
    ours, theirs = [1.0, 2.0, 4.0], [2.0, 2.0, 2.0]
    found = training.summary(ours, theirs, [a / b for a, b in zip(ours, theirs, strict=True)])
    row = training.row("speed", "peer", "it/s", 0.98, found, 3)
    assert set(row) >= COLUMNS
    assert (row["ours"], row["theirs"], row["ratio"], row["low"], row["high"]) == (2.0, 2.0, 1.0, 0.5, 2.0)
    assert row["name"] == "speed (median of 3 pairs, 0.5 to 2)"


def test_without_a_gpu_each_row_says_that_it_was_not_measured() -> None:
    rows = rows_of(str(BENCHMARKS / "gpu.py"), CUDA_VISIBLE_DEVICES="")
    assert len(rows) >= 4 and any("detectors" in row["name"] for row in rows)
    assert all("not measured, no GPU here" in row["name"] for row in rows)
    assert all(row["ours"] is None and row["theirs"] is None and row["ratio"] is None for row in rows)


def test_gpus_are_counted_and_polled_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = -L ] && printf "GPU 0: A\\nGPU 1: B\\n"\nexit 0\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    gpu = load("gpu")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu.gpu_count() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu.gpu_count() == 1
    (tmp_path / "polls.csv").write_text("50, 1024\n100, 3072\n[N/A], 9\n0, ")
    assert gpu.read_polls(tmp_path / "polls.csv") == (75.0, 3.0)
    (tmp_path / "polls.csv").write_text("")
    assert gpu.read_polls(tmp_path / "polls.csv") is None


def test_a_measurement_that_fails_is_a_row_that_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> list[dict[str, Any]]:
        raise RuntimeError("no memory left\ntraceback")

    (row,) = load("gpu").attempt("a step", fail)
    assert row["name"] == "a step: FAILED, no memory left" and row["ours"] is None
    assert "traceback" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_trainings_are_measured_against_stock_ones() -> None:
    rows = rows_of(str(BENCHMARKS / "training.py"), "--quick")
    assert [row["target"] for row in rows].count(5.0) == 3 and [row["target"] for row in rows].count(0.98) == 2
    assert all(row["low"] <= row["ratio"] <= row["high"] and row["ours"] > 0 < row["theirs"] for row in rows)


@pytest.mark.slow
@pytest.mark.long
def test_fusion_gives_what_its_peers_give_and_every_method_has_a_row() -> None:
    """The script compares the results before it takes the time."""
    rows = rows_of(str(BENCHMARKS / "fusion.py"), "--quick")
    first_words = [row["name"].partition(",")[0] for row in rows]
    assert [first_words.count(word) for word in ("weighted boxes fusion", "mask fusion", "mask AP")] == [2, 4, 1]
    assert [first_words.count(word) for word in ("soft vote with argmax", "hard vote")] == [4, 2]
    assert sum(word.startswith("soft vote to labels") for word in first_words) == 2
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.long
def test_what_the_search_costs_is_measured_against_stock_optuna_and_stock_tune() -> None:
    rows = rows_of(str(BENCHMARKS / "search_overhead.py"), "--quick")
    assert [row["name"].split()[1] for row in rows[:1]] == ["suggestion"] and rows[0]["target"] == 1 / 1.3
    assert sum("no-op trial of the" in row["name"] for row in rows) == 6  # first and last; tpe, random and Tune
    assert sum("on top" in row["name"] for row in rows) == 2
    assert all(row["theirs"] > 0 and row["ours"] > 0 and row["ratio"] > 0 for row in rows)


def test_the_peer_of_the_search_has_the_same_distributions_and_history(tmp_path: Path) -> None:
    overhead = load("search_overhead")
    before = overhead.history(3)
    ours, theirs = overhead.Ours(tmp_path, "random", before), overhead.Theirs("random", before)
    for side in (ours, theirs):
        side.ask()
        side.end()
    our_trials, their_trials = ours.searcher.study.trials, theirs.study.trials
    assert len(overhead.DISTRIBUTIONS) == 20
    assert [trial.distributions for trial in our_trials] == [trial.distributions for trial in their_trials]
    assert [trial.params for trial in our_trials[:3]] == [trial.params for trial in their_trials[:3]]
    assert [(trial.value, trial.state) for trial in our_trials[:3]] == [(t.value, t.state) for t in their_trials[:3]]
    assert our_trials[3].value == overhead.score_of(our_trials[3].params)
