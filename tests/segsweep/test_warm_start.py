"""Points of an earlier sweep, read back from a real MLflow store, in a space that has changed meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.space import Space
from segdata.errors import InputError
from segsweep.warm_start import dropped_text, warm_start
from segtrack.reader import RecordedSweep, RecordedTrial, read_sweep
from segtrack.recorder import SweepRecorder

SpaceOf = Callable[..., Space]
SPACE: dict[str, Any] = {
    "optimizer": {"choice": ["sgd", "adamw"]},
    "lr": [
        {"when": {"optimizer": "sgd"}, "float": [1e-3, 1e-1], "log": True},
        {"when": {"optimizer": "adamw"}, "float": [1e-5, 1e-3], "log": True},
    ],
}


def earlier(*points: dict[str, str], metric: str = "segm_mAP", mode: str = "max") -> RecordedSweep:
    trials = (RecordedTrial(number, point, 1.0 / (1 + number)) for number, point in enumerate(points))
    return RecordedSweep("old", metric, mode, tuple(trials))


def test_points_land_on_the_case_that_holds_them(space_of: SpaceOf) -> None:
    old = earlier({"optimizer": "sgd", "lr": "0.01"}, {"optimizer": "adamw", "lr": "0.0001"})
    found = warm_start(space_of(SPACE), old, "segm_mAP", "max", top=5)
    assert found.points == (
        {"optimizer": "sgd", "lr[optimizer=sgd]": 0.01},
        {"optimizer": "adamw", "lr[optimizer=adamw]": 1e-4},
    )
    assert found.dropped == {}


def test_what_has_no_place_is_drawn_anew_and_said(space_of: SpaceOf) -> None:
    old = earlier({"optimizer": "sgd", "lr": "0.5", "backbone": "r50", "epochs": "9"}, {"optimizer": "adam"})
    found = warm_start(space_of(SPACE), old, "segm_mAP", "max", top=5)
    assert found.points == ({"optimizer": "sgd"},)
    assert dropped_text(found.dropped) == [
        "warm start: backbone is not taken over: it is not searched here",
        "warm start: epochs is not taken over: it is fixed here",
        "warm start: lr is not taken over: it was 0.5, and here it is 0.001 to 0.1 (log)",
        "warm start: optimizer is not taken over: it was adam, and here it is one of sgd, adamw",
    ]


def test_only_so_many_and_none_twice_or_forbidden(space_of: SpaceOf) -> None:
    points = [{"optimizer": name} for name in ("sgd", "sgd", "adamw")]
    assert len(warm_start(space_of(SPACE), earlier(*points), "segm_mAP", "max", top=9).points) == 2
    assert len(warm_start(space_of(SPACE), earlier(*points), "segm_mAP", "max", top=1).points) == 1
    sizes = SPACE | {"batch_size": {"choice": [4, 8]}}
    forbidding = space_of(sizes, forbid=[{"optimizer": "sgd", "batch_size": 8}])
    points = [{"optimizer": name, "batch_size": "8"} for name in ("sgd", "adamw")]
    found = warm_start(forbidding, earlier(*points), "segm_mAP", "max", top=9)
    assert found.points == ({"optimizer": "adamw", "batch_size": 8},)


@pytest.mark.parametrize(
    ("old", "told"),
    [
        (earlier({"optimizer": "sgd"}, metric="bbox_mAP"), r"segm_mAP \(max\), but old was for bbox_mAP \(max\)"),
        (earlier({"optimizer": "sgd"}, mode="min"), r"segm_mAP \(max\), but old was for segm_mAP \(min\)"),
        (earlier({"backbone": "r50"}), "trials of old with values that this space has, but got none"),
        (earlier(), "trials of old with values that this space has, but got none"),
    ],
)
def test_a_sweep_that_cannot_help_is_refused(old: RecordedSweep, told: str, space_of: SpaceOf) -> None:
    with pytest.raises(InputError, match=told):
        warm_start(space_of(SPACE), old, "segm_mAP", "max", top=3)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "best"), [("max", [(1, 0.5), (0, 0.4)]), ("min", [(0, 0.2), (1, 0.5)])])
def test_a_recorded_sweep_is_read_best_first(mode: str, best: list[tuple[int, float]], tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for sweep_id, offset in (("1", 0.0), ("2", 0.1)):  # the newer of two with one name counts
        recorder = SweepRecorder(uri, "nuclei", "old", sweep_id, {"segsweep.metric": "segm_mAP", "segsweep.mode": mode})
        recorder.start_sweep()
        for number, scores in enumerate(([0.1, 0.3, 0.2], [0.4], [])):
            recorder.start_trial(number, {"lr": 0.01 * (1 + number), "rcnn[*].x": number}, {})
            for epoch, score in enumerate(scores, start=1):
                recorder.record_epoch(number, epoch, {"segm_mAP": score + offset})
        recorder.start_trial(3, {"lr": 0.9}, {"segsweep.outcome": "over-limit"})
        recorder.record_epoch(3, 1, {"segm_mAP": 0.9 if mode == "max" else 0.1})
    found = read_sweep(uri, "nuclei", "old")
    assert (found.metric, found.mode) == ("segm_mAP", mode)
    assert [(trial.number, round(trial.score, 6)) for trial in found.trials] == best
    assert {trial.number: trial.parameters for trial in found.trials}[1] == {"lr": "0.02", "rcnn___.x": "1"}
    with pytest.raises(InputError, match="expected a sweep that MLflow has in the project nuclei, but got 'older'"):
        read_sweep(uri, "nuclei", "older")


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an MLflow store with earlier sweeps, but got no such file"):
        read_sweep(f"sqlite:///{tmp_path / 'mlflow.db'}", "nuclei", "old")
    assert not list(tmp_path.iterdir())
