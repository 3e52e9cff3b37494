"""A sweep that keeps its checkpoints on an S3 server as well: what a lost disk takes comes back from there."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

pytestmark = pytest.mark.slow

EPOCHS = 3
URL = "s3://bucket/sweeps"


@pytest.fixture(scope="module")
def interrupted(s3: str, shared_workplace: Any, wait: Callable[..., None]) -> Iterator[Any]:
    """A sweep of two trials, killed after the first epoch of its second trial."""
    place = shared_workplace
    place.environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    place.synthesize()
    place.write_sweep(
        {"epochs": EPOCHS, "batch_size": 1},
        {"lr": {"float": [1e-5, 1e-3], "log": True}},
        budget={"trials": 2, "concurrent": 1},
        storage={"path": "runs", "keep_checkpoints": 1, "checkpoints": URL},
    )
    process = place.start("run", "sweep.yaml")
    wait(
        lambda: place.run_folder.exists and any(record.number == 1 and record.scores for record in place.records()),
        process,
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert place.leftovers() == []
    yield place


def stored() -> dict[str, list[str]]:
    """Trial -> names of its weights in the store."""
    system, root = fsspec.core.url_to_fs(URL)
    system.invalidate_cache()
    found: dict[str, list[str]] = {}
    for path in sorted(system.find(root)):
        folder, name = Path(path).parent.name, Path(path).name
        found.setdefault(folder, []).extend([name] if name.endswith(".pth") else [])
    return found


def test_a_trial_whose_disk_is_lost_goes_on_from_the_store(interrupted: Any) -> None:
    place = interrupted
    done = place.history_epochs(1)
    assert 1 <= len(done) < EPOCHS
    assert [name.partition("-")[0] for name in stored()["0001"]] == ["best", "last"]
    shutil.rmtree(place.run_folder.trial(1).directory)
    place.run("resume", "tiny")
    assert {record.outcome for record in place.records()} == {"completed"}
    assert place.history_epochs(1) == list(range(1, EPOCHS + 1))
    resumed = re.search(r"resumed epoch: (\d+)", place.run_folder.trial(1).log.read_text())
    assert resumed is not None and int(resumed[1]) >= 1  # not from the beginning


def test_only_the_best_trials_weights_stay(interrupted: Any) -> None:
    ranked = json.loads(interrupted.run("best", "tiny", "--json").stdout)
    best, other = (f"{row['trial']:04d}" for row in ranked)
    assert [name.partition("-")[0] for name in stored()[best]] == ["best"]
    assert stored()[other] == []


def test_weights_that_are_not_here_are_fetched(interrupted: Any) -> None:
    number = json.loads(interrupted.run("best", "tiny", "--json").stdout)[0]["trial"]
    weights = interrupted.run_folder.trial(number).best
    before = weights.read_bytes()
    weights.unlink()
    interrupted.run("predict", "tiny", "--role", "test", "--out", "predicted")
    assert weights.read_bytes() == before
    weights.unlink()
    interrupted.run("ensemble", "tiny", "--top", "1")
    assert weights.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused_before_anything_starts(interrupted: Any) -> None:
    sweep = interrupted.folder / "sweep.yaml"
    (interrupted.folder / "other.yaml").write_text(
        sweep.read_text().replace("name: tiny", "name: other").replace("s3://bucket", "s3://nobucket")
    )
    refused = interrupted.run("run", "other.yaml", expect=2)
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert "s3://nobucket/sweeps/other-" in line and "a place for checkpoints that can be written" in line
    assert not (interrupted.folder / "runs" / "other").exists()
