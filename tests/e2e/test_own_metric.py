"""A sweep for a metric of the user's own, of which less is better, through all commands that show a score."""

import json
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow

TRIALS = 3
METRIC = """\
from limits_of_mine import MOST

def missing(truth, found):
    sure = sum(result["score"] > 0.5 for result in found)
    return min(MOST, abs(len(truth["annotations"]) - sure))
"""


@pytest.fixture(scope="module")
def swept(shared_workplace: Any) -> Any:
    place = shared_workplace
    place.synthesize()
    (place.folder / "my_metric.py").write_text(METRIC)
    (place.folder / "limits_of_mine.py").write_text("MOST = 1000.0\n")
    place.write_sweep(
        {"epochs": 2},
        {"lr": {"choice": [1e-7, 1e-2]}},
        budget={"trials": TRIALS - 1, "concurrent": 2},
        metric="my_metric.py:missing",
        mode="min",
        search={"scheduler": {"asha": {"grace_epochs": 1, "reduction_factor": 2}}, "seed": 5},
    )
    place.run("run", "sweep.yaml")
    (place.folder / "my_metric.py").write_text("def missing(truth, found):\n    return -1\n")  # changes nothing
    place.run("resume", "tiny", "--trials", "+1")
    return place


def test_the_best_trial_is_the_one_with_the_least(swept: Any) -> None:
    rows = json.loads(swept.run("best", "tiny", "--json").stdout)
    values = [row["missing"] for row in rows]
    assert len(rows) == TRIALS and values == sorted(values) and min(values) >= 0
    for row in rows:
        history = [scores.scores for scores in swept.run_folder.trial(row["trial"]).read_history()]
        assert row["missing"] == min(scores["missing"] for scores in history)
        assert all({"segm_mAP", "bbox_mAP"} <= set(scores) for scores in history)


def test_mlflow_has_it_beside_the_stock_scores(swept: Any) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{swept.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (sweep,) = [run for run in runs if run.data.tags["segsweep.kind"] == "sweep"]
    best = json.loads(swept.run("best", "tiny", "--json").stdout)[0]["missing"]
    assert sweep.data.metrics["best_missing"] == best
    assert (sweep.data.tags["segsweep.metric"], sweep.data.tags["segsweep.mode"]) == ("missing", "min")
    trials = [run for run in runs if run.data.tags["segsweep.kind"] == "trial"]
    assert len(trials) == TRIALS and all({"missing", "segm_mAP"} <= set(run.data.metrics) for run in trials)


def test_an_ensemble_is_judged_by_it(swept: Any) -> None:
    result = json.loads(swept.run("ensemble", "tiny", "--top", "2", "--json").stdout)
    scores = {row["name"]: row["scores"]["missing"] for row in result["rows"]}
    assert result["metric"] == "missing" and list(scores)[2:] == ["wbf of all", "wbf chosen"]
    assert result["gain"] == min(list(scores.values())[:2]) - scores[result["chosen"]]
    assert all(row["interval"] is None for row in result["rows"])
    chosen = result["rows"][3]["selection"]
    assert chosen["score"] <= chosen["best_single"]["score"]  # less is better


def test_a_metric_that_fails_later_crashes_its_trials_and_the_sweep_goes_on(swept: Any) -> None:
    """It fails as soon as there are finds that are not sure, which neither perfect predictions nor none have."""
    (swept.folder / "my_metric.py").write_text(
        "def missing(truth, found):\n"
        "    unsure = [result for result in found if result['score'] < 1]\n"
        "    return len(truth['annotations']) - len(found) if not unsure else 1 / 0\n"
    )
    text = (swept.folder / "sweep.yaml").read_text()
    (swept.folder / "failing.yaml").write_text(text.replace("name: tiny", "name: failing"))
    done = swept.run("run", "failing.yaml", expect=1)
    assert done.stdout.count("my_metric.py:3: expected a metric that returns, but got ZeroDivisionError") == TRIALS - 1
