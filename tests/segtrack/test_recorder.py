"""What a sweep leaves in a real MLflow store on sqlite, and that writing it again changes nothing."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segdata.errors import InputError
from segtrack.recorder import SweepRecorder, TrackingLostError, entry_name

pytestmark = pytest.mark.slow  # creating a store takes seconds

TAGS = {"segsweep.fingerprint": "f00d"}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests here: creating one takes seconds. Each test has a project of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


class Project:
    """One test's experiment, and what is in it."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name = uri, name
        self.client = MlflowClient(tracking_uri=uri)

    def recorder(self, sweep_id: str = "1") -> SweepRecorder:
        return SweepRecorder(self.uri, self.name, "nuclei", sweep_id, TAGS)

    def runs(self, kind: str) -> list[Run]:
        experiment = self.client.get_experiment_by_name(self.name)
        assert experiment is not None
        return list(self.client.search_runs([experiment.experiment_id], f"tags.`segsweep.kind` = '{kind}'"))

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        return [(entry.step, entry.value) for entry in self.client.get_metric_history(run.info.run_id, metric)]


@pytest.fixture
def project(uri: str, request: pytest.FixtureRequest) -> Iterator[Project]:
    yield Project(uri, entry_name(request.node.name))


def test_trials_are_tagged_and_a_tag_may_change(project: Project) -> None:
    recorder = project.recorder()
    for number in (0, 1):
        recorder.start_trial(number, {}, {})
    recorder.tag_trials("segsweep.pareto_front", {0: "true", 1: "true", 2: "false"})  # 2 has no run
    again = project.recorder()
    again.tag_trials("segsweep.pareto_front", {0: "false", 1: "true"})
    tags = {run.info.run_name: run.data.tags["segsweep.pareto_front"] for run in project.runs("trial")}
    assert tags == {"trial 0000": "false", "trial 0001": "true"}


def test_a_sweep_is_a_run_and_its_trials_are_children(project: Project, tmp_path: Path) -> None:
    config, weights = tmp_path / "config.py", tmp_path / "best.pth"
    config.write_text("model = {}"), weights.write_text("weights")
    recorder = project.recorder()
    recorder.start_sweep()
    recorder.start_trial(0, {"lr": 0.01, "model": "mask-rcnn"}, {"segsweep.origin": "baseline"})
    recorder.record_epoch(0, 1, {"segm_mAP": 0.25, "segm_mAP_s": float("nan")})
    recorder.record_epoch(0, 2, {"segm_mAP": 0.5})
    recorder.end_trial(0, "FINISHED", {"segsweep.outcome": "completed"}, [config, weights, tmp_path / "missing"])
    recorder.end_sweep("FINISHED", {"best_segm_mAP": 0.5, "trials": 1.0}, tags={"segsweep.end": "out-of-patience"})

    (sweep,), (trial,) = project.runs("sweep"), project.runs("trial")
    assert (sweep.info.run_name, sweep.info.status, trial.info.run_name) == ("nuclei", "FINISHED", "trial 0000")
    assert (sweep.data.tags["segsweep.fingerprint"], sweep.data.tags["segsweep.end"]) == ("f00d", "out-of-patience")
    assert sweep.data.metrics == {"best_segm_mAP": 0.5, "trials": 1.0}
    assert trial.data.tags["mlflow.parentRunId"] == sweep.info.run_id
    assert trial.data.params == {"lr": "0.01", "model": "mask-rcnn"}
    assert project.history(trial, "segm_mAP") == [(1, 0.25), (2, 0.5)]
    assert "segm_mAP_s" not in trial.data.metrics  # an absent class is not zero
    assert trial.data.tags["segsweep.outcome"] == "completed"
    names = [entry.path for entry in project.client.list_artifacts(trial.info.run_id)]
    assert names == ["best.pth", "config.py"]


