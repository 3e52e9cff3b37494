"""What the zoos' metafiles say that models have scored: mask AP on COCO, mIoU on ADE20K, in percent, and with how much
memory of a GPU they were trained.

ADE20K, since it is the one data set on which most semantic models were scored; of Cityscapes alone there would be none
for SegFormer, Segmenter and OCRNet whose weights we know. Imports PyYAML and the tables of published weights.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from search_spaces.models import MODELS
from trainables.description import Task
from trainables.published_datasets import WHOLE_MODELS
from trainables.zoo import find_zoo_config

__all__ = ["MEASURES", "PublishedScore", "published_score"]

MEASURES: dict[Task, str] = {"instance": "mask AP", "semantic": "mIoU"}  # as metafiles call them
DATASETS: dict[Task, tuple[str, str]] = {"instance": ("coco", "COCO"), "semantic": ("ade20k", "ADE20K")}  # ours, theirs
MEMORY_KEYS = ("Training Memory (GB)", "Memory (GB)")
MOST_GB = 1000.0  # more is in MB, as of Mask2Former on Swin-T in MMSegmentation 1.2
LENGTH = re.compile(r"-?\d+[kxe](?=_)")

# Scored by the zoo, but not among the weights that we load: Caffe's pixels, or an encoder of another size of window.
SCORED_ONLY: dict[tuple[str, str], str] = {
    ("mask-rcnn", "x101-32x8d"): "mask-rcnn_x101-32x8d_fpn_ms-poly-1x_coco",
    ("cascade-mask-rcnn", "x101-32x8d"): "cascade-mask-rcnn_x101-32x8d_fpn_ms-3x_coco",
    ("ms-rcnn", "r50"): "ms-rcnn_r50-caffe_fpn_1x_coco",
    ("ms-rcnn", "r101"): "ms-rcnn_r101-caffe_fpn_1x_coco",
    ("point-rend", "r50"): "point-rend_r50-caffe_fpn_ms-3x_coco",
    ("segformer", "mit-b5"): "segformer_mit-b5_8xb2-160k_ade20k-512x512",
}


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """What a model on an encoder scored.

    Attributes:
        percent: Mask AP on COCO or mIoU on ADE20K, by the task.
        memory_gb: Training memory on each GPU at the zoo's batch and image size, None if that was not published.
        config: The zoo's config, without .py.
    """

    percent: float
    memory_gb: float | None
    config: str


@cache
def published_score(model: str, backbone: str | None, task: Task) -> PublishedScore | None:
    """Returns what the zoo published of a model on an encoder, None if nothing.

    Args:
        model: Short name, or the file name of a zoo config.
        backbone: Short name; None = the model's first, or that of the zoo config.
        task: What the model is for.
    """
    stem = stem_of(model, backbone, task)
    path = None if stem is None else find_zoo_config(stem, task)
    if path is None:
        return None
    found = (scores_by_name(metafile, task).get(path.stem) for metafile in sorted(path.parent.glob("metafile.y*ml")))
    return next((score for score in found if score is not None), None)


def stem_of(model: str, backbone: str | None, task: Task) -> str | None:
    """Returns the name of the zoo config whose score stands for a model on an encoder."""
    if model not in MODELS:
        return model if backbone is None else None
    encoder = backbone or next(iter(MODELS[model].backbones), "")
    whole = WHOLE_MODELS.get(model, {}).get(encoder, {}).get(DATASETS[task][0])
    return whole or SCORED_ONLY.get((model, encoder))


@cache
def scores_by_name(metafile: Path, task: Task) -> dict[str, PublishedScore]:
    """Reads a metafile: name of a config -> its score, where it has one of the task's data set.

    Memory that an entry does not give is that of one whose name differs in the length of the training only.
    """
    read = yaml.safe_load(metafile.read_text(encoding="utf-8")) or {}
    models = read.get("Models") or [] if isinstance(read, dict) else read
    stems = [Path(str(model.get("Config", model["Name"]))).stem for model in models]
    given = [(stem, memory_of(model)) for stem, model in zip(stems, models, strict=True)]
    alike = {LENGTH.sub("", stem): memory for stem, memory in given if memory is not None}
    exact = {stem: memory for stem, memory in given if memory is not None}
    scores = {stem: percent_of(model, task) for stem, model in zip(stems, models, strict=True)}
    return {
        stem: PublishedScore(percent, exact.get(stem) or alike.get(LENGTH.sub("", stem)), stem)
        for stem, percent in scores.items()
        if percent is not None
    }


def percent_of(model: Mapping[str, Any], task: Task) -> float | None:
    """Returns the score of one entry on the task's data set; an entry has one result or a list of them."""
    results = model.get("Results") or []
    for result in [results] if isinstance(results, dict) else results:
        value = (result.get("Metrics") or {}).get(MEASURES[task])
        if result.get("Dataset") == DATASETS[task][1] and isinstance(value, int | float):
            return float(value)
    return None


def memory_of(model: Mapping[str, Any]) -> float | None:
    """Returns the training memory of one entry in GB; the two zoos have different names for it."""
    metadata = model.get("Metadata") or {}
    values = [metadata[key] for key in MEMORY_KEYS if isinstance(metadata.get(key), int | float)]
    value = float(values[0]) if values else None
    return value / 1024 if value is not None and value > MOST_GB else value
