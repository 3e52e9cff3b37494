"""Data sets, pipelines and loaders of a trial's config, from stock MMDetection and MMSegmentation parts.

Only training pipelines hold steps of ours, and only if a trial sets them. Pure functions returning plain nested dicts;
imports trainables' own records.
"""

import colorsys
from collections.abc import Sequence
from typing import Any

from search_spaces.trial_config import Scalar
from segdata.statistics import ObjectStatistics
from trainables.augmentation.steps import augmentation_steps, needs_other_images
from trainables.description import DataDescription, RoleFiles
from trainables.fitting import InputSize

__all__ = ["data_config", "dataset_config", "test_pipeline"]

Nested = dict[str, Any]


def palette(count: int) -> list[list[int]]:
    """Returns `count` clearly different RGB colours, the same ones each time."""
    hues = [index * 0.618034 % 1.0 for index in range(count)]
    return [[round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 0.95)] for hue in hues]


def dataset_config(data: DataDescription, role: RoleFiles, pipeline: list[Nested], *, training: bool) -> Nested:
    """Returns the config of a stock data set over one role's files."""
    metainfo = {"classes": data.classes, "palette": palette(len(data.classes))}
    if data.task == "instance":
        return {
            "type": "CocoDataset",
            "ann_file": str(role.annotations),
            "data_prefix": {"img": f"{role.images}/"},
            "metainfo": metainfo,
            "filter_cfg": {"filter_empty_gt": True, "min_size": 1} if training else None,
            "test_mode": not training,
            "pipeline": pipeline,
        }
    return {
        "type": "BaseSegDataset",
        "ann_file": str(role.stems),
        "data_prefix": {"img_path": str(role.images), "seg_map_path": str(role.labels)},
        "img_suffix": role.suffix,
        "seg_map_suffix": ".png",
        "metainfo": metainfo,
        "reduce_zero_label": False,
        "test_mode": not training,
        "pipeline": pipeline,
    }


def training_dataset(data: DataDescription, size: InputSize, augmentation: Sequence[tuple[str, Scalar]]) -> Nested:
    """Returns the training data with its pipeline: load, resize, crop, augment, flip, pack.

    If a step mixes several images, the data set that loads, resizes and crops is wrapped in the stock one that hands
    out others beside. Either way every step with a knob stands in `pipeline`.
    """
    steps = augmentation_steps(augmentation, data.task, class_frequencies(data))
    instance = data.task == "instance"
    flip: Nested = {"type": "RandomFlip", "prob": 0.5}
    layered = instance and bool(steps)  # masks as layers of labels, which change much faster than one by one
    last: list[Nested] = [{"type": "PackDetInputs" if instance else "PackSegInputs"}]
    changing = [*steps, flip, {"type": "UnlayerMasks"}, *last] if layered else [*steps, flip, *last]
    loading = [*loading_pipeline(data, size), {"type": "LayerMasks"}] if layered else loading_pipeline(data, size)
    if not needs_other_images(steps):
        return dataset_config(data, data.train, [*loading, *changing], training=True)
    single = dataset_config(data, data.train, loading, training=True)
    return {"type": "MultiImageMixDataset", "dataset": single, "pipeline": changing}


def loading_pipeline(data: DataDescription, size: InputSize) -> list[Nested]:
    """Returns the stock steps that load, resize and crop a training image."""
    instance = data.task == "instance"
    load: Nested = {"type": "LoadAnnotations"} | ({"with_bbox": True, "with_mask": True} if instance else {})
    resized = resize(size)
    if size.multi_scale:
        resized |= {"type": "RandomResize", "ratio_range": (1 - size.multi_scale, 1 + size.multi_scale)}
    steps = [{"type": "LoadImageFromFile"}, load, resized]
    if size.crop:
        extra = {"allow_negative_crop": True} if instance else {"cat_max_ratio": 0.75}
        steps.append({"type": "RandomCrop", "crop_size": (size.crop, size.crop)} | extra)
    return steps


def class_frequencies(data: DataDescription) -> tuple[float, ...]:
    """Returns how often each class occurs in the training data: objects or share of pixels; all alike if unknown."""
    known = data.statistics
    counts = known.class_counts if isinstance(known, ObjectStatistics) else known.class_frequencies
    return tuple(map(float, counts)) or (1.0,) * len(data.classes)


def test_pipeline(data: DataDescription, size: InputSize) -> list[Nested]:
    """Returns the pipeline of validation and prediction.

    Our evaluators read the truth themselves; label maps are loaded (at full size) for the stock IoUMetric.
    """
    keys = ("img_path", "ori_shape", "img_shape", "scale_factor")
    load, resized = {"type": "LoadImageFromFile"}, resize(size)
    if data.task == "instance":
        return [load, resized, {"type": "PackDetInputs", "meta_keys": ("img_id", *keys)}]
    pack = {"type": "PackSegInputs", "meta_keys": (*keys, "seg_map_path", "reduce_zero_label")}
    return [load, resized, {"type": "LoadAnnotations"}, pack]


def resize(size: InputSize) -> Nested:
    return {"type": "Resize", "scale": (size.width, size.height), "keep_ratio": size.keep_ratio}


def data_config(
    data: DataDescription,
    size: InputSize,
    augmentation: Sequence[tuple[str, Scalar]] = (),
    *,
    batch_size: int,
    loader_workers: int,
) -> Nested:
    """Returns `train_dataloader`, `val_dataloader`, `test_dataloader` and the stock evaluators."""
    val = dataset_config(data, data.val, test_pipeline(data, size), training=False)
    evaluation = {
        "batch_size": 1,
        "num_workers": loader_workers,
        "persistent_workers": False,
        "drop_last": False,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": val,
    }
    training = {
        "batch_size": batch_size,
        "num_workers": loader_workers,
        "persistent_workers": False,  # fresh workers each epoch keep a resumed trial equal to an unbroken one
        # Batch norm cannot train on a last batch of one image.
        "drop_last": data.task == "semantic" and data.statistics.images > batch_size,
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "dataset": training_dataset(data, size, augmentation),
    }
    evaluator: Nested = {"type": "IoUMetric", "iou_metrics": ["mIoU"]}
    if data.task == "instance":
        evaluator = {"type": "CocoMetric", "ann_file": str(data.val.annotations), "metric": ["bbox", "segm"]}
    return {
        "train_dataloader": training,
        "val_dataloader": evaluation,
        "test_dataloader": evaluation,
        "val_evaluator": evaluator,
        "test_evaluator": evaluator,
    }