def test_a_second_launch_goes_on_with_the_same_runs(project: Project) -> None:
    for launch in range(2):
        recorder = project.recorder()
        recorder.start_sweep()
        recorder.start_trial(3, {"lr": 0.01}, {})
        for epoch in range(1, launch + 3):
            recorder.record_epoch(3, epoch, {"segm_mAP": epoch / 10})
    (_sweep,), (trial,) = project.runs("sweep"), project.runs("trial")
    assert trial.info.status == "RUNNING"
    assert project.history(trial, "segm_mAP") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_trial_that_ended_keeps_its_end(project: Project) -> None:
    recorder = project.recorder()
    recorder.start_trial(0, {}, {})
    recorder.end_trial(0, "FAILED", {"segsweep.outcome": "crashed"})
    first = project.runs("trial")[0]
    again = project.recorder()
    again.start_trial(0, {}, {})
    again.end_trial(0, "FINISHED", {"segsweep.outcome": "completed"})
    (second,) = project.runs("trial")
    assert second.info.status == "FAILED" and second.data.tags["segsweep.outcome"] == "crashed"
    assert second.info.end_time == first.info.end_time


def test_another_sweep_of_the_same_name_has_runs_of_its_own(project: Project) -> None:
    for sweep_id in "12":
        recorder = project.recorder(sweep_id)
        recorder.start_sweep()
        recorder.start_trial(0, {"lr": sweep_id}, {})
        recorder.record_epoch(0, 1, {"segm_mAP": 0.1})
    assert len(project.runs("sweep")) == 2
    assert sorted(trial.data.params["lr"] for trial in project.runs("trial")) == ["1", "2"]


def test_a_trial_whose_start_was_cut_short_gets_its_parameters_later(project: Project) -> None:
    recorder = project.recorder()
    recorder._create("trial 0000", "trial", {"segsweep.trial": "0", "mlflow.parentRunId": recorder.parent})
    again = project.recorder()
    again.start_trial(0, {"lr": 0.5}, {})
    (trial,) = project.runs("trial")
    assert trial.data.params == {"lr": "0.5"}


def test_names_that_mlflow_forbids_are_written(project: Project) -> None:
    recorder = project.recorder()
    recorder.start_trial(0, {"model.roi_head.bbox_head[*].loss": 1, "model.x[type=A]": 2}, {})
    scores = {"segm_mAP/bag (new)": 0.5, "segm_mAP/../tin": 0.25, "IoU//a&b": 0.75, "IoU/Tüte": 1.0}
    recorder.record_epoch(0, 1, scores)
    (trial,) = project.runs("trial")
    assert trial.data.params == {"model.roi_head.bbox_head___.loss": "1", "model.x_type_A_": "2"}
    assert trial.data.metrics == {
        "segm_mAP/bag _new_": 0.5,
        "segm_mAP/tin": 0.25,
        "IoU/a_b": 0.75,
        "IoU/Tüte": 1.0,
        "epoch": 1.0,
    }


def test_more_classes_than_a_batch_holds_are_written(project: Project) -> None:
    recorder = project.recorder()
    recorder.start_trial(0, {f"knob_{index}": index for index in range(120)}, {})
    recorder.record_epoch(0, 1, {f"segm_mAP/class {index}": 0.5 for index in range(1300)})
    (trial,) = project.runs("trial")
    assert len(trial.data.metrics) == 1301 and len(trial.data.params) == 120


def test_an_ensemble_is_a_child_of_the_sweep(project: Project) -> None:
    recorder = project.recorder()
    recorder.record_ensemble("ensemble wbf of 3", "test-top3/wbf-of-3", {"method": "wbf"}, {"segm_mAP": 0.5}, [])
    (sweep,), (ensemble,) = project.runs("sweep"), project.runs("ensemble")
    assert ensemble.data.tags["mlflow.parentRunId"] == sweep.info.run_id
    assert (ensemble.info.status, ensemble.data.metrics) == ("FINISHED", {"segm_mAP": 0.5})


