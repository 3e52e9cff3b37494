"""Prediction with a trial's best weights into a prediction set, inside a child of the fork server.

Runs the very pipeline of the trial's `config.py`, so that stock inferencers on the same files give the same results.
"""

from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

from segdata.coco import read_coco
from segdata.errors import TrialError
from segdata.images import image_size
from segdata.labelmaps import read_classes
from segdata.predictions import PredictedImage, PredictionMeta, PredictionWriter
from trainables.outputs import instances_of, limits_of, probabilities_of
from trainables.requests import PredictRequest
from trainables.trial import prepare_process
from trainables.trial_files import TrialFiles

__all__ = ["predict"]

PROBABILITY_STRIDE = 1


def predict(request: PredictRequest, connection: Connection) -> None:
    """The child's job: predicts every image of the role; sends ("image", {"done", "of"}) as it goes."""
    prepare_process(request.threads, request.custom_imports, request.folder)
    files = TrialFiles(request.directory)
    config = Config.fromfile(files.config)
    model = load_model(config, files)
    images = images_of(request)
    floor = limits_of(config.model).floor if request.task == "instance" else 0.0
    with PredictionWriter(request.out, meta_of(request, config)) as writer:
        for done, (image, sample) in enumerate(samples(model, config, request, images), start=1):
            if request.task == "instance":
                writer.add_instances(image, instances_of(sample["pred_instances"], floor))
            else:
                writer.add_probabilities(image, probabilities_of(sample["seg_logits"]))
            connection.send(("image", {"done": done, "of": len(images)}))


def load_model(config: Config, files: TrialFiles) -> BaseModel:
    """Builds the model of `config.py` on the best device and loads all of `best.pth`.

    Raises:
        TrialError: The trial left no weights.
    """
    if not files.best.is_file():
        raise TrialError.of("expected the trial's best weights", where=files.best, cure="Refit or keep more of them.")
    DefaultScope.get_instance(f"predict-{files.directory}", scope_name=config.default_scope)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model: BaseModel = MODELS.build(config.model)
    model.load_state_dict(torch.load(files.best, map_location="cpu", weights_only=True)["state_dict"])
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def images_of(request: PredictRequest) -> list[PredictedImage]:
    """Lists the role's images in the order in which they are predicted."""
    if request.role.annotations is not None:
        records = read_coco(request.role.annotations).images
        return [PredictedImage(id=r.id, file_name=r.file_name, width=r.width, height=r.height) for r in records]
    assert request.role.stems is not None
    names = [f"{stem}{request.role.suffix}" for stem in request.role.stems.read_text().splitlines()]
    sizes = [image_size(request.role.images / name) for name in names]
    return [
        PredictedImage(id=index, file_name=name, width=width, height=height)
        for index, (name, (width, height)) in enumerate(zip(names, sizes, strict=True))
    ]


def samples(
    model: BaseModel, config: Config, request: PredictRequest, images: list[PredictedImage]
) -> Iterator[tuple[PredictedImage, dict[str, Any]]]:
    """Yields each image with what the model predicts for it, one at a time."""
    with torch.no_grad(), DefaultScope.overwrite_default_scope(config.default_scope):
        steps = config.test_dataloader.dataset.pipeline
        pipeline = Compose([step for step in steps if step["type"] != "LoadAnnotations"])
        for image in images:
            loaded = pipeline({"img_path": str(request.role.images / image.file_name), "img_id": image.id})
            yield image, model.test_step(pseudo_collate([loaded]))[0].to_dict()


def meta_of(request: PredictRequest, config: Config) -> PredictionMeta:
    """Describes the prediction set: classes, limits and where it comes from."""
    limits: dict[str, Any] = {"codec": "prob8", "stride": PROBABILITY_STRIDE}
    if request.task == "instance":
        assert request.role.annotations is not None
        truth = read_coco(request.role.annotations)
        classes, category_ids = truth.class_names, truth.category_ids
        applied = limits_of(config.model)
        limits = {
            "codec": "coco-rle",
            "confidence_threshold": applied.minimum_confidence,
            "max_detections": applied.detections,
            "mask_threshold": applied.mask_threshold,
        }
    else:
        assert request.role.labels is not None
        classes, category_ids = read_classes(request.role.labels)[0], ()
    return PredictionMeta(
        task=request.task,
        classes=classes,
        category_ids=category_ids,
        dataset_fingerprint=request.fingerprint,
        trial=request.directory.name,
        config_hash=request.config_hash,
        code_version=version("segsweep"),
        **limits,
    )
