"""Ensembles whose MLflow store is lost: nothing ends, one line says so, and the same command makes up for it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ensembling.settings import FusionSettings
from segsweep.data_roles import read_roles
from segsweep.ensembles.making import Made
from segsweep.ensembles.records import record_runs
from segsweep.ensembles.rows import ScoreRow
from segsweep.run_folder import RunFolder
from segsweep.sweep_file import Sweep

pytestmark = pytest.mark.slow  # creating a store takes seconds

NAMES = ("wbf of all", "wbf chosen", "nms of all")
UNTIL = "missing in MLflow until the same command is run again: "


class Ensembles:
    """Three that have been made of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.shelf = sweep, SimpleNamespace(sweep=sweep, roles=read_roles(sweep))
        place = RunFolder(sweep.path).ensembles / "val-top2"
        self.files = [place / name.replace(" ", "-") / "ensemble.json" for name in NAMES]
        for file in self.files:
            file.parent.mkdir(parents=True)
            file.write_text("{}")
        rows = [ScoreRow(name, place, {"segm_mAP": 0.5}, method=name.partition(" ")[0]) for name in NAMES]
        self.made = [Made(row, FusionSettings(), ()) for row in rows]

    def record(self) -> None:
        result: Any = SimpleNamespace(role="val", judged_on=None)
        record_runs(self.shelf, self.made, result, self.files)  # type: ignore[arg-type]

    def runs(self) -> list[Run]:
        client = MlflowClient(tracking_uri=self.sweep.tracking_uri)
        experiment = client.get_experiment_by_name(self.sweep.project)
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id], "tags.`segsweep.kind` = 'ensemble'"))


@pytest.fixture
def ensembles(begun: Callable[..., Sweep], tmp_path: Path) -> Ensembles:
    return Ensembles(begun(tmp_path, "instance", 4, 2))


def test_a_store_that_does_not_answer_is_one_line_and_all_are_written_by_the_next_call(
    ensembles: Ensembles, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise MlflowException("Connection refused\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "get_experiment_by_name", refused)
        ensembles.record()
    (line,) = caplog.messages
    assert line.startswith(f"ensembles wbf of all, wbf chosen, nms of all are {UNTIL}tracking.uri sqlite:///")
    assert "expected an MLflow store that answers, but got MlflowException: Connection refused." in line
    ensembles.record()
    assert sorted(run.info.run_name for run in ensembles.runs()) == sorted(f"ensemble {name}" for name in NAMES)


def test_a_store_that_is_lost_between_two_is_made_up_for_without_a_second_run(
    ensembles: Ensembles, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, end = [], MlflowClient.set_terminated

    def ends_two(client: MlflowClient, run: str, status: str) -> None:
        if len(ended) == 2:
            raise OSError("Connection refused")
        ended.append(run)
        end(client, run, status)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", ends_two)
        ensembles.record()
    assert caplog.messages == [f"ensemble nms of all is {UNTIL}Connection refused"]
    for _ in range(2):
        ensembles.record()
    runs = ensembles.runs()
    assert sorted(run.info.run_name for run in runs) == sorted(f"ensemble {name}" for name in NAMES)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.params["method"] for run in runs} == {"wbf", "nms"}
