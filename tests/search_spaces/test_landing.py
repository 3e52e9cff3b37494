"""Every knob lands in the real configs of every model that takes it, where it should and nowhere else."""

import copy
import importlib.util
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search_spaces.augmentations import AUGMENTATION_KNOBS
from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS, knobs_of
from search_spaces.landing import applicable_knobs, apply_landings, assert_landed, landings
from search_spaces.models import MODELS
from search_spaces.parameters import Choice
from search_spaces.trial_config import Scalar, TrialConfig
from segdata.errors import SpaceError

STEPS = {knob.name for knob in AUGMENTATION_KNOBS if knob.name != "flip"}  # land in our own pipelines: see test_config
# What build_config makes room for only if it is chosen: see test_optimization, test_schedules, test_losses.
STEPS |= {"backbone_lr_factor", "layer_decay", "norm_decay", "gradient_clip"}
STEPS |= {"max_iters", "validation_iters", "plateau_patience", "focal_gamma"}
BASES = {
    "mask-rcnn": ("mmdet", "mask-rcnn_r50_fpn"),
    "cascade-mask-rcnn": ("mmdet", "cascade-mask-rcnn_r50_fpn"),
    "ms-rcnn": ("mmdet", "mask-rcnn_r50_fpn"),  # its own config only adds a head to Mask R-CNN's
    "segformer": ("mmseg", "segformer_mit-b0"),
    "deeplabv3plus": ("mmseg", "deeplabv3plus_r50-d8"),
}


