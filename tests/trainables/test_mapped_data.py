"""Trials that share their annotations: the samples of the stock data set, exactly, and no copy in a trial."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmdet.datasets import CocoDataset, MultiImageMixDataset
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import DefaultScope

from search_spaces.trial_config import TrialConfig
from segdata.coco import read_coco
from segdata.coco_records import CocoRecords
from segdata.instances import rle_of
from segdata.rle import rle_encode
from trainables.config import build_config, exported_config
from trainables.description import DataDescription
from trainables.evaluators import InstanceEvaluator
from trainables.mapped_data import MappedCocoDataset, shared_annotations

Arguments = dict[str, Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Objects of every kind on images of two sizes, in no order; some that stock training leaves out."""
    rng = np.random.default_rng(3)
    images = [
        {"id": int(i), "file_name": f"{i}.png", "width": 64, "height": 48 if i % 3 else 8} for i in (5, 1, 9, 2, 7)
    ]
    annotations = []
    for number in range(40):
        image = images[int(rng.integers(4))]  # the last stays empty
        x, y = (float(value) for value in rng.uniform(-10, 70, 2))
        w, h = (float(value) for value in rng.uniform(0.2, 30, 2))
        mask_HW = np.zeros((image["height"], image["width"]), dtype=np.uint8)
        mask_HW[2:6, 3:9] = 1
        counts = [2, 4, image["height"] * image["width"] - 6]
        shapes: list[Any] = [
            [[x, y, x + w, y, x + w, y + h], [1, 2, 3, 2, 3, 4]],
            rle_encode(mask_HW).to_coco(),
            {"size": list(mask_HW.shape), "counts": counts},
            [],
        ]
        annotations.append(
            {
                "id": number + 1,
                "image_id": image["id"],
                "category_id": (30, 10, 20)[number % 3],
                "segmentation": shapes[number % 4],
                "bbox": [x, y, w, h] if number % 5 else [3, 2, 6, 4],
                "area": w * h if number % 7 else 0,
                "iscrowd": int(number % 4 in (1, 2)),
            }
            | ({"ignore": 1} if number % 11 == 0 else {})
        )
    categories = [{"id": 30, "name": "c"}, {"id": 10, "name": "a"}, {"id": 20, "name": "b"}]
    path = tmp_path / "crowded.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def samples(dataset: Any) -> list[dict[str, Any]]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def assert_same(ours: Any, theirs: Any) -> None:
    """The same samples with the same keys in the same order and values of the same types."""
    assert len(ours) == len(theirs)
    assert repr(samples(ours)) == repr(samples(theirs))
    assert ours.metainfo == theirs.metainfo


@pytest.mark.parametrize("test_mode", [False, True])
@pytest.mark.parametrize("classes", [("a", "b", "c"), ("c", "a"), ("b",)])
@pytest.mark.parametrize("filter_cfg", [None, {"filter_empty_gt": True, "min_size": 1}, {"min_size": 32}])
def test_samples_of_every_kind_equal_the_stock_ones(
    crowded: Path, classes: tuple[str, ...], filter_cfg: dict[str, Any] | None, test_mode: bool
) -> None:
    arguments: Arguments = {
        "ann_file": str(crowded),
        "data_prefix": {"img": "images/"},
        "metainfo": {"classes": classes},
        "filter_cfg": filter_cfg,
        "test_mode": test_mode,
    }
    ours, theirs = MappedCocoDataset(**arguments), CocoDataset(**arguments)
    assert_same(ours, theirs)
    assert ours.cat_ids == theirs.cat_ids and ours.cat2label == theirs.cat2label
    assert ours.get_data_info(-1) == theirs.get_data_info(-1)


@pytest.mark.parametrize("more", [{"indices": 3}, {"indices": [4, 0]}, {"lazy_init": True}, {"return_classes": True}])
def test_what_else_a_config_may_say_has_the_stock_effect(crowded: Path, more: Arguments) -> None:
    arguments: Arguments = {
        "ann_file": str(crowded),
        "data_prefix": {"img": ""},
        "metainfo": {"classes": ("a", "b", "c")},
        **more,
    }
    ours, theirs = MappedCocoDataset(**arguments), CocoDataset(**arguments)
    ours.full_init(), theirs.full_init()
    assert_same(ours, theirs)
    assert_same(ours.get_subset([1, 0]), theirs.get_subset([1, 0]))
    assert ours.get_cat_ids(0) == theirs.get_cat_ids(0)


