"""A trial's directory belongs to the user: stock MMDetection and MMSegmentation load it and predict the same."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segdata.coco import read_coco
from segdata.predictions import PredictionSet
from segdata.rle import rle_decode
from trainables.description import DataDescription
from trainables.fork_server import Ended, start_child
from trainables.prediction_job import PredictionJob
from trainables.trial_files import TrialFiles

pytestmark = pytest.mark.slow

PACKAGES = ("segdata", "segscore", "search_spaces", "trainables", "ensembling", "segtrack", "segsweep")
TOLERANCE = 1e-4
INSTANCE, SEMANTIC = ("mask-rcnn", "ms-rcnn", "queryinst"), ("segformer", "deeplabv3plus")
OWN = ("bifpn", "smp-unet")  # of networks of ours: stock tools need Segsweep installed, which their config imports

Trained = Callable[[str], tuple[TrialFiles, list[dict[str, Any]]]]
JOB = "trainables.predict:predict_as_asked"
Jobs = Callable[..., PredictionJob]
Follow = Callable[..., tuple[list[dict[str, Any]], Ended]]

# What a user without Segsweep would type: inferencers on both models of a task, then training on from the first one.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy
from mmengine.config import Config
from mmengine.runner import Runner

task, images, directories, work, out = json.loads(sys.argv[1])
arrays = {}


def instances(found):
    scores = found.mask_scores if "mask_scores" in found else found.scores
    return {"boxes": found.bboxes, "scores": scores, "labels": found.labels, "masks": found.masks}


def infer(model, directory):
    files = dict(model=directory + "/config.py", weights=directory + "/best.pth", device="cpu")
    if task == "instance":
        from mmdet.apis import DetInferencer
        inferencer = DetInferencer(**files, show_progress=False)
        found = [inferencer(image, return_datasamples=True, no_save_vis=True) for image in images]
        values = [instances(result["predictions"][0].pred_instances) for result in found]
    else:
        from mmseg.apis import MMSegInferencer
        inferencer = MMSegInferencer(**files)
        found = [inferencer(image, return_datasamples=True) for image in images]
        values = [{"probabilities": result.seg_logits.data.softmax(dim=0), "labels": result.pred_sem_seg.data[0]}
                  for result in found]
    arrays[model + "-classes"] = inferencer.model.dataset_meta["classes"]
    for index, parts in enumerate(values):
        arrays.update({f"{model}-{name}{index}": value.numpy() for name, value in parts.items()})


for model, directory in directories.items():
    infer(model, directory)

directory = next(iter(directories.values()))
config = Config.fromfile(directory + "/config.py")
config.work_dir, config.load_from, config.train_cfg.max_epochs = work, directory + "/best.pth", 1
runner = Runner.from_cfg(config)
runner.train()
arrays["validated"] = sorted(name for name in runner.message_hub.log_scalars if name.startswith("val/"))
arrays["test_batches"] = len(runner.build_dataloader(config.test_dataloader))
ours = [name for name in sys.modules if name.split(".")[0] in PACKAGES]
assert not ours, ours
numpy.savez(out, **arrays)
"""


