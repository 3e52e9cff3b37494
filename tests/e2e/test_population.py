"""A sweep with `scheduler: pbt` that trains, is killed, goes on, and shows in MLflow what changed in flight."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from segdata.synthetic import synthesize

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 5, 4


def write_sweep(workplace: Any) -> None:
    synthesize("litter", workplace.folder / "data", images=8, size=64)
    role = {"labels": "data/labels", "images": "data/images"}
    values = {
        "name": "tiny",
        "task": "semantic",
        "data": {"train": role, "val": role},
        "space": {
            "lr": {"float": [1e-6, 1e-2], "log": True},
            "weight_decay": {"float": [0.0, 0.1]},
            "brightness": {"float": [0.0, 1.0]},
        },
        "fixed": {
            "model": "segformer",
            "backbone": "mit-b0",
            "head_width": 0.125,
            "crop_size": 64,
            "optimizer": "adamw",
            "batch_size": 4,
            "epochs": EPOCHS,
            "schedule": "poly",
        },
        "search": {"sampler": "random", "scheduler": {"pbt": {"quantile": 0.5}}, "seed": 3},
        "budget": {"trials": TRIALS, "concurrent": 2},
    }
    (workplace.folder / "sweep.yaml").write_text(yaml.safe_dump(values))


def test_a_population_trains_is_killed_and_goes_on(workplace: Any, wait: Callable[..., None]) -> None:
    write_sweep(workplace)
    process = workplace.start("run", "sweep.yaml")
    wait(lambda: workplace.run_folder.exists and sum(len(one.scores) for one in workplace.records()) >= 8, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    workplace.end_all()
    workplace.run("resume", "tiny")

    records = workplace.records()
    assert [record.outcome for record in records] == ["completed"] * TRIALS
    takeovers = [mutation for record in records for mutation in record.mutations[1:]]
    assert len({mutation.epoch for mutation in takeovers}) >= 2 and len(records[0].mutations) == 1
    shares: dict[int, set[str]] = {}
    for record in records:
        rows = {row.epoch: row.scores for row in workplace.run_folder.trial(record.number).read_history()}
        assert sorted(rows) == list(range(1, EPOCHS + 1))
        for mutation in record.mutations:
            for epoch in range(mutation.epoch + 1, EPOCHS):
                later = [other for other in record.mutations if mutation.epoch < other.epoch < epoch]
                if not later:  # then these values are in force
                    share = rows[epoch]["lr"] / mutation.values["lr"]
                    shares.setdefault(epoch, set()).add(f"{share:.6g}")
        config = workplace.run_folder.trial(record.number).config.read_text()
        assert repr(record.in_force["lr"]) in config and repr(record.in_force["brightness"]) in config
    assert {epoch: len(found) for epoch, found in shares.items()} == {1: 1, 2: 1, 3: 1}  # one schedule for all
    folder = workplace.run_folder.path / "trials"
    assert not list(folder.glob("*/last.pth")) + list(folder.glob("*/states")) + list(folder.glob("*/handed-*"))
    assert_recorded(workplace, records)


def assert_recorded(workplace: Any, records: Any) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{workplace.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`segsweep.kind` = 'trial'")
    by_number = {int(run.data.tags["segsweep.trial"]): run for run in runs}
    for record in records:
        run = by_number[record.number]
        for name in ("lr", "weight_decay", "brightness"):
            history = [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, f"pbt/{name}")]
            assert history == [(mutation.epoch, mutation.values[name]) for mutation in record.mutations]
        donors = [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, "pbt/from")]
        assert donors == [(mutation.epoch, mutation.donor) for mutation in record.mutations[1:]]
        last = json.loads(run.data.tags["segsweep.mutations"])[-1]
        assert last == record.mutations[-1].to_dict()
        assert run.data.params["lr"] == str(record.sample["lr"])  # as it was drawn
    rows = json.loads(workplace.run("best", "tiny", "--json").stdout)
    assert {len(row["mutations"]) for row in rows} == {len(record.mutations) for record in records}
