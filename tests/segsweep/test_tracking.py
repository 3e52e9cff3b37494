"""A store that stops answering never ends a sweep, and what it missed is written later. Only the network is mocked."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from segsweep.tracking import PAUSE_S, TrackingObserver
from segtrack.recorder import SweepRecorder
from trainables.trial_files import EpochScores

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

pytestmark = pytest.mark.slow  # creating a store takes seconds

METRIC = "segm_mAP"
CALLS = ("create_run", "log_batch", "log_artifact", "set_terminated", "update_run", "get_run", "get_experiment")
Open = Callable[..., "Search"]


class Network:
    """Lets every call of a client fail while it is down, and counts the calls; `now_s` is the clock, at which it comes
    up again."""

    def __init__(self, recorder: SweepRecorder) -> None:
        self.down, self.tried, self.now_s, self.up_at_s = False, 0, 0.0, float("inf")
        for name in (
            "create_run",
            "log_batch",
            "log_artifact",
            "set_terminated",
            "update_run",
            "get_run",
            "get_experiment",
        ):
            setattr(recorder.client, name, self.guarded(getattr(recorder.client, name)))

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.down = self.down and self.now_s < self.up_at_s

    def guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def through(*arguments: Any, **settings: Any) -> Any:
            self.tried += 1
            if self.down:
                raise MlflowException("Connection refused")
            return call(*arguments, **settings)

        return through


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


class Tracked:
    """A search whose observer writes to a store behind a network."""

    def __init__(self, uri: str, name: str, open_search: Open) -> None:
        self.uri, self.name = uri, name
        self.search = open_search(budget=3)
        self.recorder = SweepRecorder(uri, name, name, "1", {})
        self.network = Network(self.recorder)
        self.observer = TrackingObserver(
            self.recorder, self.search.files, lambda number: True, lambda: self.network.now_s, self.network.wait
        )
        self.search.searcher.observers = [self.observer]

    def train(self, tune_id: str, scores: list[float]) -> None:
        """One trial from its suggestion to its end, with the history that its process writes."""
        number = self.search.searcher.suggest(tune_id)["number"]
        files = self.search.files(number)
        files.directory.mkdir(parents=True)
        files.config.write_text("model = {}")
        files.best.write_text("weights")
        for epoch, score in enumerate(scores, start=1):
            files.append_history(EpochScores(epoch, {METRIC: score}))
        self.search.finish(tune_id, scores)

    def runs(self) -> dict[int, Run]:
        client = MlflowClient(tracking_uri=self.uri)
        experiment = client.get_experiment_by_name(self.name)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], "tags.`segsweep.kind` = 'trial'")
        numbers = [int(run.data.tags["segsweep.trial"]) for run in runs]
        assert len(set(numbers)) == len(numbers), "a trial has two runs"
        return dict(zip(numbers, runs, strict=True))

    def steps(self, run: Run) -> list[int]:
        return [entry.step for entry in self.recorder.client.get_metric_history(run.info.run_id, METRIC)]


@pytest.fixture
def tracked(uri: str, search: Open, request: pytest.FixtureRequest) -> Tracked:
    return Tracked(uri, request.node.name, search)


def test_a_trial_is_written_as_it_goes(tracked: Tracked) -> None:
    tracked.train("a", [0.1, 0.2, 0.3])
    (run,) = tracked.runs().values()
    assert (run.info.status, run.data.tags["segsweep.outcome"]) == ("FINISHED", "completed")
    assert run.data.tags["segsweep.best_epoch"] == "3" and tracked.steps(run) == [1, 2, 3]
    names = {entry.path for entry in tracked.recorder.client.list_artifacts(run.info.run_id)}
    assert names == {"config.py", "history.jsonl", "best.pth"}


def test_what_a_dead_store_missed_is_written_when_it_is_back(
    tracked: Tracked, caplog: pytest.LogCaptureFixture
) -> None:
    tracked.search.searcher.suggest("a")
    tracked.search.report("a", 1, 0.1)
    tracked.network.down = True
    files = tracked.search.files(0)
    files.directory.mkdir(parents=True)
    for epoch, score in enumerate([0.1, 0.2, 0.3], start=1):
        files.append_history(EpochScores(epoch, {METRIC: score}))
    tracked.search.report("a", 2, 0.2)
    tracked.search.finish("a", [0.1, 0.2, 0.3])
    tracked.train("b", [0.4, 0.5, 0.6])
    assert [record.outcome for record in tracked.search.records()] == ["completed", "completed"]
    assert "trial 0000 will be written to MLflow later: Connection refused" in caplog.text

    tracked.network.down = False
    tracked.network.now_s = PAUSE_S + 1
    tracked.train("c", [0.7, 0.8, 0.9])
    runs = tracked.runs()
    assert sorted(runs) == [0, 1, 2]
    for run in runs.values():
        assert run.info.status == "FINISHED" and tracked.steps(run) == [1, 2, 3]


def test_a_dead_store_is_not_asked_at_every_event(tracked: Tracked) -> None:
    tracked.network.down = True
    tracked.train("a", [0.1, 0.2, 0.3])
    tracked.train("b", [0.1, 0.2, 0.3])
    assert tracked.network.tried == 1  # each try at a server that is away may take 20 s
    assert sorted(tracked.observer.missed) == [0, 1]
    tracked.network.down = False
    tracked.observer.catch_up_at_last(0)
    assert sorted(tracked.runs()) == [0, 1] and not tracked.observer.missed


def test_at_the_end_a_store_that_is_away_is_waited_for(tracked: Tracked, caplog: pytest.LogCaptureFixture) -> None:
    tracked.network.down, tracked.network.up_at_s = True, 12
    tracked.train("a", [0.1, 0.2, 0.3])
    tracked.train("b", [0.1, 0.2, 0.3])
    tracked.observer.catch_up_at_last(60)
    assert tracked.network.now_s == 15 and not tracked.observer.missed
    runs = tracked.runs()
    assert [(run.info.status, tracked.steps(run)) for run in runs.values()] == [("FINISHED", [1, 2, 3])] * 2
    assert caplog.text.count("trial 0000 will be written to MLflow later") == 1
    assert caplog.text.count("waiting 60 s at most for the MLflow store") == 1


def test_a_store_that_stays_away_is_not_waited_for_any_longer(
    tracked: Tracked, caplog: pytest.LogCaptureFixture
) -> None:
    tracked.network.down = True
    tracked.train("a", [0.1, 0.2, 0.3])
    tracked.observer.catch_up_at_last(60)
    assert tracked.network.now_s == 60 and sorted(tracked.observer.missed) == [0]
    assert "missing in MLflow until the sweep is resumed: trials 0000" in caplog.text


def test_a_trial_that_the_store_refuses_holds_up_no_other(
    tracked: Tracked, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    tracked.network.down = True
    tracked.train("a", [0.1, 0.2, 0.3])
    tracked.train("b", [0.1, 0.2, 0.3])
    tracked.network.down = False
    log_artifact = tracked.recorder.client.log_artifact

    def refuse_the_first(run: str, path: str) -> None:
        if "/0000/" in path:
            raise MlflowException("too large")
        log_artifact(run, path)

    monkeypatch.setattr(tracked.recorder.client, "log_artifact", refuse_the_first)
    tracked.observer.catch_up_at_last(60)
    assert tracked.network.now_s == 0 and sorted(tracked.observer.missed) == [0]
    assert tracked.runs()[1].info.status == "FINISHED"
    assert "missing in MLflow until the sweep is resumed: trials 0000" in caplog.text


def test_synchronizing_twice_writes_nothing_twice(tracked: Tracked) -> None:
    tracked.train("a", [0.1, 0.2, 0.3])
    for _ in range(2):
        again = TrackingObserver(
            SweepRecorder(tracked.uri, tracked.name, tracked.name, "1", {}), tracked.search.files, lambda number: True
        )
        again.synchronize(tracked.search.records())
    ((number, run),) = tracked.runs().items()
    assert number == 0 and tracked.steps(run) == [1, 2, 3]


def test_the_end_of_the_sweep_outlives_a_dead_store(tracked: Tracked, caplog: pytest.LogCaptureFixture) -> None:
    tracked.network.down = True
    tracked.observer.write(lambda: tracked.recorder.end_sweep("FINISHED", {}, []), "the end of the sweep")
    assert "the end of the sweep is missing in MLflow until the sweep is resumed: Connection refused" in caplog.text


def test_a_lost_artifact_folder_is_not_the_end(tracked: Tracked, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*arguments: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(tracked.recorder.client, "log_artifact", full)
    tracked.train("a", [0.1, 0.2, 0.3])
    assert tracked.search.records()[0].outcome == "completed" and sorted(tracked.observer.missed) == [0]