def run_stock(
    trained: Trained,
    models: tuple[str, ...],
    data: DataDescription,
    folder: Path,
    absent: tuple[str, ...] = PACKAGES,
) -> dict[str, Any]:
    """Runs the script in a process that must not import the packages `absent`, and returns its arrays."""
    names = sorted(path for path in data.val.images.iterdir())[-3:]
    arguments = [
        data.task,
        [str(path) for path in names],
        {model: str(trained(model)[0].directory) for model in models},
        str(folder / "work"),
        str(folder / "stock.npz"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"  # as our trials have: float sums depend on how many threads share them
    command = [sys.executable, "-P", "-c", f"PACKAGES = {absent}\n{SCRIPT}", json.dumps(arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with np.load(folder / "stock.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def stock_instance(
    trained: Trained, particles: DataDescription, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What stock MMDetection makes of the trials."""
    return run_stock(trained, INSTANCE, particles, tmp_path_factory.mktemp("stock-instance"))


@pytest.fixture(scope="module")
def stock_semantic(
    trained: Trained, litter: DataDescription, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What stock MMSegmentation makes of the trials."""
    own = run_stock(trained, OWN, litter, tmp_path_factory.mktemp("stock-own"), absent=())
    return own | run_stock(trained, SEMANTIC, litter, tmp_path_factory.mktemp("stock-semantic"))


@pytest.fixture
def predicted(
    follow: Follow, val_job: Jobs, finished: Callable[[PredictionJob], PredictionSet], tmp_path: Path
) -> Callable[[TrialFiles, DataDescription], PredictionSet]:
    """Returns a function that predicts the val images with a trial's best weights in a child."""

    def run(files: TrialFiles, data: DataDescription) -> PredictionSet:
        job = val_job(files, data, tmp_path / "predictions")
        messages, ended = follow(start_child(JOB, job, tmp_path / "predict.log"))
        assert ended == Ended("done"), ended.reason
        assert messages == [{"done": index, "of": 3} for index in range(4)]
        return finished(job)

    return run


@pytest.mark.parametrize("model", INSTANCE)
def test_mmdetection_predicts_the_same(
    model: str,
    trained: Trained,
    particles: DataDescription,
    predicted: Callable[[TrialFiles, DataDescription], PredictionSet],
    stock_instance: dict[str, Any],
) -> None:
    ours = predicted(trained(model)[0], particles)
    assert ours.meta.classes == particles.classes and ours.meta.trial == model
    assert tuple(stock_instance[f"{model}-classes"]) == particles.classes
    total = 0
    for index, image in enumerate(ours.meta.images):
        found = ours.instances(image.file_name)
        boxes, scores, labels, masks = (
            stock_instance[f"{model}-{part}{index}"] for part in ("boxes", "scores", "labels", "masks")
        )
        total += len(found.rles)
        assert len(found.rles) == len(scores)
        np.testing.assert_allclose(found.boxes_xyxy, boxes, atol=TOLERANCE)
        np.testing.assert_allclose(found.confidences, scores, atol=TOLERANCE)
        np.testing.assert_array_equal(found.classes, labels)
        for rle, mask_HW in zip(found.rles, masks, strict=True):
            np.testing.assert_array_equal(rle_decode(rle), mask_HW)
    assert total > 0, "a comparison of nothing shows nothing"


@pytest.mark.parametrize("model", (*SEMANTIC, *OWN))
def test_mmsegmentation_predicts_the_same(
    model: str,
    trained: Trained,
    litter: DataDescription,
    predicted: Callable[[TrialFiles, DataDescription], PredictionSet],
    stock_semantic: dict[str, Any],
) -> None:
    ours = predicted(trained(model)[0], litter)
    assert tuple(stock_semantic[f"{model}-classes"]) == litter.classes == ours.meta.classes
    for index, image in enumerate(ours.meta.images):
        prob_CHW, label_HW = (stock_semantic[f"{model}-{part}{index}"] for part in ("probabilities", "labels"))
        # On disk a probability is a whole number of 255ths: half of one is the most that storing may add.
        np.testing.assert_allclose(ours.probabilities(image.file_name), prob_CHW, atol=0.5 / 255 + TOLERANCE)
        second, first = np.sort(prob_CHW, axis=0)[-2:]
        clear = first - second > 2 / 255
        np.testing.assert_array_equal(ours.labels(image.file_name)[clear], label_HW[clear])


def test_stock_training_goes_on_from_a_trials_directory(
    stock_instance: dict[str, Any], stock_semantic: dict[str, Any]
) -> None:
    assert "val/coco/segm_mAP" in stock_instance["validated"]
    assert "val/mIoU" in stock_semantic["validated"]
    assert stock_instance["test_batches"] == stock_semantic["test_batches"] == 3


def test_predictions_cover_every_image_and_name_their_limits(
    trained: Trained, particles: DataDescription, predicted: Callable[[TrialFiles, DataDescription], PredictionSet]
) -> None:
    meta = predicted(trained("mask-rcnn")[0], particles).meta
    assert particles.val.annotations is not None
    truth = read_coco(particles.val.annotations)
    assert [image.file_name for image in meta.images] == [image.file_name for image in truth.images]
    assert (meta.category_ids, meta.codec, meta.config_hash) == (truth.category_ids, "coco-rle", "abc")
    assert (meta.confidence_threshold, meta.max_detections, meta.mask_threshold) == (0.05, 100, 0.5)


def test_a_trial_without_weights_is_named(
    trained: Trained, particles: DataDescription, follow: Follow, val_job: Jobs, tmp_path: Path
) -> None:
    (tmp_path / "config.py").write_text(trained("mask-rcnn")[0].config.read_text())
    job = val_job(TrialFiles(tmp_path), particles, tmp_path / "out")
    messages, ended = follow(start_child(JOB, job, tmp_path / "predict.log"))
    assert f"{tmp_path / 'best.pth'}: expected the trial's best weights" in ended.reason
    assert not messages


def test_the_history_holds_the_scores_that_scoring_the_predictions_gives(
    trained: Trained, litter: DataDescription, predicted: Callable[[TrialFiles, DataDescription], PredictionSet]
) -> None:
    from segdata.labelmaps import read_labels
    from segscore.metrics import score_predictions

    files, messages = trained("segformer")
    predictions = predicted(files, litter)
    assert litter.val.labels is not None
    truth = read_labels(litter.val.images, litter.val.labels).subset(
        image.file_name for image in predictions.meta.images
    )
    scores = score_predictions(truth, predictions)
    assert abs(scores["mIoU"] - max(message["mIoU"] for message in messages)) < 0.01, "8-bit storage moves few pixels"
    assert json.loads(files.history.read_text().splitlines()[0])["epoch"] == 1
