"""What must hold of a sweep when its driver has ended, whatever went wrong before: the same after every fault."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping

import psutil
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from segsweep.search.study import TrialRecord
from tests.cluster.cluster import Cluster
from tests.cluster.lab import OPERATOR, cmdline

__all__ = ["check", "history_epochs", "mlflow_runs", "repeated_epochs", "resumed_epochs", "trial_processes"]

STATUS = {"completed": "FINISHED", "stopped": "FINISHED", "crashed": "FAILED", "failed": "FAILED"}


def check(cluster: Cluster, sweep: str, struck: Mapping[int, int] | None = None) -> tuple[TrialRecord, ...]:
    """Asserts that nothing is lost, double or left over.

    Args:
        cluster: Where it ran.
        sweep: Its name.
        struck: Trial -> how often a fault met it so far; each may cost one epoch that had no checkpoint yet.

    Returns:
        The trials.
    """
    records = cluster.records(sweep)
    assert all(record.ended for record in records), [record.outcome for record in records]
    assert [record.number for record in records] == list(range(len(records)))
    assert all(record.reason for record in records if record.outcome != "completed")
    for record in records:
        assert_history_agrees(cluster, sweep, record)
        assert repeated_epochs(cluster, sweep, record.number) <= (struck or {}).get(record.number, 0), record.number
    assert_mlflow_agrees(cluster, sweep, records)
    cluster.lab.wait_until(lambda: not trial_processes(cluster), f"the end of {trial_processes(cluster)}")
    return records


def history_epochs(cluster: Cluster, sweep: str, number: int) -> list[int]:
    """Returns the epochs in a trial's history as they were written, repetitions included; none before the first."""
    path = cluster.run_folder(sweep).trial(number).history
    whole = path.read_text().rpartition("\n")[0] if path.is_file() else ""
    return [json.loads(line)["epoch"] for line in whole.splitlines()]


def repeated_epochs(cluster: Cluster, sweep: str, number: int) -> int:
    """Returns how many epochs of a trial were trained to their end once more."""
    epochs = history_epochs(cluster, sweep, number)
    return len(epochs) - len(set(epochs))


def resumed_epochs(cluster: Cluster, sweep: str, number: int) -> list[int]:
    """Returns the epochs after which a trial went on, by its own log."""
    log = cluster.run_folder(sweep).trial(number).log.read_text(errors="replace")
    return [int(epoch) for epoch in re.findall(r"resumed epoch: (\d+)", log)]


def assert_history_agrees(cluster: Cluster, sweep: str, record: TrialRecord) -> None:
    """Asserts that study and trial folder tell the same epochs and scores, and a completed trial all of them."""
    written = {row.epoch: row.scores["mIoU"] for row in cluster.run_folder(sweep).trial(record.number).read_history()}
    assert dict(record.scores) == written, record.number
    if record.outcome == "completed":
        assert sorted(written) == list(range(1, record.planned_epochs + 1)), record.number


def assert_mlflow_agrees(cluster: Cluster, sweep: str, records: tuple[TrialRecord, ...]) -> None:
    """Asserts that MLflow has one run of the sweep and of each trial, with each epoch once."""
    client, runs = mlflow_runs(cluster, sweep)
    assert Counter(run.data.tags["segsweep.kind"] for run in runs) == {"sweep": 1, "trial": len(records)}
    trials = {int(run.data.tags["segsweep.trial"]): run for run in runs if "segsweep.trial" in run.data.tags}
    for record in records:
        run = trials[record.number]
        history = client.get_metric_history(run.info.run_id, "mIoU")
        assert {entry.step: entry.value for entry in history} == dict(record.scores)
        assert len(history) == len(record.scores)
        assert (run.info.status, run.data.tags["segsweep.outcome"]) == (STATUS[record.outcome], record.outcome)


def mlflow_runs(cluster: Cluster, sweep: str) -> tuple[MlflowClient, list[Run]]:
    """Returns a reader of the server's store, and what that holds of a sweep."""
    # SQLite would resolve the way into the hub to a path that is not there outside.
    copy = cluster.logs / f"mlflow-{len(list(cluster.logs.glob('mlflow-*.db')))}.db"
    shutil.copyfile(cluster.lab.inside(OPERATOR) / "mlflow.db", copy)
    client = MlflowClient(tracking_uri=f"sqlite:///{copy}")
    experiment = client.get_experiment_by_name("lab")
    if experiment is None:
        return client, []
    found = client.search_runs([experiment.experiment_id], f"tags.`segsweep.sweep` = '{sweep}'", max_results=1000)
    return client, list(found)


def trial_processes(cluster: Cluster) -> list[str]:
    """Returns what still lives on any host of a trial or a driver; Ray's own processes stay for the next one."""
    of_trials = re.compile(r"forkserver|multiprocessing|/bin/segsweep |train_trial|ImplicitFunc")
    return [
        f"{host.name}: {command}"
        for host in cluster.lab.hosts
        for process in host.processes()
        if of_trials.search(command := " ".join(cmdline(process))) and not is_of_dashboard(process)
    ] + [f"{host.name}: trial {number}" for number, host, _ in cluster.trainers()]


def is_of_dashboard(process: psutil.Process) -> bool:
    """Tells whether a process is of Ray's dashboard, which has a fork server of its own; or is gone."""
    try:
        return any(word.endswith("/ray/dashboard/dashboard.py") for one in process.parents() for word in cmdline(one))
    except psutil.NoSuchProcess:
        return True
