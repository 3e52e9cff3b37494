"""TrialConfig + data -> MMEngine config: pure functions, the one place where a trial's config is assembled.

Order: zoo file, backbone, widths, classes, fit to the data set, data, optimization, then the knobs by their rows.
Every sampled value is then read back; one that did not land is an error, never silent.
"""

from collections.abc import Callable
from typing import Any

from mmengine.config import Config

from search_spaces.backbones import FREEZABLE
from search_spaces.knobs import KNOBS
from search_spaces.landing import apply_landings, assert_landed
from search_spaces.models import MODELS, is_checkpoint_file, is_sweep_reference
from search_spaces.trial_config import TrialConfig
from search_spaces.wording import nearest_name, some
from segdata.errors import InputError
from segdata.statistics import ObjectStatistics, PixelStatistics
from trainables.adaptations import adapt
from trainables.class_counts import refuse_other_counts
from trainables.description import DataDescription
from trainables.encoders import put_encoder
from trainables.fitting import fit_detector, fit_input
from trainables.initial_parts import take_published
from trainables.instance_adaptations import pad_to_one_size, sync_recursive_backbone
from trainables.loss_config import put_loss
from trainables.networks.names import custom_imports
from trainables.networks.smp_pairs import check_pair
from trainables.networks.smp_pixels import put_pixels
from trainables.optimization import averaging_config, optimizer_config
from trainables.pipelines import data_config
from trainables.schedules import Mode, put_iterations, schedule_config
from trainables.semantic_adaptations import fit_positions, padded_side
from trainables.widths import scale_backbone, scale_heads
from trainables.zoo import load_base

__all__ = ["DEFAULT_BATCH_SIZE", "assemble_model", "build_config", "exported_config"]

Nested = dict[str, Any]

DEFAULT_BATCH_SIZE = {"instance": 2, "semantic": 4}
# Backbones whose norms rest unless a config says otherwise, in MMDetection.
RESTING = (
    "Darknet",
    "DetectoRS_ResNeXt",
    "DetectoRS_ResNet",
    "HRNet",
    "RegNet",
    "Res2Net",
    "ResNeSt",
    "ResNeXt",
    "ResNet",
    "ResNetV1d",
    "TridentResNet",
)
KEPT_FROM_ZOO = ("model", "default_scope", "env_cfg", "vis_backends", "visualizer", "log_processor", "log_level")


def build_config(
    trial: TrialConfig,
    data: DataDescription,
    *,
    seed: int,
    loader_workers: int = 0,
    metric: str | None = None,
    mode: Mode = "max",
    processes: int = 1,
) -> Nested:
    """Builds the whole config of a trial as plain nested dicts.

    `metric` and `mode` are what a learning rate watches that falls on plateaus; None = the task's usual score.
    `processes` share each batch: an epoch has as many images as they share evenly, some of them twice.

    Raises:
        InputError: The model, its backbone or a knob cannot be put together.
    """
    base = load_base(trial.model.name, data.task)
    size = fit_input(trial.input, data.statistics)
    batch_size = trial.optimization.batch_size or DEFAULT_BATCH_SIZE[data.task]
    config: Nested = {key: base[key] for key in KEPT_FROM_ZOO if key in base}
    config["model"] = build_model(config["model"], trial, data)
    if isinstance(data.statistics, ObjectStatistics):
        fit_detector(config["model"], data.statistics, size, trial.thresholds.detections_per_image)
    else:
        put_loss(config["model"], trial.loss, data.statistics.class_frequencies)
    pad_batches(config["model"], size.largest_px)
    config |= data_config(data, size, trial.augmentation, batch_size=batch_size, loader_workers=loader_workers)
    pad_to_one_size(config, size.largest_px)
    iterations = iterations_an_epoch(config["train_dataloader"], training_images(data.statistics, processes))
    put_iterations(config["train_dataloader"], trial.schedule)
    config |= schedule_config(data.task, trial.schedule, iterations, metric, mode)
    config["optim_wrapper"] = optimizer_config(trial, batch_size, base)
    config |= averaging_config(trial.optimization)
    config |= {
        "default_scope": {"instance": "mmdet", "semantic": "mmseg"}[data.task],
        "log_processor": {"type": "LogProcessor", "window_size": 10, "by_epoch": True},
        "randomness": {"seed": seed},
        "load_from": None,
        "resume": False,
    }
    refuse_other_counts(trial, len(data.classes))
    apply_landings(config, trial)
    assert_landed(config, trial)
    config |= custom_imports(config)
    return config


