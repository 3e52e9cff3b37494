"""The path that a user takes: run, best, ensemble, and what the commands say once a sweep has finished.

Trials at lr 1e-7 score below those at 1e-3 after the first epoch, so that ASHA stops each one that comes later.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ensembling import read_ensemble
from segdata.predictions import PredictionSet

pytestmark = pytest.mark.slow

TRIALS = 5


@pytest.fixture(scope="module")
def swept(shared_workplace: Any) -> Any:
    place = shared_workplace
    place.synthesize()
    place.write_sweep(
        {"epochs": 3},
        {"lr": {"choice": [1e-7, 1e-3]}},
        budget={"trials": TRIALS, "concurrent": 2},
        search={
            "scheduler": {"asha": {"grace_epochs": 1, "reduction_factor": 2}},
            "points": [{"lr": 1e-3}, {"lr": 1e-3}, {"lr": 1e-7}, {"lr": 1e-7}],
        },
        storage={"keep_checkpoints": 3, "keep_epochs": 2},
    )
    place.ran = place.run("run", "sweep.yaml")
    return place


def mlflow_runs(place: Any, kind: str) -> list[Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{place.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`segsweep.kind` = '{kind}'"))


def test_every_trial_ends_and_at_least_one_was_stopped_early(swept: Any) -> None:
    records = swept.records()
    assert len(records) == TRIALS and records[0].origin == "baseline"
    assert {record.outcome for record in records} == {"completed", "stopped"}
    for record in records:
        last = max(record.scores)
        assert last == 3 if record.outcome == "completed" else last < 3
    assert all(record.sample["lr"] == 1e-7 for record in records if record.outcome == "stopped")


def test_a_line_a_trial_and_a_table_that_fits_80_columns(swept: Any) -> None:
    lines = swept.ran.stdout.splitlines()
    assert sum(line.startswith("[") for line in lines) == TRIALS
    table = lines[lines.index(next(line for line in lines if line.startswith("tiny: best trials"))) :]
    assert max(len(line) for line in table[: TRIALS + 2]) <= 80
    assert swept.ran.stderr.splitlines() == [f"next: segsweep ensemble {swept.run_folder.path} --top 3"]


def test_best_ranks_by_the_best_epoch(swept: Any) -> None:
    rows = json.loads(swept.run("best", "tiny", "--top", "2", "--json").stdout)
    ranked = sorted(swept.records(), key=lambda record: (-record.best_score, record.number))
    assert [row["trial"] for row in rows] == [record.number for record in ranked[:2]]
    assert rows[0]["segm_mAP"] == max(max(record.scores.values()) for record in swept.records())
    assert rows[0]["parameters"] == {"lr": 1e-3}


def test_only_the_best_trials_keep_their_weights(swept: Any) -> None:
    ranked = sorted(swept.records(), key=lambda record: (-record.best_score, record.number))
    kept = [swept.run_folder.trial(record.number).best.is_file() for record in ranked]
    assert kept == [True] * 3 + [False] * (TRIALS - 3)
    assert not any(swept.run_folder.trial(record.number).last.exists() for record in ranked)
    for place, record in enumerate(ranked):
        late = tuple(epoch for epoch in (2, 3) if epoch in record.scores)  # of the second half of three
        assert swept.run_folder.trial(record.number).kept_epochs() == (late if place < 3 else ())


def test_mlflow_holds_the_sweep_its_trials_and_their_files(swept: Any) -> None:
    (sweep,) = mlflow_runs(swept, "sweep")
    trials = mlflow_runs(swept, "trial")
    assert sweep.info.status == "FINISHED" and sweep.data.metrics["trials"] == TRIALS
    assert sorted(int(trial.data.tags["segsweep.trial"]) for trial in trials) == list(range(TRIALS))
    by_number = {int(trial.data.tags["segsweep.trial"]): trial for trial in trials}
    client = MlflowClient(tracking_uri=f"sqlite:///{swept.folder}/mlflow.db")
    for record in swept.records():
        run = by_number[record.number]
        assert run.data.tags["mlflow.parentRunId"] == sweep.info.run_id
        assert run.data.tags["segsweep.outcome"] == record.outcome
        assert run.data.params == {"lr": str(record.sample["lr"])}
        history = {entry.step: entry.value for entry in client.get_metric_history(run.info.run_id, "segm_mAP")}
        assert history == record.scores
        names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert {"config.py", "history.jsonl", "train.log"} <= names
    best = max(swept.records(), key=lambda record: record.best_score)
    assert "best.pth" in {entry.path for entry in client.list_artifacts(by_number[best.number].info.run_id)}


def test_an_ensemble_is_scored_beside_its_members(swept: Any) -> None:
    result = json.loads(swept.run("ensemble", "tiny", "--top", "2", "--json").stdout)
    assert (result["role"], result["chosen_on"]) == ("test", "val")
    assert [row["name"] for row in result["rows"]][2:] == ["wbf of all", "wbf chosen"]
    chosen = result["rows"][3]["selection"]
    assert chosen["score"] >= chosen["best_single"]["score"]
    out = swept.run_folder.ensembles / "test-top2" / "wbf-chosen"
    assert PredictionSet.open(out / "predictions").meta.task == "instance"
    assert read_ensemble(out).scores["wbf chosen"]["segm_mAP"] == result["rows"][3]["scores"]["segm_mAP"]
    ensembles = mlflow_runs(swept, "ensemble")
    assert [run.data.params["method"] for run in ensembles] == ["wbf", "wbf"]
    shown = swept.run("ensemble", "tiny", "--top", "2")
    assert max(len(line) for line in shown.stdout.splitlines() if not line.startswith(("predictions", "label"))) <= 80
    assert "the best single member on test" in shown.stdout
    assert f"segsweep predict --ensemble {swept.run_folder.ensembles}/test-top2/wbf-" in shown.stdout


def test_methods_and_settings_of_an_ensemble_can_be_named(swept: Any) -> None:
    methods = ("mask-fusion", "nms", "soft-nms", "nmw")
    named = [argument for method in methods for argument in ("--method", method)]
    settings = ("--setting", "overlap=box", "--setting", "sigma=0.25")
    result = json.loads(swept.run("ensemble", "tiny", "--top", "2", *named, *settings, "--json").stdout)
    names = [f"{method} {kind}" for method in methods for kind in ("of all", "chosen")]
    assert [row["name"] for row in result["rows"][2:]] == names
    for row in result["rows"][2:]:
        if row["selection"]["fell_back"]:  # one candidate stands as it is, whatever the settings
            continue
        settings_used = read_ensemble(Path(row["predictions"]).parent).settings
        assert (settings_used.overlap, settings_used.sigma) == ("box", 0.25)
    refused = swept.run("ensemble", "tiny", "--setting", "overlap=boxes", expect=2)
    assert "--setting overlap: expected 'mask' or 'box', but got 'boxes'" in refused.stderr


def test_an_ensemble_of_more_than_were_kept_says_so(swept: Any) -> None:
    refused = swept.run("ensemble", "tiny", "--top", "4", expect=2)
    assert "expected 4 trials with weights, but got 3" in refused.stderr


def test_resuming_a_finished_sweep_changes_nothing(swept: Any) -> None:
    before = swept.records()
    resumed = swept.run("resume", "tiny")
    assert f"tiny has finished: all {TRIALS} trials have ended" in resumed.stdout
    assert swept.records() == before
    assert len(mlflow_runs(swept, "sweep")) == 1 and len(mlflow_runs(swept, "trial")) == TRIALS
    assert len(list((swept.run_folder.path / "tune").iterdir())) == 1


def test_running_a_finished_sweep_again_is_refused(swept: Any) -> None:
    refused = swept.run("run", "sweep.yaml", expect=2)
    assert "expected a new name, but 'tiny' is a sweep that has finished" in refused.stderr
    assert "segsweep best" in refused.stderr


def test_no_process_is_left(swept: Any) -> None:
    assert swept.leftovers() == []
