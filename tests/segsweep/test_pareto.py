"""What `best` shows of several objectives: the front's table in 80 columns, its JSON, who was over a limit."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segsweep.checkpoints import CheckpointKeeper
from segsweep.cli.best import print_best
from segsweep.objectives import Objective
from segsweep.pareto import front_first, front_table, numbers_on_front
from segsweep.progress import ProgressObserver
from segsweep.run_folder import RunFolder
from segsweep.search.study import TrialRecord
from segsweep.sweep_config import SweepConfig
from trainables.limits import COSTS

SCORE, LATENCY = Objective("segm_mAP", "max"), Objective("latency_ms", "min")
SAMPLE = {"model": "cascade-mask-rcnn", "backbone": "x101-32x4d", "optimizer": "adamw", "lr": 0.000123456}


def record(number: int, score: float, outcome: Any = "completed", broken: Any = (), **values: float) -> TrialRecord:
    return TrialRecord(
        number=number,
        origin="sampler",
        sample=SAMPLE,
        config={},
        outcome=outcome,
        reason="",
        scores={} if math.isnan(score) else {1: score},
        best_epoch=None if math.isnan(score) else 1,
        best_score=score,
        planned_epochs=12,
        duration_s=1.0,
        epochs={1: values},
        broken=broken,
    )


TRIALS = (
    record(0, 0.50, latency_ms=20.0),
    record(1, 0.60, latency_ms=30.0),
    record(2, 0.40, latency_ms=25.0),  # 0 beats it
    record(3, 0.90, "over-limit", ("latency_ms <= 50",), latency_ms=80.0),
    record(4, math.nan, "over-limit", ("parameters_M <= 30",)),
    record(5, 0.50, latency_ms=20.0),  # as good as 0
    record(6, 0.95, "crashed"),  # its latency is not known
    record(7, 0.30, "running", ("segm_mAP >= 0.4",), latency_ms=1.0),
)


def config_of(**keys: Any) -> SweepConfig:
    data = {role: {"images": "images", "annotations": f"{role}.json"} for role in ("train", "val")}
    return SweepConfig.model_validate({"name": "s", "task": "instance", "data": data, "budget": {"trials": 9}, **keys})


def test_on_the_front_is_who_is_not_beaten_and_the_front_comes_first() -> None:
    assert numbers_on_front(TRIALS, [SCORE, LATENCY]) == {0, 1, 5}
    assert [one.number for one in front_first(TRIALS, [SCORE, LATENCY])] == [1, 0, 5, 6, 2]
    assert [one.number for one in front_first(TRIALS, [SCORE])] == [6, 1, 0, 5, 2]


def test_a_table_of_all_objectives_fits_80_columns() -> None:
    objectives = [SCORE, *(Objective(name, "min") for name in COSTS)]
    trials = [record(n, 0.51234, **{name: 12345.678 for name in COSTS}) for n in range(3)]
    console = Console(file=io.StringIO(), width=80)
    console.print(front_table(trials, objectives, "nuclei: Pareto front"))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["latency", "parameters", "peak_memory", "training"]
    assert lines[2].split() == ["#", "trial", "segm_mAP", "ms", "M", "MB", "s", "parameters"]
    assert lines[3].split()[:7] == ["1", "0000", "0.5123", *["12346"] * 4]
    text = "".join("".join(lines).split())
    assert text.count("lr=0.000123") == 3


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns a function that gives what `segsweep best` prints."""
    (tmp_path / "trials").mkdir()

    def printed(top: int = 5, as_json: bool = False, beaten: bool = False) -> str:
        config = config_of(metric=["segm_mAP", "latency_ms"])
        print_best(TRIALS, config, RunFolder(tmp_path), top, as_json, beaten=beaten)
        return capsys.readouterr().out

    return printed


def test_best_shows_the_front_and_counts_the_others(show: Callable[..., str]) -> None:
    lines = show().splitlines()
    assert [line.split()[1] for line in lines if line[:1].isdigit() and " 000" in line][:3] == ["0001", "0000", "0005"]
    assert "0002" not in "".join(lines) and "0006" not in "".join(lines)
    assert "on the Pareto front: 3 of 5 trials" in lines
    assert lines[-1] == "2 trials were over a limit: latency_ms <= 50 (1), parameters_M <= 30 (1)"
    assert "on the Pareto front: 3 of 5 trials; more by --top 3" in show(top=1) and "0000" not in show(top=1)
    whole = show(beaten=True)
    assert "0002 " in whole and "0003" not in whole and whole.count("*") == 3 + 1
    assert all(f"{number:04d}*" in whole for number in (0, 1, 5)) and "on the Pareto front (*): 3 of 5" in whole


def test_best_as_json_holds_objectives_and_who_is_on_the_front(show: Callable[..., str]) -> None:
    rows = json.loads(show(as_json=True, beaten=True))
    assert [(row["trial"], row["rank"], row["on_front"]) for row in rows] == [
        (1, 1, True), (0, 2, True), (5, 3, True), (6, 4, False), (2, 5, False),
    ]  # fmt: skip
    assert rows[0]["objectives"] == {"segm_mAP": 0.6, "latency_ms": 30.0} and rows[0]["segm_mAP"] == 0.6
    assert rows[3]["objectives"] == {"segm_mAP": 0.95}


def test_a_sweep_of_one_objective_counts_who_was_over_a_limit_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_best(TRIALS, config_of(constraints=["latency_ms <= 50"]), RunFolder(tmp_path), 1, False)
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 trials were over a limit: ")


def test_progress_shows_the_objectives_and_the_front() -> None:
    console = Console(file=io.StringIO(), width=80)
    progress = ProgressObserver(console, "segm_mAP", "max", 12, TRIALS[:2], [LATENCY])
    progress.trial_ended(TRIALS[3])
    progress.trial_ended(TRIALS[5])
    assert isinstance(console.file, io.StringIO)
    over, fine = console.file.getvalue().splitlines()
    assert "over-limit segm_mAP 0.9000, latency_ms 80 at epoch 1/12" in over
    assert "completed segm_mAP 0.5000, latency_ms 20 at epoch 1/12" in fine
    assert "best 0.6000 (trial 0001); 3 on the Pareto front" in progress.summary()


def test_weights_of_the_front_stay_and_those_over_a_limit_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for number in range(8):
        folder.trial(number).directory.mkdir(parents=True)
        folder.trial(number).best.write_bytes(b"weights")
        folder.trial(number).epochs.mkdir()
        folder.trial(number).epoch_weights(9).write_bytes(b"weights")
    keeper = CheckpointKeeper(folder, 3, [SCORE, LATENCY])
    for trial in TRIALS:
        if trial.ended:
            keeper.trial_ended(trial)
    kept = {number for number in range(8) if folder.trial(number).best.is_file()}
    assert kept == {0, 1, 5, 7}  # 7 still runs
    assert {number for number in range(8) if folder.trial(number).kept_epochs()} == kept
