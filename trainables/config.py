"""TrialConfig + data -> MMEngine config: pure functions, the one place where a trial's config is assembled.

Order: zoo file, backbone, widths, classes, fit to the data set, data, optimization, then the knobs by their rows.
Every sampled value is then read back; one that did not land is an error, never silent.
"""

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from search_spaces.landing import apply_landings, assert_landed
from search_spaces.models import MODELS
from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError
from segdata.statistics import ObjectStatistics
from trainables.adaptations import adapt
from trainables.description import DataDescription
from trainables.encoders import put_encoder
from trainables.fitting import fit_detector, fit_input
from trainables.optimization import optimizer_config, schedule_config
from trainables.pipelines import data_config
from trainables.widths import scale_backbone, scale_heads
from trainables.zoo import load_base

__all__ = ["DEFAULT_BATCH_SIZE", "build_config", "exported_config"]

Nested = dict[str, Any]

DEFAULT_BATCH_SIZE = {"instance": 2, "semantic": 4}
KEPT_FROM_ZOO = ("model", "default_scope", "env_cfg", "vis_backends", "visualizer", "log_processor", "log_level")


def build_config(trial: TrialConfig, data: DataDescription, *, seed: int, loader_workers: int = 0) -> Nested:
    """Builds the whole config of a trial as plain nested dicts.

    Raises:
        InputError: The model, its backbone or a knob cannot be put together.
    """
    base = load_base(trial.model.name, data.task)
    size = fit_input(trial.input, data.statistics)
    batch_size = trial.optimization.batch_size or DEFAULT_BATCH_SIZE[data.task]
    config: Nested = {key: base[key] for key in KEPT_FROM_ZOO if key in base}
    config["model"] = build_model(config["model"], trial, data)
    if isinstance(data.statistics, ObjectStatistics):
        fit_detector(config["model"], data.statistics, size)
    pad_batches(config["model"], size.crop or max(size.width, size.height))
    config |= data_config(data, size, batch_size=batch_size, loader_workers=loader_workers)
    iterations = iterations_an_epoch(config["train_dataloader"], data.statistics.images)
    config |= schedule_config(data.task, trial.schedule, iterations)
    config["optim_wrapper"] = optimizer_config(trial, batch_size, base)
    config |= {
        "default_scope": {"instance": "mmdet", "semantic": "mmseg"}[data.task],
        "log_processor": {"type": "LogProcessor", "window_size": 10, "by_epoch": True},
        "randomness": {"seed": seed},
        "load_from": None,
        "resume": False,
    }
    apply_landings(config, trial)
    assert_landed(config, trial)
    return config


def iterations_an_epoch(loader: Nested, images: int) -> int:
    """Returns how many batches a training epoch has."""
    batch_size: int = loader["batch_size"]
    return images // batch_size if loader["drop_last"] else -(-images // batch_size)


def build_model(model: Nested, trial: TrialConfig, data: DataDescription) -> Nested:
    """Returns the model with its backbone, widths, classes and initial weights."""
    refuse_scaled_imagenet(trial)
    refuse_structure_of_zoo(trial)
    adapt(model, trial.model.name)
    put_encoder(model, trial.model.backbone)
    scale_backbone(model, trial.model.width)
    scale_heads(model, trial.model.head_width)
    walk(model, lambda part: set_classes(part, len(data.classes)))
    walk(model, use_plain_batch_norm)
    if trial.model.init != "imagenet":
        model.pop("pretrained", None)
        walk(model, forget_published_weights)
    if trial.model.init == "none":
        train_whole_backbone(model["backbone"])
    if trial.model.frozen_stages is not None:
        model["backbone"]["frozen_stages"] = trial.model.frozen_stages
    return model


def refuse_scaled_imagenet(trial: TrialConfig) -> None:
    """Published weights fit stock widths only; MMEngine would leave out what does not fit.

    Raises:
        InputError: The backbone is scaled and yet to start from published weights.
    """
    if trial.model.init == "imagenet" and trial.model.width not in (None, 1.0):
        raise InputError.of(
            f"expected width 1 with init imagenet, but got {trial.model.width}",
            where="space.width",
            cure="Drop width, or set `init: none`.",
        )


def refuse_structure_of_zoo(trial: TrialConfig) -> None:
    """How backbone and widths go together is known for the models with a short name only.

    Raises:
        InputError: Names the knobs that a zoo config can't take.
    """
    knobs = {"backbone": trial.model.backbone, "width": trial.model.width, "head_width": trial.model.head_width}
    chosen = [name for name, value in knobs.items() if value is not None]
    if trial.model.name not in MODELS and chosen:
        raise InputError.of(
            f"expected knobs that the zoo config {trial.model.name} takes, but got {', '.join(chosen)}",
            where="space",
            cure="Leave them out, or set paths of its config by `overrides`.",
        )


def walk(part: Any, change: Callable[[Nested], object]) -> None:
    """Applies `change` to every dict inside `part`, itself included."""
    if isinstance(part, dict):
        change(part)
        for value in list(part.values()):
            walk(value, change)
    elif isinstance(part, list | tuple):
        for value in part:
            walk(value, change)


def set_classes(part: Nested, count: int) -> None:
    """Puts the number of classes where a part counts them, and drops weights of the zoo's own classes."""
    if "num_classes" in part:
        part["num_classes"] = count
    if "num_things_classes" in part:
        part |= {"num_things_classes": count, "num_stuff_classes": 0}
    weights = part.get("class_weight")
    if isinstance(weights, list) and len(set(weights[:-1])) == 1:  # all classes alike, then "no object"
        part["class_weight"] = [weights[0]] * count + weights[-1:]
    elif isinstance(weights, list):
        part["class_weight"] = None


def use_plain_batch_norm(part: Nested) -> None:
    """SyncBN needs several processes; a trial of one process trains with BN."""
    if part.get("type") == "SyncBN":
        part["type"] = "BN"


def forget_published_weights(part: Nested) -> None:
    """Drops weights that would be fetched from a network."""
    published = part.get("init_cfg")
    if isinstance(published, dict) and published.get("type") == "Pretrained":
        del part["init_cfg"]


def train_whole_backbone(backbone: Nested) -> None:
    """From scratch nothing may stay frozen: random stages and untrained norms would."""
    if "frozen_stages" in backbone:
        backbone["frozen_stages"] = -1
    if "norm_eval" in backbone:
        backbone["norm_eval"] = False
    if isinstance(backbone.get("norm_cfg"), dict):
        backbone["norm_cfg"]["requires_grad"] = True


def pad_batches(model: Nested, side_px: int) -> None:
    """Pads training images of a semantic model, and of a detector that wants one size, to a square."""
    preprocessor = model["data_preprocessor"]
    if preprocessor["type"] == "SegDataPreProcessor":
        preprocessor["size"] = (side_px, side_px)
    for augment in preprocessor.get("batch_augments") or ():
        if augment["type"] == "BatchFixedSizePad":
            augment["size"] = (side_px, side_px)


def exported_config(config: Nested) -> Config:
    """Returns the config as stock MMDet and MMSeg tools read it."""
    return Config(config)