def training_images(statistics: ObjectStatistics | PixelStatistics, processes: int) -> int:
    """Returns how many images an epoch has: detectors train on those that hold something."""
    known = statistics.annotated_images if isinstance(statistics, ObjectStatistics) else None
    images = statistics.images if known is None else known
    return -(-images // processes) * processes


def iterations_an_epoch(loader: Nested, images: int) -> int:
    """Returns how many batches a training epoch has."""
    batch_size: int = loader["batch_size"]
    return images // batch_size if loader["drop_last"] else -(-images // batch_size)


def build_model(model: Nested, trial: TrialConfig, data: DataDescription) -> Nested:
    """Returns the model with its backbone, widths and classes; `trainables.weights` loads what it starts from."""
    assemble_model(model, trial, len(data.classes))
    take_published(model)
    return model


def assemble_model(model: Nested, trial: TrialConfig, classes: int) -> None:
    """Puts backbone, widths and classes into a zoo's model, in place; it still names published weights."""
    refuse_scaled_weights(trial)
    refuse_structure_of_zoo(trial)
    refuse_foreign_backbone(trial)
    refuse_frozen_stages(trial)
    adapt(model, trial.model.name)
    put_encoder(model, trial.model.backbone)
    check_pair(model)
    put_pixels(model)
    scale_backbone(model, trial.model.width)
    scale_heads(model, trial.model.head_width)
    walk(model, lambda part: set_classes(part, classes))
    walk(model, use_plain_batch_norm)
    if trial.model.init == "none":
        train_whole_backbone(model["backbone"])
    if trial.model.frozen_stages is not None:
        model["backbone"]["frozen_stages"] = trial.model.frozen_stages
    sync_recursive_backbone(model)


def refuse_scaled_weights(trial: TrialConfig) -> None:
    """Published weights fit stock widths only; a user's own file may have been trained at any.

    Raises:
        InputError: The backbone is scaled and yet to start from published weights.
    """
    init = trial.model.init
    if trial.model.width in (None, 1.0) or init == "none" or is_checkpoint_file(init) or is_sweep_reference(init):
        return
    raise InputError.of(
        f"expected width 1 with init {init}, but got {trial.model.width}",
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


def refuse_foreign_backbone(trial: TrialConfig) -> None:
    """Each model stands on some encoders only.

    Raises:
        InputError: The model has no place for the chosen one; names the nearest that fits.
    """
    name, backbone = trial.model.name, trial.model.backbone
    if backbone is None or name not in MODELS or MODELS[name].takes_backbone(backbone):
        return
    fitting = MODELS[name].backbones
    listing = nearest_name(backbone, fitting, f"segsweep spaces models {name}")
    raise InputError.of(
        f"expected a backbone that fits {name} ({some(fitting) or 'its own only'}), but got {backbone}",
        where="space.backbone",
        cure=listing if fitting else f"Leave backbone out for {name}.",
    )


def refuse_frozen_stages(trial: TrialConfig) -> None:
    """Some encoders cannot keep their first stages as they are.

    Raises:
        InputError: Stages of such an encoder are to be frozen.
    """
    name = trial.model.name
    if trial.model.frozen_stages is None or name not in (KNOBS["frozen_stages"].models or ()):
        return
    backbone = trial.model.backbone or MODELS[name].backbones[0]
    if backbone not in FREEZABLE:
        raise InputError.of(
            f"expected a backbone whose stages can be frozen ({some(FREEZABLE)}), but got {backbone}",
            where="space.frozen_stages",
            cure="Leave frozen_stages out for it by `when: {backbone: ...}`.",
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


def train_whole_backbone(backbone: Nested) -> None:
    """From scratch nothing may stay frozen: random stages and untrained norms would."""
    if "frozen_stages" in backbone:
        backbone["frozen_stages"] = -1
    if "norm_eval" in backbone or backbone["type"] in RESTING:
        backbone["norm_eval"] = False
    if isinstance(backbone.get("norm_cfg"), dict):
        backbone["norm_cfg"]["requires_grad"] = True


def pad_batches(model: Nested, side_px: int) -> None:
    """Pads training images of a semantic model, and of a detector that wants one size, to a square."""
    preprocessor = model["data_preprocessor"]
    if preprocessor["type"] == "SegDataPreProcessor":
        side = padded_side(model, side_px)
        preprocessor["size"] = (side, side)
        fit_positions(model, side)
    for augment in preprocessor.get("batch_augments") or ():
        if augment["type"] == "BatchFixedSizePad":
            augment["size"] = (side_px, side_px)


def exported_config(config: Nested) -> Config:
    """Returns the config as stock MMDet and MMSeg tools read it; MMSeg's `inference_model` asks for `test_pipeline`."""
    return Config(config | {"test_pipeline": config["test_dataloader"]["dataset"]["pipeline"]})