def test_the_same_ensemble_is_recorded_once_and_another_of_its_folder_beside_it(project: Project) -> None:
    name, folder, scores = "ensemble wbf of 3", "test-top3/wbf-of-3", {"segm_mAP": 0.1 + 0.2, "absent": float("nan")}
    first = project.recorder().record_ensemble(name, folder, {"method": "wbf", "sigma": 0.5}, scores, [])
    assert project.recorder().record_ensemble(name, folder, {"method": "wbf", "sigma": 0.5}, scores, []) == first
    others = [
        project.recorder().record_ensemble(name, "test-top3/other", {"method": "wbf", "sigma": 0.5}, scores, []),
        project.recorder().record_ensemble(name, folder, {"method": "wbf", "sigma": 0.25}, scores, []),
        project.recorder().record_ensemble(name, folder, {"method": "wbf", "sigma": 0.5}, {"segm_mAP": 0.3}, []),
    ]
    assert sorted(run.info.run_id for run in project.runs("ensemble")) == sorted([first, *others])


def test_an_ensemble_whose_recording_broke_off_goes_on_in_its_run(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ensemble.json").write_text("{}")
    given: tuple[Any, ...] = ("e", "test-top3/e", {"method": "wbf"}, {"segm_mAP": 0.5}, [tmp_path / "ensemble.json"])

    def lost(*_: object, **__: object) -> None:
        raise OSError("the store is gone")

    for call in ("log_batch", "log_artifact", "set_terminated"):
        recorder = project.recorder()
        monkeypatch.setattr(recorder.client, call, lost)
        with pytest.raises(TrackingLostError, match="the store is gone"):
            recorder.record_ensemble(*given)
    project.recorder().record_ensemble(*given)
    (run,) = project.runs("ensemble")
    assert (run.info.status, run.data.params) == ("FINISHED", {"method": "wbf"})
    assert project.history(run, "segm_mAP") == [(0, 0.5)]
    assert [entry.path for entry in project.client.list_artifacts(run.info.run_id)] == ["ensemble.json"]


def test_a_store_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, but a text that is long enough to look at")
    with pytest.raises(InputError, match=r"tracking.uri sqlite:///.*mlflow.db: expected an MLflow store that answers"):
        SweepRecorder(f"sqlite:///{tmp_path}/mlflow.db", "p", "s", "1", {})


def test_what_the_store_does_not_take_is_lost_tracking_and_no_crash(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorder = project.recorder()
    recorder.start_trial(0, {}, {})

    def full(*arguments: Any, **settings: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(recorder.client, "log_artifact", full)
    (tmp_path / "config.py").write_text("")
    with pytest.raises(TrackingLostError, match="No space left on device"):
        recorder.end_trial(0, "FINISHED", {}, [tmp_path / "config.py"])


def test_an_epoch_that_a_dying_store_took_without_saying_so_is_not_written_twice(
    project: Project, monkeypatch: Any
) -> None:
    recorder = project.recorder()
    recorder.start_trial(0, {}, {})
    log_batch = recorder.client.log_batch

    def take_and_die(*args: Any, **kwargs: Any) -> None:
        log_batch(*args, **kwargs)
        raise MlflowException("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(recorder.client, "log_batch", take_and_die)
        with pytest.raises(TrackingLostError):
            recorder.record_epoch(0, 1, {"mIoU": 0.5})
    recorder.record_epoch(0, 1, {"mIoU": 0.5})
    recorder.record_epoch(0, 2, {"mIoU": 0.6})
    (trial,) = project.runs("trial")
    assert project.history(trial, "mIoU") == [(1, 0.5), (2, 0.6)]


def test_a_run_that_a_dying_store_made_without_saying_so_is_found(project: Project, monkeypatch: Any) -> None:
    recorder = project.recorder()
    assert recorder.parent
    create_run = recorder.client.create_run

    def make_and_die(*args: Any, **kwargs: Any) -> None:
        create_run(*args, **kwargs)
        raise MlflowException("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(recorder.client, "create_run", make_and_die)
        with pytest.raises(TrackingLostError):
            recorder.start_trial(0, {"lr": 0.1}, {})
    recorder.start_trial(0, {"lr": 0.1}, {})
    recorder.record_epoch(0, 1, {"mIoU": 0.5})
    (trial,) = project.runs("trial")
    assert trial.data.params == {"lr": "0.1"} and project.history(trial, "mIoU") == [(1, 0.5)]


def test_a_server_is_asked_once_since_it_may_have_done_what_it_did_not_answer() -> None:
    asked = 0

    def take_and_hang_up(listener: socket.socket) -> None:
        nonlocal asked
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                with listener.accept()[0] as connection:
                    connection.recv(1)
                    asked += 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=take_and_hang_up, args=[listener])
        server.start()
        with pytest.raises(InputError, match="expected an MLflow store that answers"):
            SweepRecorder(f"http://127.0.0.1:{listener.getsockname()[1]}", "p", "s", "1", {})
        listener.shutdown(socket.SHUT_RDWR)
    server.join()
    assert asked == 1


def test_what_changes_in_flight_is_a_curve_and_a_tag_once(project: Project) -> None:
    mutations: list[dict[str, Any]] = [
        {"epoch": 0, "donor": None, "values": {"lr": 0.01}},
        {"epoch": 2, "donor": 3, "values": {"lr": 0.012}},
    ]
    recorder = project.recorder()
    recorder.start_trial(0, {"lr": 0.01}, {})
    recorder.record_mutations(0, mutations[:1])
    again = project.recorder()
    again.start_trial(0, {"lr": 0.01}, {})
    for _ in range(2):
        again.record_mutations(0, mutations)
    (trial,) = project.runs("trial")
    assert project.history(trial, "pbt/lr") == [(0, 0.01), (2, 0.012)]
    assert project.history(trial, "pbt/from") == [(2, 3.0)]
    assert json.loads(trial.data.tags["segsweep.mutations"]) == mutations
    many = [{"epoch": epoch, "donor": 3, "values": {"lr": 0.01}} for epoch in range(100)]
    again.record_mutations(0, many)
    (trial,) = project.runs("trial")
    newest = json.loads(trial.data.tags["segsweep.mutations"])
    assert newest == many[-len(newest) :] and len(newest) > 5


def test_a_fold_whose_recording_broke_off_goes_on_in_its_run(project: Project, monkeypatch: Any) -> None:
    recorder = project.recorder()
    epochs = {8: {"mIoU": 0.25}, 16: {"mIoU": 0.5}}
    with monkeypatch.context() as patch:

        def lost(*_: object) -> None:
            raise OSError("the store is gone")

        patch.setattr(recorder.client, "set_terminated", lost)
        with pytest.raises(TrackingLostError, match="the store is gone"):
            recorder.record_fold(3, 0, 5, {"lr": 0.1}, epochs)
    project.recorder().record_fold(3, 0, 5, {"lr": 0.1}, epochs)
    (run,) = project.runs("fold")
    assert run.info.status == "FINISHED" and run.data.params == {"lr": "0.1"}
    assert project.history(run, "mIoU") == [(8, 0.25), (16, 0.5)]


def test_a_fold_is_recorded_once_below_its_sweep(project: Project, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("model = 1\n")
    recorder = project.recorder()
    recorder.start_trial(3, {}, {})
    epochs = {8: {"mIoU": 0.25}, 16: {"mIoU": 0.5}}
    recorder.record_fold(3, 0, 5, {"lr": 0.1}, epochs, [tmp_path / "config.py"])
    project.recorder().record_fold(3, 0, 5, {"lr": 0.1}, epochs)
    recorder.record_fold(3, 0, 10, {"lr": 0.1}, epochs)
    runs = sorted(project.runs("fold"), key=lambda run: str(run.data.tags["segsweep.fold"]))
    assert [(run.info.run_name, run.data.tags["segsweep.fold"]) for run in runs] == [
        ("fold 0 of trial 0003", "0 of 10"),
        ("fold 0 of trial 0003", "0 of 5"),
    ]
    assert project.history(runs[1], "mIoU") == [(8, 0.25), (16, 0.5)]
    assert runs[1].data.params == {"lr": "0.1"} and runs[1].info.status == "FINISHED"
    assert len(project.runs("trial")) == 1 and runs[1].data.tags["mlflow.parentRunId"] == recorder.parent
