"""A trained network with its test pipeline, from a config and a checkpoint: a trial's or any stock one's.

Imports torch and mmengine. Sizes are (width, height) in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

from segdata.coco import read_coco
from segdata.errors import DatasetError, InputError, TrialError
from segdata.images import read_image
from segdata.prediction_parts import ImageFile
from segdata.views import PLAIN, View
from trainables.checkpoint_reader import kind_of_file, load_pickle, read_weights
from trainables.description import Task
from trainables.prediction_job import PredictionJob
from trainables.viewing import resized, turned

__all__ = ["Predictor", "classes_of", "load_predictor"]

TASK_OF_SCOPE: Mapping[str, Task] = {"mmdet": "instance", "mmseg": "semantic"}
Pixels = npt.NDArray[Any]
Measured = tuple[tuple[int, ...], tuple[float, float]]  # (height, width) of the input, scale across and down


@dataclass
class Predictor:
    """A network on its device, and how an image becomes its input.

    Sizes are those of the view's frame: what `view.of_image` makes of an image.
    """

    model: BaseModel
    config: Config
    task: Task
    steps: Sequence[dict[str, Any]]  # of the test pipeline as the view lies, labels left out; the first one loads
    view: View = PLAIN
    known_steps: dict[tuple[int, int], Sequence[dict[str, Any]]] = field(default_factory=dict)
    known_sizes: dict[tuple[int, int], Measured] = field(default_factory=dict)

    def load(self, folder: Path, file: ImageFile) -> Pixels:
        """Reads an image with the pipeline's own reader, (H, W, 3) in the view's frame.

        Raises:
            DatasetError: It can't be decoded, is not 8-bit, or its size has changed.
        """
        path = folder / file.image.file_name
        found = read_image(path).shape[1::-1]  # the pipeline's reader returns half an image without a word
        wanted = (file.image.width, file.image.height)
        if found != wanted:
            raise DatasetError.of(
                f"expected {wanted[0]}x{wanted[1]} pixels, but got {found[0]}x{found[1]}",
                where=path,
                cure="Correct its size in the annotations.",
            )
        loaded = Compose([self.steps[0]])({"img_path": str(path), "img_id": file.image.id})
        return self.view.of_image(loaded["img"])

    def prepare(self, pixels: Pixels, steps: Sequence[dict[str, Any]], path: str, image_id: int) -> dict[str, Any]:
        """Runs an image, or a window of one, through the pipeline's steps after loading."""
        shape = pixels.shape[:2]
        prepared: dict[str, Any] = Compose(list(steps))(
            {"img": pixels, "img_path": path, "img_id": image_id, "img_shape": shape, "ori_shape": shape}
        )
        return prepared

    def predict(self, prepared: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Runs inputs of one padded size through the network together."""
        return [sample.to_dict() for sample in self.model.test_step(pseudo_collate(list(prepared)))]

    def padded(self, width: int, height: int) -> tuple[int, ...]:
        """Returns the size of the network's input for an image of this size; equal ones can go together."""
        shape, _ = self.measure(width, height)
        divisor = getattr(self.model.data_preprocessor, "pad_size_divisor", 1) or 1
        padded = tuple(-(-side // divisor) * divisor for side in shape)
        return padded if self.task == "instance" else (*shape, width, height)

    def scale(self, width: int, height: int) -> tuple[float, float]:
        """Returns how many pixels of its input the network sees for one of the image, across and down."""
        return self.measure(width, height)[1]

    def measure(self, width: int, height: int) -> Measured:
        """Sends an empty image through the pipeline: the input's (height, width), and the scale."""
        if (width, height) not in self.known_sizes:
            self.known_sizes[width, height] = self.sent(self.steps_for(width, height), width, height)
        return self.known_sizes[width, height]

    def steps_for(self, width: int, height: int) -> Sequence[dict[str, Any]]:
        """Returns the steps after loading that bring an image to the view's scale."""
        if self.view.scale == 1:
            return self.steps[1:]
        if (width, height) not in self.known_steps:
            _, (across, down) = self.sent(self.steps[1:], width, height)
            size = (round(width * across * self.view.scale), round(height * down * self.view.scale))
            self.known_steps[width, height] = resized(self.steps[1:], size, self.view.scale)
        return self.known_steps[width, height]

    def sent(self, steps: Sequence[dict[str, Any]], width: int, height: int) -> Measured:
        """Sends an empty image through these steps."""
        blank = np.zeros((height, width, 3), dtype=np.uint8)
        prepared = self.prepare(blank, steps, "", 0)
        across, down = prepared["data_samples"].metainfo.get("scale_factor", (1.0, 1.0))[:2]
        return tuple(prepared["inputs"].shape[-2:]), (float(across), float(down))


def load_predictor(job: PredictionJob) -> tuple[Predictor, Mapping[str, Any]]:
    """Builds the job's model on its device with all of the checkpoint's weights; returns it with the checkpoint's meta.

    Raises:
        InputError: Config or checkpoint are no such files, or do not fit each other.
        TrialError: The weights are gone.
    """
    if not job.checkpoint.is_file():
        raise TrialError.of(
            "expected the trial's best weights", where=job.checkpoint, cure="Refit or keep more of them."
        )
    config = read_config(job.config)
    scope = config.get("default_scope")
    if scope not in TASK_OF_SCOPE:
        raise InputError.of(
            f"expected a config of MMDetection or MMSegmentation, but got default_scope {scope!r}",
            where=job.config,
            cure="Name the config that the checkpoint was trained with.",
        )
    task = TASK_OF_SCOPE[scope]
    refuse_unfit(job, task)
    DefaultScope.get_instance(f"predict-{job.config}", scope_name=scope)
    with DefaultScope.overwrite_default_scope(scope):
        model: BaseModel = revert_sync_batchnorm(MODELS.build(config.model))
    fill(model, job)
    steps = pipeline_of(config, job.config)
    model.cfg = config
    predictor = Predictor(
        model.to(device_of(job)).eval(), config, task, turned(steps) if job.view.lies else steps, job.view
    )
    return predictor, read_meta(job.checkpoint)


def refuse_unfit(job: PredictionJob, task: Task) -> None:
    """Raises InputError where a job asks for what networks of the task do not give."""
    if job.task is not None and job.task != task:
        raise InputError.of(
            f"expected a network of {job.task} segmentation, which the method fuses, but got one of {task}",
            where=job.config,
            cure=f"Choose a method for {task} predictions.",
        )
    if job.stride != 1 and task == "instance":
        raise InputError.of(
            "expected a semantic network, whose probabilities have a stride, but got one of instances",
            where=f"--stride {job.stride}",
            cure="Leave it out.",
        )


def read_config(path: Path) -> Config:
    """Reads an MMEngine config without the weights that it would start from.

    Raises:
        InputError: It is missing or can't be read.
    """
    try:
        config = Config.fromfile(path)
        model = config.model
    except (OSError, SyntaxError, AttributeError, KeyError, ValueError) as error:
        raise InputError.of(
            f"expected an MMEngine config with a model, but got: {error}", where=path, cure="Check the path."
        ) from error
    if "pretrained" in model:
        model.pretrained = None
    return config


def fill(model: BaseModel, job: PredictionJob) -> None:
    """Loads the weights; what the checkpoint has beyond the model is passed over.

    Raises:
        InputError: A weight of the model is missing or of another shape.
    """
    try:
        missing = model.load_state_dict(read_weights(job.checkpoint), strict=False).missing_keys
    except RuntimeError as error:
        raise misfit(job, str(error).splitlines()[-1].strip()) from error
    if missing:
        raise misfit(job, f"{len(missing)} weights are missing, such as {missing[0]}")


def misfit(job: PredictionJob, reason: str) -> InputError:
    return InputError.of(
        f"expected the weights of the model in {job.config}, but got others: {reason}",
        where=job.checkpoint,
        cure="Name the config and the checkpoint of one training.",
    )


def read_meta(checkpoint: Path) -> Mapping[str, Any]:
    """Returns what a checkpoint says beside its weights: our `best.pth` and stock ones name their classes there."""
    kind = kind_of_file(checkpoint)
    if kind is None or kind == "safetensors":
        return {}
    loaded = load_pickle(checkpoint, kind)
    meta = loaded.get("meta") if isinstance(loaded, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def pipeline_of(config: Config, path: Path) -> list[dict[str, Any]]:
    """Returns the steps of the test pipeline that an image without labels needs, the loading one first."""
    dataset = config.get("test_dataloader", {}).get("dataset", {})
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset["dataset"]
    steps = dataset.get("pipeline") or config.get("test_pipeline") or []
    kept = [dict(step) for step in steps if not str(step["type"]).endswith("Annotations")]
    if not kept or "LoadImage" not in str(kept[0]["type"]):
        raise InputError.of(
            "expected a test pipeline that begins by loading the image, but got another",
            where=path,
            cure="Name a config with test_dataloader.dataset.pipeline.",
        )
    return kept


def device_of(job: PredictionJob) -> str:
    """Returns where the model goes: the processes take the GPUs that there are in turn."""
    if not torch.cuda.is_available():
        return "cpu"
    torch.cuda.set_device(job.share % torch.cuda.device_count())
    return "cuda"


def classes_of(job: PredictionJob, config: Config, meta: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns the names of the classes and their COCO ids, from the job, else the checkpoint, else the config.

    Raises:
        InputError: None of them says.
    """
    if job.classes is not None:
        return job.classes, job.category_ids
    told = meta.get("dataset_meta") or meta
    classes = told.get("classes") or told.get("CLASSES") or tested_on(config).get("metainfo", {}).get("classes")
    if not classes or isinstance(classes, str):
        raise InputError.of(
            "expected the names of the classes, but got none",
            where=job.checkpoint,
            cure="Write metainfo=dict(classes=(...)) into the config's test_dataloader.dataset.",
        )
    names = tuple(str(name) for name in classes)
    return names, category_ids_of(names, config)


def category_ids_of(classes: tuple[str, ...], config: Config) -> tuple[int, ...]:
    """Returns the ids that the config's own COCO file gives the classes, so that predictions suit it; else 1, 2 ..."""
    named = tested_on(config).get("ann_file")
    if named and Path(named).suffix == ".json" and Path(named).is_file():
        truth = read_coco(Path(named))
        if truth.class_names == classes:
            return truth.category_ids
    return tuple(range(1, len(classes) + 1))


def tested_on(config: Config) -> Mapping[str, Any]:
    """Returns the config of the data set in the test loader; empty if there is none."""
    dataset: Mapping[str, Any] = config.get("test_dataloader", {}).get("dataset", {})
    return dataset
