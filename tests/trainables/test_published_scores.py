"""Published scores and memory, read from the metafiles inside the wheels."""

import pytest

from search_spaces.models import MODELS
from trainables.published_datasets import WHOLE_MODELS
from trainables.published_scores import SCORED_ONLY, PublishedScore, published_score
from trainables.zoo import find_zoo_config


@pytest.mark.parametrize(
    ("model", "backbone", "percent", "memory_gb"),
    [
        ("mask-rcnn", None, 37.1, 4.1),
        ("mask-rcnn", "swin-s", 43.2, 11.9),
        ("cascade-mask-rcnn", "r101", 39.6, 7.8),
        ("ms-rcnn", "r50", 36.0, 4.5),  # the zoo has it with Caffe's pixels only
        ("yolact", "r50", 28.4, None),
        ("segformer", "mit-b0", 37.41, 2.1),  # MMSegmentation has one result, not a list, and "Memory (GB)"
        ("deeplabv3", "r50", 42.66, 8.9),  # the memory is that of 80k iterations
        ("mask2former-semantic", "swin-t", 48.66, 3826 / 1024),  # written in MB
        ("solov2_r50_fpn_1x_coco.py", None, 34.8, 5.1),
    ],
)
def test_a_models_score_and_memory(model: str, backbone: str | None, percent: float, memory_gb: float | None) -> None:
    task = MODELS[model].task if model in MODELS else "instance"
    found = published_score(model, backbone, task)
    assert found is not None and (found.percent, found.memory_gb) == (percent, memory_gb)


def test_what_was_not_scored_has_no_score() -> None:
    assert published_score("mask-rcnn", "densenet121", "instance") is None
    assert published_score("smp-unet", None, "semantic") is None
    assert published_score("deeplabv3plus", "r18", "semantic") is None  # on Cityscapes only
    assert published_score("no-such_r50_coco.py", None, "instance") is None


def test_every_row_of_the_tables_has_a_score() -> None:
    for (model, backbone), stem in SCORED_ONLY.items():
        assert backbone in MODELS[model].backbones and backbone not in WHOLE_MODELS.get(model, {})
        assert find_zoo_config(stem) is not None
    rows = [(model, backbone, data) for model, rows in WHOLE_MODELS.items() for backbone, data in rows.items()]
    scored = [(model, backbone) for model, backbone, data in rows if {"coco", "ade20k"} & set(data)]
    for model, backbone in [*scored, *SCORED_ONLY]:
        found = published_score(model, backbone, MODELS[model].task)
        assert isinstance(found, PublishedScore) and 25 < found.percent < 60
        assert found.memory_gb is None or 1 < found.memory_gb < 80


def test_ade20k_covers_more_models_than_cityscapes() -> None:
    semantic = {name: rows for name, rows in WHOLE_MODELS.items() if MODELS[name].task == "semantic"}
    on = {
        dataset: sum(any(dataset in data for data in rows.values()) for rows in semantic.values())
        for dataset in ("ade20k", "cityscapes")
    }
    assert on["ade20k"] == len(semantic) > on["cityscapes"]