def loaders(data: DataDescription, trial: TrialConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    config = build_config(trial, data, seed=7)
    return config, shared_annotations(config)


def test_a_trials_samples_equal_the_stock_ones(
    particles: DataDescription, tiny_trial: Callable[..., TrialConfig]
) -> None:
    register_all_modules(init_default_scope=False)
    config, live = loaders(particles, tiny_trial("mask-rcnn"))
    with DefaultScope.overwrite_default_scope("mmdet"):
        for name in ("train_dataloader", "val_dataloader"):
            ours = DATASETS.build(Config(live)[name]["dataset"])
            theirs = DATASETS.build(Config(config)[name]["dataset"])
            assert type(ours) is MappedCocoDataset and type(theirs) is CocoDataset
            assert_same(ours, theirs)
            np.random.seed(3)
            first = ours[0]
            np.random.seed(3)
            assert str(first["data_samples"]) != "" and (first["inputs"] == theirs[0]["inputs"]).all()


def test_a_mix_of_images_draws_from_shared_annotations(
    particles: DataDescription, tiny_trial: Callable[..., TrialConfig]
) -> None:
    register_all_modules(init_default_scope=False)
    config, _ = loaders(particles, tiny_trial("mask-rcnn"))
    single = config["train_dataloader"]["dataset"]
    wrapped = {"type": "MultiImageMixDataset", "dataset": single | {"pipeline": []}, "pipeline": []}
    live = shared_annotations({"train_dataloader": {"dataset": wrapped}})
    with DefaultScope.overwrite_default_scope("mmdet"):
        ours = DATASETS.build(live["train_dataloader"]["dataset"])
    assert isinstance(ours, MultiImageMixDataset) and type(ours.dataset) is MappedCocoDataset
    assert wrapped["dataset"]["type"] == "CocoDataset", "what is exported stays as it is"
    assert repr(ours[2]["instances"]) == repr(ours.dataset.get_data_info(2)["instances"])


def test_what_is_exported_keeps_the_stock_data_set(
    particles: DataDescription, tiny_trial: Callable[..., TrialConfig]
) -> None:
    config, live = loaders(particles, tiny_trial("mask-rcnn"))
    assert live["train_dataloader"]["dataset"]["type"] == "MappedCocoDataset"
    assert "MappedCocoDataset" not in exported_config(config).pretty_text


def test_a_semantic_trial_is_left_as_it_is(litter: DataDescription, tiny_trial: Callable[..., TrialConfig]) -> None:
    config, live = loaders(litter, tiny_trial("segformer"))
    assert live == {name: config[name] for name in ("train_dataloader", "val_dataloader")}


def test_a_data_set_holds_no_annotations(particles: DataDescription) -> None:
    names = {"classes": particles.classes}
    dataset = MappedCocoDataset(ann_file=str(particles.train.annotations), metainfo=names, data_prefix={"img": ""})
    alone = len(pickle.dumps(dataset))
    whole = particles.train.annotations.read_bytes() if particles.train.annotations else b""
    assert alone < 10_000 < len(whole)
    assert pickle.loads(pickle.dumps(dataset)).get_data_info(3) == dataset.get_data_info(3)
    assert copy.deepcopy(dataset).get_data_info(3) == dataset.get_data_info(3)


def test_trials_and_evaluators_share_one_file(particles: DataDescription, cache: Path) -> None:
    annotations = str(particles.val.annotations)
    for _ in range(2):
        MappedCocoDataset(ann_file=annotations, metainfo={"classes": particles.classes})
        InstanceEvaluator(annotations)
    assert len(list(cache.glob("*.records"))) == 1


def test_an_evaluator_scores_without_a_copy_of_the_truth(particles: DataDescription) -> None:
    assert particles.val.annotations is not None
    truth = read_coco(particles.val.annotations)
    evaluator = InstanceEvaluator(str(particles.val.annotations))
    assert [type(value) for value in vars(evaluator).values()].count(CocoRecords) == 1
    before = len(pickle.dumps(evaluator))
    sizes = {image.id: (image.height, image.width) for image in truth.images}
    found = [
        {
            "image_id": obj.image_id,
            "category_id": obj.category_id,
            "bbox": list(obj.bbox_xywh),
            "score": 1.0,
            "segmentation": rle_of(obj, *sizes[obj.image_id]).to_coco(),
        }
        for obj in truth.objects
    ]
    for _ in range(2):
        scores = evaluator.compute_metrics([found])
        assert scores["segm_mAP"] == scores["bbox_mAP"] == 1.0
    assert len(pickle.dumps(evaluator)) == before
