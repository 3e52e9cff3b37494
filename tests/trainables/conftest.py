"""Tiny data, tiny trials, and running one in a child of the fork server."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from search_spaces.models import MODELS
from search_spaces.trial_config import (
    InputChoice,
    ModelChoice,
    OptimizationChoice,
    ScheduleChoice,
    ThresholdChoice,
    TrialConfig,
)
from segdata.coco import read_coco, write_coco
from segdata.labelmaps import read_labels
from segdata.prediction_parts import PredictionParts
from segdata.predictions import PredictedImage, PredictionSet
from segdata.statistics import object_statistics, pixel_statistics
from segdata.synthetic import synthesize
from trainables.description import DataDescription, RoleFiles
from trainables.fork_server import Child, Ended, start_child
from trainables.prediction_job import PredictionJob, images_fingerprint, opened
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

TRAIN_IMAGES, VAL_IMAGES, SIZE_PX = 8, 3, 64
INSTANCE_MODELS = ("mask-rcnn", "cascade-mask-rcnn", "ms-rcnn")

Messages = list[dict[str, Any]]
Trained = Callable[[str], tuple[TrialFiles, Messages]]
Follow = Callable[..., tuple[Messages, Ended]]

TIMINGS = ("training_s", "peak_memory_MB", "latency_ms")


def instance_data(folder: Path, train_images: int, val_images: int) -> DataDescription:
    """Makes synthetic particles: the first images in order of their names to train on, the others to validate."""
    synthesize("particles", folder, train_images + val_images, SIZE_PX, 7)
    whole = read_coco(folder / "annotations.json")
    names = sorted(image.file_name for image in whole.images)
    parts = {"train": whole.subset(names[:train_images]), "val": whole.subset(names[train_images:])}
    for role, part in parts.items():
        write_coco(part, folder / f"{role}.json")
    files = {role: RoleFiles(folder / "images", annotations=folder / f"{role}.json") for role in parts}
    statistics = object_statistics(parts["train"])
    return DataDescription("instance", whole.class_names, files["train"], files["val"], statistics, "0" * 16)


def semantic_data(folder: Path, train_images: int, val_images: int) -> DataDescription:
    """Makes synthetic litter: the first images in order of their names to train on, the others to validate."""
    synthesize("litter", folder, train_images + val_images, SIZE_PX, 7)
    whole = read_labels(folder / "images", folder / "labels")
    names = [image.name for image in whole.images]
    parts = {"train": names[:train_images], "val": names[train_images:]}
    for role, part in parts.items():
        (folder / f"{role}.txt").write_text("".join(f"{Path(name).stem}\n" for name in part))
    files = {
        role: RoleFiles(folder / "images", labels=folder / "labels", stems=folder / f"{role}.txt", suffix=".png")
        for role in parts
    }
    statistics = pixel_statistics(whole.subset(parts["train"]))
    return DataDescription("semantic", whole.classes, files["train"], files["val"], statistics, "1" * 16)


@pytest.fixture(scope="session")
def particles(tmp_path_factory: pytest.TempPathFactory) -> DataDescription:
    """Instance data: 8 images to train on and 3 to validate."""
    return instance_data(tmp_path_factory.mktemp("data") / "particles", TRAIN_IMAGES, VAL_IMAGES)


@pytest.fixture(scope="session")
def litter(tmp_path_factory: pytest.TempPathFactory) -> DataDescription:
    """Semantic data: 8 images to train on and 3 to validate."""
    return semantic_data(tmp_path_factory.mktemp("data") / "litter", TRAIN_IMAGES, VAL_IMAGES)


@pytest.fixture(scope="session")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataDescription]:
    """Task -> data with two training images, one batch, and one to validate: an epoch is a single step."""
    folder = tmp_path_factory.mktemp("one-step")
    return {
        "instance": instance_data(folder / "particles", 2, 1),
        "semantic": semantic_data(folder / "litter", 2, 1),
    }


@pytest.fixture(scope="session")
def tiny_trial() -> Callable[..., TrialConfig]:
    """Returns a maker of trials small enough for one CPU thread: `tiny_trial("mask-rcnn", epochs=2)`."""

    def make(model: str, *, epochs: int = 2, init: str = "none") -> TrialConfig:
        backbone = {"segformer": "mit-b0", "smp-unet": "resnet18"}.get(model, "r18")
        width = None if model in ("segformer", "smp-unet") else 0.25
        thresholds = ThresholdChoice(rois_per_image=16) if model in INSTANCE_MODELS else ThresholdChoice()
        return TrialConfig(
            ModelChoice(model, backbone, init=init, width=width, head_width=0.125),
            InputChoice(crop_size=64),
            OptimizationChoice("adamw", 2e-3, batch_size=4),
            ScheduleChoice(epochs),
            thresholds=thresholds,
        )

    return make


@pytest.fixture(scope="session")
def request_of() -> Callable[..., TrialRequest]:
    """Returns a maker of requests: `request_of(trial, data, directory, loader_workers=2)`."""

    def make(trial: TrialConfig, data: DataDescription, directory: Path, **others: Any) -> TrialRequest:
        metric = "segm_mAP" if data.task == "instance" else "mIoU"
        return TrialRequest(trial, data, directory, metric, "max", seed=7, **others)

    return make


def read_to_end(child: Child, timeout_s: float = 120.0) -> tuple[Messages, Ended]:
    """Reads a child's messages, telling it each time to go on, until it has ended."""
    messages: Messages = []
    try:
        while not isinstance(message := child.receive(timeout_s), Ended):
            assert message is not None, f"no word from the child in {timeout_s} s:\n{child.log.read_text()}"
            messages.append(message[1])
            child.answer("go on")
    finally:
        child.stop()
    return messages, message