def zoo_config(package: str, model: str, task: str) -> dict[str, Any]:
    """Puts together the zoo's own base files, which are plain Python, without importing the zoo."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    base = Path(spec.origin).parent / ".mim" / "configs" / "_base_"
    dataset = "coco_instance" if task == "instance" else "ade20k"
    schedule = "schedule_1x" if task == "instance" else "schedule_20k"
    files = [f"models/{model}.py", f"datasets/{dataset}.py", f"schedules/{schedule}.py"]
    values = {key: value for file in files for key, value in runpy.run_path(str(base / file)).items()}
    wanted = ("model", "train_dataloader", "optim_wrapper", "train_cfg")
    config = copy.deepcopy({key: values[key] for key in wanted})
    config["train_cfg"] = {"type": "EpochBasedTrainLoop", "max_epochs": 1, "val_interval": 1}
    return config


@pytest.fixture(params=list(BASES))
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_of(model: str) -> dict[str, Any]:
    package, base = BASES[model]
    return zoo_config(package, base, MODELS[model].task)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, node


def changed(before: Any, after: Any) -> dict[str, Any]:
    old = dict(leaves(before))
    return {path: value for path, value in leaves(after) if path not in old or old[path] != value}


def unusual(knob: Knob) -> Scalar:
    """Returns a value that no stock config holds."""
    return knob.domain.nearest(0.123 if knob.kind() == "float" else 3)


def trial_of(model: str, **values: Scalar) -> TrialConfig:
    trial = TrialConfig().with_value("model.name", model).with_value("schedule.epochs", 1)
    for name, value in values.items():
        trial = trial.with_value(KNOBS[name].field, value)
    return trial


RCNN, STAGES = "model.train_cfg.rcnn", "model.train_cfg.rcnn[{}]"
ASSIGNER = ("assigner.pos_iou_thr", "assigner.neg_iou_thr", "assigner.min_pos_iou")
EXPECTED: dict[str, dict[str, set[str]]] = {
    "rcnn_positive_iou": {"*": {f"{RCNN}.{name}" for name in ASSIGNER}},
    "cascade_iou_low": {"*": {f"{STAGES.format(stage)}.{name}" for stage in (0, 1) for name in ASSIGNER}},
    "cascade_iou_high": {"*": {f"{STAGES.format(stage)}.{name}" for stage in (1, 2) for name in ASSIGNER}},
    "rpn_positive_iou": {"*": {"model.train_cfg.rpn.assigner.pos_iou_thr"}},
    "rpn_negative_iou": {"*": {"model.train_cfg.rpn.assigner.neg_iou_thr"}},
    "nms_iou": {"*": {"model.test_cfg.rcnn.nms.iou_threshold"}},
    "rpn_nms_iou": {"*": {"model.train_cfg.rpn_proposal.nms.iou_threshold", "model.test_cfg.rpn.nms.iou_threshold"}},
    "detections_per_image": {"*": {"model.test_cfg.rcnn.max_per_img"}},
    "minimum_confidence": {"*": {"model.test_cfg.rcnn.score_thr"}},
    "anchor_scale": {"*": {"model.rpn_head.anchor_generator.scales[0]"}},
    "rois_per_image": {
        "*": {f"{RCNN}.sampler.num"},
        "cascade-mask-rcnn": {f"{STAGES.format(stage)}.sampler.num" for stage in range(3)},
    },
    "loss_class_weight": {
        "*": {"model.roi_head.bbox_head.loss_cls.loss_weight"},
        "cascade-mask-rcnn": {f"model.roi_head.bbox_head[{stage}].loss_cls.loss_weight" for stage in range(3)},
    },
    "loss_box_weight": {
        "*": {"model.roi_head.bbox_head.loss_bbox.loss_weight"},
        "cascade-mask-rcnn": {f"model.roi_head.bbox_head[{stage}].loss_bbox.loss_weight" for stage in range(3)},
    },
    "loss_mask_weight": {"*": {"model.roi_head.mask_head.loss_mask.loss_weight"}},
    "loss_auxiliary_weight": {"*": {"model.auxiliary_head.loss_decode.loss_weight"}},
    "lr": {"*": {"optim_wrapper.optimizer.lr"}},
    "momentum": {"*": {"optim_wrapper.optimizer.momentum"}},
    "weight_decay": {"*": {"optim_wrapper.optimizer.weight_decay"}},
    "accumulate": {"*": {"optim_wrapper.accumulative_counts"}},
    "epochs": {"*": {"train_cfg.max_epochs"}},
    "validation_interval": {"*": {"train_cfg.val_interval"}},
    "batch_size": {"*": {"train_dataloader.batch_size"}},
    "flip": {
        "*": {"train_dataloader.dataset.pipeline[3].prob"},
        "segformer": {"train_dataloader.dataset.pipeline[4].prob"},
        "deeplabv3plus": {"train_dataloader.dataset.pipeline[4].prob"},
    },
    "frozen_stages": {"*": {"model.backbone.frozen_stages"}},
}  # fmt: skip


def test_every_knob_with_paths_has_its_row_here() -> None:
    assert set(EXPECTED) == {knob.name for knob in KNOBS.values() if knob.paths} - STEPS


def test_each_knob_changes_the_config_where_it_should_and_only_there(model: str) -> None:
    before = config_of(model)
    for knob in knobs_of(model):
        if not knob.paths or knob.name in STEPS:
            continue
        config, trial = copy.deepcopy(before), trial_of(model, **{knob.name: unusual(knob)})
        apply_landings(config, trial)
        assert_landed(config, trial)
        expected = EXPECTED[knob.name].get(model, EXPECTED[knob.name]["*"])
        assert set(changed(before, config)) == expected, knob.name


def test_each_field_of_a_knob_exists_and_the_knob_accepts_its_defaults() -> None:
    for knob in KNOBS.values():
        assert TrialConfig().with_value(knob.field, unusual(knob)).get(knob.field) == unusual(knob)
        defaults = [knob.default, *(value for group in knob.default_by.values() for value in group.values())]
        assert all(knob.accepts(value) for value in defaults if value is not None), knob.name
        assert knob.help and knob.source


def test_no_two_knobs_share_a_field() -> None:
    assert len({knob.field for knob in KNOBS.values()}) == len(KNOBS)


def test_stock_values_are_the_zoos(model: str) -> None:
    """Landing every default on the zoo's config changes nothing but what the zoo leaves to the data set."""
    before = config_of(model)
    others = {"model": model, "optimizer": "sgd"}
    detectors = [knob for knob in knobs_of(model) if knob.paths and "semantic" not in knob.tasks]
    detectors = [knob for knob in detectors if knob.name not in STEPS]
    values = {knob.name: knob.default_for(others) for knob in detectors}
    config = copy.deepcopy(before)
    apply_landings(config, trial_of(model, **{name: value for name, value in values.items() if value is not None}))
    assert changed(before, config) == {}


