"""A sweep that has ended goes on with a larger budget; its sweep file stays as it was."""

import json
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.slow


def test_a_finished_sweep_goes_on_with_more_trials(workplace: Any) -> None:
    workplace.synthesize(images=2)
    workplace.write_sweep(
        {"epochs": 1, "batch_size": 1},
        {"lr": {"choice": [1e-4, 2e-4, 5e-4, 1e-3]}},
        budget={"trials": 2, "concurrent": 2},
        search={"sampler": "grid"},
    )
    workplace.run("run", "sweep.yaml")
    before = workplace.records()
    recorded = workplace.run_folder.sweep_file.read_bytes()
    again = workplace.run("run", "sweep.yaml", expect=2)
    assert f"segsweep resume {workplace.run_folder.path} --trials +10" in again.stderr.replace("\n", " ")

    extended = workplace.run("run", "sweep.yaml", "--trials", "+1")
    assert "3 trials (2 have ended)" in extended.stdout
    assert workplace.records()[:2] == before and len(workplace.records()) == 3
    assert workplace.run_folder.sweep_file.read_bytes() == recorded
    assert workplace.run_folder.study().user_attrs["budget"] == {"trials": 3}
    assert "has finished: all 3 trials have ended" in workplace.run("resume", "tiny").stdout

    workplace.run("resume", "tiny", "--trials", "100")  # of a grid of four
    assert len({record.sample["lr"] for record in workplace.records()}) == len(workplace.records()) == 4
    last = workplace.run("resume", "tiny")
    assert "has finished: all 4 combinations of the grid have been tried" in last.stdout
    refused = workplace.run("resume", "tiny", "--trials", "many", expect=2)
    assert "--trials: expected a whole number, or + and a whole number, but got 'many'. Write 80 or +40." in " ".join(
        refused.stderr.split()
    )


@pytest.mark.long
def test_patience_ends_a_sweep_which_says_so_and_goes_on_with_more(workplace: Any) -> None:
    workplace.synthesize(images=2)
    workplace.write_sweep(
        {"epochs": 1, "batch_size": 1},
        {"lr": {"float": [1e-5, 2e-5]}},  # too little to learn anything: no score is better than the first
        budget={"trials": 50, "concurrent": 1, "patience": 2},
    )
    ended = workplace.run("run", "sweep.yaml", "--json")
    assert "2 trials ended without a better score (patience); for more: segsweep resume" in " ".join(
        ended.stderr.split()
    )
    assert json.loads(ended.stdout)
    number = len(workplace.records())
    assert number < 50 and all(record.ended for record in workplace.records())
    end = workplace.run_folder.study().user_attrs["end"]
    assert end == {"kind": "out-of-patience", "reason": "2 trials ended without a better score (patience)"}
    client = MlflowClient(f"sqlite:///{workplace.folder}/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name != "Default"]
    (sweep,) = client.search_runs([experiment.experiment_id], "tags.`segsweep.kind` = 'sweep'")
    assert sweep.data.tags["segsweep.end"] == end["kind"] and sweep.data.tags["segsweep.end_reason"] == end["reason"]
    assert "has finished: 2 trials ended without a better score" in workplace.run("resume", "tiny").stdout
    workplace.run("resume", "tiny", "--patience", "+1")
    assert len(workplace.records()) > number


@pytest.mark.long
def test_hours_end_a_launch_within_a_minute_with_what_was_found(workplace: Any) -> None:
    workplace.synthesize(images=4)
    workplace.write_sweep(
        {"epochs": 5000, "batch_size": 1},
        {"lr": {"float": [1e-4, 1e-3]}},
        budget={"trials": 3, "concurrent": 2, "hours": 0.03},
    )
    ended = workplace.run("run", "sweep.yaml")
    records = workplace.records()
    assert [record.outcome for record in records] == ["stopped"] * len(records) and 1 <= len(records) <= 3
    assert {record.reason for record in records} == {"the time of the sweep was up"}
    assert all(record.best_epoch is not None and record.ended for record in records)
    assert all(workplace.run_folder.trial(record.number).best.is_file() for record in records)
    over = f"the 0.03 h of the budget are over after {len(records)} of 3 trials"
    assert f"{over}; for as long again: segsweep resume" in " ".join(ended.stderr.split())
    assert workplace.leftovers() == []