def run_to_end(request: TrialRequest) -> Messages:
    """Trains a request to its end and returns its reports."""
    log = request.directory / "train.log"
    messages, ended = read_to_end(start_child("trainables.trial:train", request, log))
    assert ended == Ended("done"), f"{ended.reason}\n{log.read_text()[-3000:]}"
    return messages


@pytest.fixture(scope="session")
def follow() -> Callable[..., tuple[Messages, Ended]]:
    """Returns a function that reads a child to its end and gives its messages and how it ended."""
    return read_to_end


@pytest.fixture(scope="session")
def train() -> Callable[[TrialRequest], Messages]:
    """Returns a function that trains a request to its end and gives its reports."""
    return run_to_end


@pytest.fixture(scope="session")
def untimed() -> Callable[[Messages], str]:
    """Returns a function that gives reports without what no two runs share, to the last bit; NaN equals NaN then."""

    def text(messages: Messages) -> str:
        return json.dumps([{name: row[name] for name in row if name not in TIMINGS} for row in messages])

    return text


@pytest.fixture(scope="session")
def run_job() -> Callable[[str, object, Path], Ended]:
    """Returns a function that runs a job of the fork server to its end; threads may call it side by side."""

    def run(job: str, request: object, log: Path) -> Ended:
        return read_to_end(start_child(job, request, log), 300.0)[1]

    return run


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    particles: DataDescription,
    litter: DataDescription,
    tiny_trial: Callable[..., TrialConfig],
    request_of: Callable[..., TrialRequest],
) -> Callable[[str], tuple[TrialFiles, Messages]]:
    """Returns a function that trains a model for two epochs, once a session, and gives its files and reports."""
    known: dict[str, tuple[TrialFiles, Messages]] = {}

    def get(model: str) -> tuple[TrialFiles, Messages]:
        if model not in known:
            data = particles if MODELS[model].task == "instance" else litter
            request = request_of(tiny_trial(model), data, tmp_path_factory.mktemp("trials") / model)
            known[model] = TrialFiles(request.directory), run_to_end(request)
        return known[model]

    return get


@pytest.fixture(scope="session")
def val_job() -> Callable[..., PredictionJob]:
    """Returns a maker of jobs: the val images with a trial's best weights; `finished` then makes `out` of its parts."""

    def make(files: TrialFiles, data: DataDescription, out: Path, **others: Any) -> PredictionJob:
        role, category_ids = data.val, ()
        listed: list[PredictedImage | tuple[int, str]]
        if role.annotations is not None:
            truth = read_coco(role.annotations)
            category_ids = truth.category_ids
            listed = [
                PredictedImage(id=i.id, file_name=i.file_name, width=i.width, height=i.height) for i in truth.images
            ]
        else:
            assert role.stems is not None
            listed = [(n, f"{stem}{role.suffix}") for n, stem in enumerate(role.stems.read_text().split())]
        images, unreadable = opened(role.images, listed)
        assert not unreadable
        parts = PredictionParts.beside(out)
        parts.start({})
        named: dict[str, Any] = {"classes": data.classes, "category_ids": category_ids, "config_hash": "abc"}
        missing = frozenset(image.image.file_name for image in images)
        return PredictionJob(
            files.config,
            files.best,
            role.images,
            images,
            missing,
            parts.folder,
            trial=files.directory.name,
            **(named | others),
        )

    return make


@pytest.fixture(scope="session")
def finished() -> Callable[[PredictionJob], PredictionSet]:
    """Returns a function that puts what a job predicted together as a set."""
    return finish


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of three sizes, two of which are padded to one, in an order that mixes them."""
    folder = tmp_path_factory.mktemp("pictures")
    synthesize("particles", folder / "small", 10, 64, 11)
    for number, path in enumerate(sorted((folder / "small" / "images").iterdir())):
        with Image.open(path) as image:
            side = (64, 60, 48)[number % 3]
            image.crop((0, 0, 64, side)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def job(trained: Trained, pictures: Path, tmp_path: Path) -> Callable[..., PredictionJob]:
    """Returns a maker of jobs over the pictures."""

    def make(model: str, name: str, images: Path = pictures, **others: Any) -> PredictionJob:
        names = sorted(path.name for path in images.glob("*.png"))
        files, unreadable = opened(images, list(enumerate(names, start=1)))
        assert not unreadable
        parts = PredictionParts.beside(tmp_path / name)
        parts.start({})
        trial = trained(model)[0]
        missing = frozenset(names)
        return PredictionJob(trial.config, trial.best, images, files, missing, parts.folder, **others)

    return make


@pytest.fixture
def predict(follow: Follow, tmp_path: Path) -> Callable[[PredictionJob], PredictionSet]:
    """Returns a function that runs a job to its end and opens the set."""

    def run(job: PredictionJob) -> PredictionSet:
        for share in range(job.shares):
            _, ended = follow(
                start_child("trainables.predict:predict_share", replace(job, share=share), tmp_path / "predict.log")
            )
            assert ended == Ended("done"), ended.reason
        return finish(job)

    return run


def finish(job: PredictionJob) -> PredictionSet:
    out = job.parts.with_suffix("")
    return PredictionSet.open(PredictionParts(job.parts).finish(job.files, out, images_fingerprint(job.files), {}))
