"""What a trial that has ended leaves with Ray Tune: hardly any memory, no files, no writing of all trials' state."""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.experiment.trial import _CheckpointManager, _TrainingRunMetadata
from rich.console import Console

from search_spaces.space import Space
from search_spaces.trial_config import TrialConfig
from segsweep import tuning
from segsweep.ended_trials import EndedTrials, drop_pointers
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources
from segsweep.search.searcher import without_none

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search


def test_pointers_go_and_an_error_stays(tmp_path: Path) -> None:
    for name in ("0000-a", "0001-b"):
        for pointer in ("checkpoint_000000", "checkpoint_000001"):
            (tmp_path / name / pointer).mkdir(parents=True)
            (tmp_path / name / pointer / "checkpoint.json").write_text("{}")
    (tmp_path / "0001-b" / "error.txt").write_text("a lost worker")
    for name in ("0000-a", "0001-b", "0002-never-made"):
        drop_pointers(tmp_path / name)
    left = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))]
    assert left == ["0000-a", "0001-b", "0001-b/error.txt"]


def test_tune_gathers_results_where_we_let_go_of_them(tmp_path: Path) -> None:
    metadata = _TrainingRunMetadata()
    assert {"last_result", "metric_analysis", "metric_n_steps", "checkpoint_manager"} <= set(vars(metadata))
    metadata.checkpoint_manager = _CheckpointManager(checkpoint_config=None)
    metadata.update_metric("segm_mAP", 0.5)
    metadata.last_result = {"segm_mAP": 0.5}
    trial: Any = SimpleNamespace(run_metadata=metadata, path=str(tmp_path))
    before = metadata.checkpoint_manager
    EndedTrials().on_trial_complete(1, [], trial)
    assert (metadata.last_result, metadata.metric_analysis, metadata.metric_n_steps) == ({"done": True}, {}, {})
    assert metadata.checkpoint_manager is not before and not metadata.checkpoint_manager.best_checkpoint_results


def test_a_config_without_its_nones_reads_the_same(space_of: Callable[..., Space]) -> None:
    space = space_of({"lr": {"float": [1e-5, 1e-1], "log": True}}, image_width=64)
    config = space.decode({"lr": 0.01})
    short = without_none(config.to_dict())
    assert TrialConfig.from_dict(short) == config
    assert short["optimization"] == {"lr": 0.01} and short["model"]["name"] == "mask-rcnn"
    plain = TrialConfig()
    for group in fields(plain):  # why that is so: what may be None is None by default
        value = getattr(plain, group.name)
        if not isinstance(value, tuple):
            assert all("None" not in str(item.type) or item.default is None for item in fields(value)), group.name


@pytest.fixture
def on_ray() -> Iterator[None]:
    with ray_session(None, Console(file=io.StringIO())):
        yield


@pytest.mark.slow
def test_tune_writes_the_state_of_all_trials_at_both_ends_of_a_launch_only(
    search: Callable[..., "Search"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_ray: None
) -> None:
    def stand_in(config: Mapping[str, Any], context: Any) -> None:
        """Three epochs within moments, each with the pointer that a training hands over."""
        from trainables.ray_trainable import report
        from trainables.trial_files import EpochScores, Outcome, TrialFiles

        files = TrialFiles(context.trials / f"{config['number']:04d}")
        files.directory.mkdir(parents=True, exist_ok=True)
        for epoch in range(1, 4):
            report(files, EpochScores(epoch, {"segm_mAP": epoch / 10}))
        files.write_outcome(Outcome("completed"))

    writes: list[int] = []
    trials: list[Trial] = []
    save = TuneController.save_to_dir
    monkeypatch.setattr(
        TuneController, "save_to_dir", lambda self: (writes.append(len(self.get_trials())), save(self))[1]
    )
    complete = EndedTrials.on_trial_complete
    monkeypatch.setattr(
        EndedTrials,
        "on_trial_complete",
        lambda self, **info: (trials.append(info["trial"]), complete(self, **info))[1],
    )
    monkeypatch.setattr(tuning, "train_trial", stand_in)
    one = search(budget=8)
    context: Any = SimpleNamespace(trials=tmp_path / "trials", max_failures=0)
    tuning.tuner_of(one.searcher, context, TrialResources(0.5, 0, 2), tmp_path / "tune" / "launch-000").fit()
    assert [record.outcome for record in one.records()] == ["completed"] * 8
    assert all(len(record.scores) == 3 for record in one.records())
    assert len(writes) == 2 and writes[0] <= 2 and writes[1] == 8  # 24 epochs, of which none is one
    assert len(trials) == 8 and all(trial.metric_analysis == {} for trial in trials)
    assert all(set(trial.last_result) == {"done", "trial_id"} for trial in trials)
    assert not list((tmp_path / "tune").rglob("checkpoint*"))
