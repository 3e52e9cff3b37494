"""A sweep that is cut short, by SIGKILL, Ctrl-C or SIGTERM, and taken up again: no trial twice, none lost."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

TRIALS = 40
SPACE = {"lr": {"float": [1e-5, 1e-3], "log": True}}


def ended(place: Any) -> int:
    return sum(record.ended for record in place.records()) if place.run_folder.exists else 0


def test_a_driver_killed_in_the_middle_of_40_trials_is_resumed_to_exactly_40(
    workplace: Any, wait: Callable[..., None]
) -> None:
    workplace.synthesize(images=2)
    workplace.write_sweep({"epochs": 1, "batch_size": 1}, SPACE, budget={"trials": TRIALS, "concurrent": 2})
    process = workplace.start("run", "sweep.yaml")
    wait(lambda: ended(workplace) >= TRIALS // 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert workplace.leftovers() == []
    before = {record.number: record for record in workplace.records()}
    assert TRIALS // 2 <= sum(record.ended for record in before.values()) < TRIALS
    assert any(not record.ended for record in before.values())

    shown = json.loads(workplace.run("best", "tiny", "--top", "50", "--json").stdout)
    assert len(shown) >= TRIALS // 2
    resumed = workplace.run("resume", "tiny")
    assert workplace.leftovers() == []
    assert f"{TRIALS} trials ({sum(record.ended for record in before.values())} have ended)" in resumed.stdout

    after = {record.number: record for record in workplace.records()}
    assert len(after) == TRIALS and Counter(record.outcome for record in after.values()) == {"completed": TRIALS}
    for number, record in before.items():
        assert after[number].config == record.config
        if record.ended:
            assert after[number] == record
    in_study = [trial for trial in workplace.run_folder.study().get_trials() if trial.number in after]
    assert {trial.state for trial in in_study} == {optuna.trial.TrialState.COMPLETE}
    assert len({record.sample["lr"] for record in after.values()}) == TRIALS  # no point was drawn again
    assert_mlflow_agrees(workplace, after)


def assert_mlflow_agrees(place: Any, records: dict[int, Any]) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{place.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    kinds = Counter(run.data.tags["segsweep.kind"] for run in runs)
    assert kinds == {"sweep": 1, "trial": len(records)}
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.data.tags["segsweep.kind"] == "trial":
            record = records[int(run.data.tags["segsweep.trial"])]
            history = client.get_metric_history(run.info.run_id, "segm_mAP")
            assert [(entry.step, entry.value) for entry in history] == list(record.scores.items())
            assert run.data.tags["segsweep.outcome"] == record.outcome


def test_ctrl_c_and_sigterm_end_a_sweep_cleanly_and_say_how_to_go_on(workplace: Any, wait: Callable[..., None]) -> None:
    workplace.synthesize()
    workplace.write_sweep({"epochs": 200, "batch_size": 1}, SPACE, budget={"trials": 3, "concurrent": 2})
    for command, send in ((("run", "sweep.yaml"), ctrl_c), (("resume", "tiny"), sigterm)):
        known = sum(len(record.scores) for record in workplace.records()) if workplace.run_folder.exists else 0
        process = workplace.start(*command)
        wait(lambda: workplace.run_folder.exists and new_epochs(workplace, known), process)  # noqa: B023
        send(process.pid)
        out, err = process.communicate(timeout=60)  # seconds on an idle machine; the trials have 200 epochs left
        assert process.returncode == 130, out + err
        assert err.splitlines() == [f"interrupted; go on with: segsweep resume {workplace.run_folder.path}"]
        assert workplace.leftovers() == []
        assert all(not record.ended for record in workplace.records())


def new_epochs(place: Any, known: int) -> bool:
    return sum(len(record.scores) for record in place.records()) > known


def ctrl_c(pid: int) -> None:
    """A terminal sends SIGINT to the whole process group."""
    os.killpg(pid, signal.SIGINT)


def sigterm(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