def test_cascade_stages_are_spaced_evenly() -> None:
    trial = trial_of("cascade-mask-rcnn", cascade_iou_low=0.2, cascade_iou_high=0.6)
    found = {landing.path: landing.value for landing in landings(trial) if "pos_iou_thr" in landing.path}
    assert found == {
        "model.train_cfg.rcnn[0].assigner.pos_iou_thr": 0.2,
        "model.train_cfg.rcnn[1].assigner.pos_iou_thr": pytest.approx(0.4),
        "model.train_cfg.rcnn[2].assigner.pos_iou_thr": 0.6,
    }


def test_one_end_of_the_cascade_keeps_the_other_at_its_stock_value() -> None:
    config = config_of("cascade-mask-rcnn")
    apply_landings(config, trial_of("cascade-mask-rcnn", cascade_iou_low=0.3))
    found = [stage["assigner"]["pos_iou_thr"] for stage in config["model"]["train_cfg"]["rcnn"]]
    assert found == [0.3, pytest.approx(0.5), 0.7]


def test_overrides_land_last_and_name_the_nearest_key() -> None:
    path = "model.test_cfg.rcnn.mask_thr_binary"
    config = config_of("mask-rcnn")
    trial = TrialConfig.from_dict(trial_of("mask-rcnn").to_dict() | {"overrides": [(path, 0.4)]})
    apply_landings(config, trial)
    assert_landed(config, trial)
    assert config["model"]["test_cfg"]["rcnn"]["mask_thr_binary"] == 0.4
    wrong = TrialConfig.from_dict(trial.to_dict() | {"overrides": [("model.test_cfg.rcn.mask_thr_binary", 0.4)]})
    with pytest.raises(
        SpaceError, match="of model mask-rcnn: .*got model.test_cfg.rcn. The nearest is model.test_cfg.rcnn"
    ):
        apply_landings(config, wrong)


def test_a_value_that_did_not_land_is_named() -> None:
    config = config_of("mask-rcnn")
    trial = trial_of("mask-rcnn", nms_iou=0.3)
    apply_landings(config, trial)
    config["model"]["test_cfg"]["rcnn"]["nms"]["iou_threshold"] = 0.5
    with pytest.raises(SpaceError, match="knob nms_iou of model mask-rcnn: expected 0.3 at .*but got 0.5"):
        assert_landed(config, trial)


def test_a_knob_that_its_model_does_not_take_is_refused() -> None:
    with pytest.raises(SpaceError, match="expected a knob that segformer takes, but got nms_iou"):
        landings(trial_of("segformer", nms_iou=0.3))


def test_a_zoo_config_takes_the_knobs_whose_paths_it_has() -> None:
    instance, semantic = config_of("mask-rcnn"), config_of("segformer")
    applicable, refused = applicable_knobs(instance, "htc_r50_fpn_1x_coco.py")
    assert {"lr", "nms_iou", "rcnn_positive_iou", "loss_class_weight", "image_width"} <= set(applicable)
    assert set(refused) - STEPS == {
        "backbone",
        "width",
        "head_width",
        "cascade_iou_low",
        "cascade_iou_high",
        "loss",
        "loss_mix",
        "class_balance",
        "loss_auxiliary_weight",
    }
    applicable, refused = applicable_knobs(semantic, "segmenter_vit-t.py")
    assert "momentum" in applicable
    assert "nms_iou" in refused
    trial = trial_of("some_zoo_1x.py", loss_class_weight=0.3)
    assert [landing.path for landing in landings(trial, instance)][-1].endswith("bbox_head[*].loss_cls.loss_weight")
    with pytest.raises(SpaceError, match="knob nms_iou of model some_zoo_1x.py: expected model.test_cfg.rcnn.nms"):
        apply_landings(semantic, trial_of("some_zoo_1x.py", nms_iou=0.3))


def test_a_model_of_ours_takes_what_its_row_says() -> None:
    applicable, refused = applicable_knobs({}, "segformer")
    assert applicable == tuple(knob.name for knob in knobs_of("segformer"))
    assert set(applicable) | set(refused) == set(KNOBS)


def test_choices_of_knobs_hold_every_backbone_of_every_model() -> None:
    domain = KNOBS["backbone"].domain
    assert isinstance(domain, Choice)
    assert set(domain.values) == {name for row in MODELS.values() for name in row.backbones}
