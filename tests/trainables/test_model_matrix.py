"""Every listed model trains one step and predicts on a CPU, in a size that its knobs allow, and in a view.

All start at once in the background, two at a time, one thread each, so that the whole table takes half the time.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from search_spaces.knobs import KNOBS, takes
from search_spaces.models import MODELS
from search_spaces.trial_config import Scalar, TrialConfig
from segdata.predictions import PredictionSet
from segdata.views import View
from trainables.description import DataDescription
from trainables.fork_server import Ended
from trainables.prediction_job import PredictionJob
from trainables.requests import TrialRequest
from trainables.trial_files import EpochScores, TrialFiles

pytestmark = pytest.mark.slow

AT_A_TIME = 2
CROP_PX = 64

# Knobs of the smallest size, where the model takes them.
TINY: dict[str, Scalar] = {
    "width": 0.25,
    "head_width": 0.125,
    "crop_size": CROP_PX,
    "batch_size": 2,
    "epochs": 1,
    "rois_per_image": 16,
}
# What differs for a model.
TINY_OF: dict[str, dict[str, Scalar]] = {
    "segformer": {"width": 1.0},
}

RunJob = Callable[..., Ended]
Jobs = Callable[..., PredictionJob]
Finished = Callable[[PredictionJob], PredictionSet]
JOB = "trainables.predict:predict_as_asked"


@dataclass(frozen=True)
class Outcome:
    """What a training left behind."""

    ended: Ended
    history: tuple[EpochScores, ...]
    predicted: Ended | None
    seen: Ended | None
    job: PredictionJob | None
    log: str


def tiny(model: str) -> TrialConfig:
    """Returns the smallest trial of a model."""
    trial = TrialConfig().with_value("model.name", model)
    backbones = MODELS[model].backbones
    small: dict[str, Scalar] = {"backbone": "r18" if "r18" in backbones else backbones[0]} if backbones else {}
    values = small | TINY | TINY_OF.get(model, {})
    for name, value in values.items():
        if takes(model, KNOBS[name]):
            trial = trial.with_value(KNOBS[name].field, value)
    return trial


def train_and_predict(model: str, data: DataDescription, directory: Path, run: RunJob, val_job: Jobs) -> Outcome:
    """Trains one step, validates, and predicts the val role, also turned and at a size that is whole for no network."""
    files = TrialFiles(directory)
    metric = "segm_mAP" if data.task == "instance" else "mIoU"
    ended = run("trainables.trial:train", TrialRequest(tiny(model), data, directory, metric, "max", seed=7), files.log)
    predicted = seen = job = None
    if ended.kind == "done":
        job = val_job(files, data, directory / "predictions")
        predicted = run(JOB, job, files.log)
        turned = val_job(files, data, directory / "seen", view=View.parse("rot90+scale1.3"))
        seen = run("trainables.predict:predict_share", turned, files.log)
    log = files.log.read_text() if files.log.is_file() else ""
    history = tuple(files.read_history()) if files.history.is_file() else ()
    return Outcome(ended, history, predicted, seen, job, log[-3000:])


@pytest.fixture(scope="module")
def running(
    one_step: dict[str, DataDescription], run_job: RunJob, val_job: Jobs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """Starts every model; model -> what it will have left."""
    folder = tmp_path_factory.mktemp("matrix")
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            model.name: pool.submit(
                train_and_predict, model.name, one_step[model.task], folder / model.name, run_job, val_job
            )
            for model in MODELS.values()
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("model", [model.name for model in MODELS.values() if not model.needs_gpu])
def test_a_model_trains_a_step_and_predicts(
    model: str, running: dict[str, Future[Outcome]], finished: Finished
) -> None:
    outcome = running[model].result()
    assert outcome.ended == Ended("done"), f"{outcome.ended.reason}\n{outcome.log}"
    assert [row.epoch for row in outcome.history] == [1]
    assert math.isfinite(outcome.history[0].scores["train_loss"])
    assert outcome.predicted == Ended("done"), outcome.log
    assert outcome.seen == Ended("done"), outcome.seen
    assert outcome.job is not None
    predicted = finished(outcome.job)
    (image,) = predicted.meta.images
    if MODELS[model].task == "instance":
        found = predicted.instances(image.file_name)
        assert all((rle.height, rle.width) == (image.height, image.width) for rle in found.rles)
    else:
        prob_CHW = predicted.probabilities(image.file_name)
        assert prob_CHW.shape == (len(predicted.meta.classes), image.height, image.width)
        assert abs(prob_CHW.sum(axis=0) - 1.0).max() < 0.01 * len(prob_CHW)  # each is stored in 8 bits


@pytest.mark.parametrize("model", [model.name for model in MODELS.values() if model.needs_gpu])
def test_a_model_that_needs_a_gpu_is_refused_on_a_cpu(model: str, running: dict[str, Future[Outcome]]) -> None:
    outcome = running[model].result()
    assert outcome.ended.kind == "crashed" and not outcome.history
    assert f"expected a GPU for {model}" in outcome.ended.reason
