"""What happens when Ray Tune itself falls over."""

import logging
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.error import TuneError
from ray.tune.progress_reporter import TrialProgressCallback

from segdata.errors import SegsweepError, SpaceError
from segdata.synthetic import synthesize
from segsweep import tuning
from segsweep.resources import TrialResources
from segsweep.run_folder import Origin, RunFolder
from segsweep.sweep_file import load_sweep


class Falling:
    """A Tuner whose fit raises, as Tune does: its own error, caused by what happened."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause

    def fit(self) -> None:
        try:
            raise self.cause
        except Exception as error:
            raise TuneError("Traceback\nAssertionError: <class 'OutOfMemoryError'>") from error


def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuner: object, *, last: bool) -> bool:
    monkeypatch.setattr(tuning, "tuner_of", lambda *arguments: tuner)
    nothing: Any = None
    return tuning.fit(nothing, nothing, nothing, RunFolder(tmp_path), last_attempt=last)


def test_a_fall_is_said_and_another_attempt_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert not fit(tmp_path, monkeypatch, Falling(AssertionError("x")), last=False)
    assert "Ray Tune fell over: AssertionError: <class 'OutOfMemoryError'>; going on from the study" in caplog.text


def test_the_last_fall_ends_the_sweep_with_a_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SegsweepError, match=f"Ray Tune fell over.*segsweep resume {tmp_path}"):
        fit(tmp_path, monkeypatch, Falling(AssertionError("x")), last=True)


def test_our_own_error_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpaceError, match="forbid: no room"):
        fit(tmp_path, monkeypatch, Falling(SpaceError("forbid: no room")), last=False)


def test_ctrl_c_works_again_after_tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    stealing = SimpleNamespace(fit=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert fit(tmp_path, monkeypatch, stealing, last=True)
    assert signal.getsignal(signal.SIGINT) is before


def test_tune_prints_nothing_for_a_trial_that_ends_without_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    ended = type("Ended", (), {"last_result": {}})()
    TrialProgressCallback().on_trial_complete(0, [], ended)
    assert "completed" in capsys.readouterr().out  # why SilentTune is there
    tuning.SilentTune().on_trial_complete(0, [], ended)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("metric: segm_mAP", False),
        ("metric: boundary_AP", True),
        ("metric: [segm_mAP, boundary_AP_50]\nmode: max", True),
        ('constraints: ["boundary_AP_m >= 0.2"]', True),
    ],
)
def test_trials_score_boundaries_where_the_sweep_names_them(written: str, wanted: bool, tmp_path: Path) -> None:
    synthesize("particles", tmp_path / "data", 2, seed=0)
    role = "{annotations: data/annotations.json, images: data/images}"
    (tmp_path / "sweep.yaml").write_text(
        f"name: first\ntask: instance\n{written}\ndata:\n  train: {role}\n  val: {role}\n"
        "search: {scheduler: none}\nbudget: {trials: 1}\nfixed: {model: mask-rcnn}\n"
    )
    nothing: Any = None
    resources = TrialResources(cpu=1, gpu=0, concurrent=1)
    sweep = load_sweep(tmp_path / "sweep.yaml")
    sweep.path.mkdir(parents=True)
    RunFolder(sweep.path).create(sweep, Origin.new(sweep, "f00d"))
    context = tuning.trial_context(sweep, nothing, resources, None)
    assert context.boundaries is wanted
