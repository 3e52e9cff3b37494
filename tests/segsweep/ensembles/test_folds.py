"""Networks a fold, really trained: broken off, gone on with, kept, and what they predict out of fold."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from rich.console import Console

from segdata.errors import InputError, TrialError
from segdata.predictions import PredictionSet
from segscore.metrics import score_predictions
from segsweep.data_roles import read_roles
from segsweep.ensembles.folded_trial import FoldedTrial
from segsweep.ensembles.folds import train_folds
from segsweep.ensembles.out_of_fold import out_of_fold
from segsweep.predicting import How, predict_images
from segsweep.prediction_source import images_of_data
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep

pytestmark = pytest.mark.slow

EPOCHS, FOLDS = 2, 2
FAULT = """
from mmengine.runner import Runner

train = Runner.train

def train_or_break(runner):
    if "fold-1" in runner.work_dir:
        runner.register_hook(dict(type="BreakHook"))
    return train(runner)

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class BreakHook(Hook):
    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            raise ValueError("a fault of the user's")

Runner.train = train_or_break
"""


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def broken(
    begun: Callable[..., Sweep], record_of: Callable[..., TrialRecord], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Sweep, TrialRecord, str]:
    """A semantic sweep whose second fold broke off in its second epoch, and what was said."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "fault.py").write_text(FAULT)
    sweep, record = begun(folder, "semantic", 4, 2, custom_imports=["fault"]), record_of(1, "segformer", EPOCHS)
    with pytest.raises(TrialError) as told:
        train_folds(sweep, [record], FOLDS, quiet())
    (folder / "fault.py").write_text("")
    return sweep, record, str(told.value)


@pytest.fixture(scope="module")
def folded(broken: tuple[Sweep, TrialRecord, str]) -> tuple[FoldedTrial, str]:
    """The same sweep after the fault was put right: its trial's networks, and what the second call printed."""
    sweep, record, _ = broken
    first = (sweep.path / "folds" / "k2" / "0001" / "fold-0" / "best.pth").stat().st_mtime_ns
    console = quiet()
    (done,) = train_folds(sweep, [record], FOLDS, console)
    assert done.files[0].best.stat().st_mtime_ns == first  # the fold that was trained is not trained again
    assert isinstance(console.file, io.StringIO)
    return done, console.file.getvalue()


def test_a_fold_that_breaks_off_is_named_with_its_log(broken: tuple[Sweep, TrialRecord, str]) -> None:
    sweep, _, told = broken
    log = sweep.path / "folds" / "k2" / "0001" / "fold-1" / "train.log"
    assert told.startswith(
        f"{log}: expected fold 1 of trial 0001 to train to its end, but it ended: crashed: ValueError"
    )
    assert "a fault of the user's" in told


def test_what_is_missing_goes_on_from_its_last_epoch(folded: tuple[FoldedTrial, str]) -> None:
    done, printed = folded
    assert "training fold 1 of trial 0001" in printed and "training fold 0" not in printed
    for files in done.files:
        assert [row.epoch for row in files.read_history()] == [1, 2]
        assert len(files.history.read_text().splitlines()) == EPOCHS  # no epoch was trained again
        assert torch.load(files.best, weights_only=True)["meta"]["epoch"] == EPOCHS
        assert not files.last.exists() and files.config.is_file()


def test_a_second_call_trains_nothing(folded: tuple[FoldedTrial, str], broken: tuple[Sweep, TrialRecord, str]) -> None:
    sweep, record, _ = broken
    console = quiet()
    (again,) = train_folds(sweep, [record], FOLDS, console)
    assert isinstance(console.file, io.StringIO) and console.file.getvalue() == ""
    assert again.pool.split == folded[0].pool.split
    assert [network.trial for network in again.networks] == ["0001-fold-0", "0001-fold-1"]


def test_each_fold_is_one_child_run_of_the_sweep(folded: tuple[FoldedTrial, str]) -> None:
    sweep = folded[0].sweep
    client = MlflowClient(tracking_uri=sweep.tracking_uri)
    experiment = client.get_experiment_by_name(sweep.project)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`segsweep.kind` = 'fold'")
    assert sorted(run.info.run_name for run in runs) == ["fold 0 of trial 0001", "fold 1 of trial 0001"]
    assert all(run.info.status == "FINISHED" and "mIoU" in run.data.metrics for run in runs)
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1


