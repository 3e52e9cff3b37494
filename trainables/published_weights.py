"""Which whole models others have published: names from a table, addresses from the zoos' own metafiles.

Imports the zoo reader and PyYAML.
"""

from functools import cache
from pathlib import Path

import yaml

from search_spaces.models import MODELS
from trainables.published_datasets import WHOLE_MODELS
from trainables.zoo import find_zoo_config, zoo_folder

__all__ = ["DATASETS", "datasets_of", "whole_model_url"]

DATASETS = ("coco", "ade20k", "pascal-context", "cityscapes")


def datasets_of(model: str) -> dict[str, tuple[str, ...]]:
    """Returns the data sets that a model has been trained on by its zoo, with which encoders each."""
    found: dict[str, list[str]] = {}
    for backbone, rows in WHOLE_MODELS.get(model, {}).items():
        for dataset in rows:
            found.setdefault(dataset, []).append(backbone)
    return {dataset: tuple(backbones) for dataset, backbones in found.items()}


def whole_model_url(model: str, backbone: str | None, dataset: str) -> str | None:
    """Returns the address of a whole model trained on a data set, None if none is published.

    Args:
        model: Short name, or the file name of a zoo config, which has its own weights.
        backbone: Short name; None = the model's first.
        dataset: One of `DATASETS`.
    """
    if model not in MODELS:
        path = find_zoo_config(model)
        mark = {"pascal-context": "pascal", "ade20k": "ade20k", "cityscapes": "cityscapes", "coco": "coco"}[dataset]
        return None if path is None or mark not in path.stem else weights_of(path)
    encoder = backbone or next(iter(MODELS[model].backbones), "")
    stem = WHOLE_MODELS.get(model, {}).get(encoder, {}).get(dataset)
    if stem is None:
        return None
    paths = sorted(zoo_folder(MODELS[model].task).rglob(f"{stem}.py"))
    return weights_of(paths[0]) if paths else None


def weights_of(config: Path) -> str | None:
    """Returns the address of the weights of a zoo config, from the metafile beside it."""
    for metafile in sorted(config.parent.glob("metafile.y*ml")):
        address = weights_by_name(metafile).get(config.stem)
        if address is not None:
            return address
    return None


@cache
def weights_by_name(metafile: Path) -> dict[str, str]:
    """Reads a metafile: name of a config -> address of its weights."""
    read = yaml.safe_load(metafile.read_text(encoding="utf-8")) or {}
    models = read.get("Models") or [] if isinstance(read, dict) else read
    stems = {Path(str(model.get("Config", model["Name"]))).stem: model.get("Weights") for model in models}
    return {stem: weights for stem, weights in stems.items() if isinstance(weights, str)}