def test_networks_that_mlflow_has_missed_are_written_by_the_next_call_which_outlives_a_lost_store(
    folded: tuple[FoldedTrial, str],
    broken: tuple[Sweep, TrialRecord, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise MlflowException("Connection refused")

    sweep, record, _ = broken
    client = MlflowClient(tracking_uri=sweep.tracking_uri)
    experiment = client.get_experiment_by_name(sweep.project)
    assert experiment is not None
    query = "tags.`segsweep.fold` = '1 of 2'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    client.delete_run(run.info.run_id)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "get_experiment_by_name", refused)
        train_folds(sweep, [record], FOLDS, quiet())
    (line,) = caplog.messages
    assert line.startswith(
        "fold 0 of trial 0001 and 1 more are missing in MLflow until the same command is run again: tracking.uri"
    )
    for _ in range(2):
        train_folds(sweep, [record], FOLDS, quiet())
    (again,) = client.search_runs([experiment.experiment_id], query)
    assert again.info.run_id != run.info.run_id and again.data.params == run.data.params
    assert again.data.metrics == run.data.metrics and again.info.status == "FINISHED"


def test_every_image_of_the_pool_is_predicted_by_the_network_that_did_not_train_on_it(
    folded: tuple[FoldedTrial, str], tmp_path: Path
) -> None:
    done = folded[0]
    path = out_of_fold(done, How(), quiet())
    found, pool = PredictionSet.open(path), done.pool
    assert [image.file_name for image in found.meta.images] == list(pool.data.names)
    assert found.meta.dataset_fingerprint == pool.data.fingerprint
    for fold, network in enumerate(done.networks):
        alone = predict_images(network, images_of_data(pool.data), tmp_path / str(fold), How(), quiet()).out
        for name in pool.split.folds[fold].val:
            assert np.array_equal(found.packed(name), PredictionSet.open(alone).packed(name))
        assert any((found.packed(name) != PredictionSet.open(alone).packed(name)).any() for name in pool.data.names)
    assert 0 <= score_predictions(pool.data.truth, found)["mIoU"] <= 1
    changed = (path / "meta.json").stat().st_mtime_ns
    assert out_of_fold(done, How(), quiet()) == path and (path / "meta.json").stat().st_mtime_ns == changed
    assert not path.with_name("out-of-fold.folds").exists()


def test_data_that_changed_since_is_refused(
    begun: Callable[..., Sweep], record_of: Callable[..., TrialRecord], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, "semantic", 4, 2)
    images = sorted((tmp_path / "data" / "images").iterdir())
    images[0].write_bytes(images[0].read_bytes() + b"\0")
    with pytest.raises(InputError, match="expected the data that the sweep was started with"):
        train_folds(sweep, [record_of(0, "segformer", 1)], FOLDS, quiet())
    assert not (sweep.path / "folds").exists()


def test_folds_that_the_images_do_not_give_leave_nothing_behind(
    begun: Callable[..., Sweep], record_of: Callable[..., TrialRecord], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, "semantic", 4, 2)
    with pytest.raises(InputError, match="expected at least 7 images in train and val for 7 folds, but got 6"):
        train_folds(sweep, [record_of(0, "segformer", 1)], 7, quiet())
    assert not (sweep.path / "folds").exists()


def test_objects_out_of_fold_have_the_ids_and_limits_of_the_pool(
    begun: Callable[..., Sweep], record_of: Callable[..., TrialRecord], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, "instance", 4, 2)
    (done,) = train_folds(sweep, [record_of(0, "mask-rcnn", 1)], FOLDS, quiet())
    found = PredictionSet.open(out_of_fold(done, How(), quiet()))
    truth = read_roles(sweep).roles["train"].truth
    assert [image.id for image in found.meta.images] == [image.id for image in done.pool.data.truth.images]  # type: ignore[union-attr]
    assert found.meta.category_ids == truth.category_ids  # type: ignore[union-attr]
    assert found.meta.max_detections is not None and found.meta.trial == "0000"
    assert "segm_mAP" in score_predictions(done.pool.data.truth, found)
