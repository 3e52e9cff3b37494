"""Every knob, on every model that takes it, changes the built config where it should and nowhere else.

The table below says where, apart from the knobs' own rows. An element of a list is named by its `name` or `type` where
those differ, else by its index. `*` stands for one key, `**` for any number of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from search_spaces.augmentations import AUGMENTATION_STEPS, MIXING_STEPS
from search_spaces.knobs import KNOBS, takes
from search_spaces.models import MODELS
from search_spaces.trial_config import Scalar, TrialConfig
from trainables.config import build_config
from trainables.description import DataDescription

LOADER, PIPELINE = "train_dataloader", "train_dataloader.dataset.pipeline"
OPTIMIZER, WRAPPER = "optim_wrapper.optimizer", "optim_wrapper"
RCNN, RPN = "model.test_cfg.rcnn", "model.train_cfg.rpn.assigner"
DECODE = "model.decode_head"
SIZE = ("model.data_preprocessor.**", "model.backbone.img_size.*")
# Milestones count iterations as soon as one is chosen, for a plan of few epochs.
STEPS = ("param_scheduler.MultiStepLR.milestones.**", "param_scheduler.MultiStepLR.by_epoch", "param_scheduler.*.end")
FRAME = (  # what is fitted to the size that the network sees
    "*_dataloader.dataset.pipeline.Resize.scale.*",
    "train_dataloader.dataset.pipeline.Pad.size.*",
    "model.**.anchor_generator.*",
    "model.**.anchor_generator.scales.*",
    "model.mask_head.strides.*",
)
SCHEDULE = ("param_scheduler.**",)
ONE_BOX_HEAD = ("yolact", "rtmdet-ins", "condinst")
CASCADES = ("cascade-mask-rcnn", "htc", "detectors", "scnet", "queryinst")
ASSIGNER = "model.train_cfg.rcnn.{}.assigner.{}_iou{}"


@dataclass(frozen=True)
class Row:
    """One knob: the value that is put in, what stands beside it, and the paths that may change.

    Every changed leaf matches one of `paths`, and there is one. `of` holds other paths for some models.
    """

    value: Scalar
    paths: tuple[str, ...]
    beside: Mapping[str, Scalar] = field(default_factory=dict)
    of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def of(models: tuple[str, ...], *paths: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(models, paths)


def assigner(stages: tuple[str, ...]) -> tuple[str, ...]:
    names = (("pos", "_thr"), ("neg", "_thr"), ("min_pos", ""))
    return tuple(ASSIGNER.format(stage, *name) for stage in stages for name in names)


EXPECTED: dict[str, Row] = {
    # optimizer
    "lr": Row(0.125, (f"{OPTIMIZER}.lr",)),
    "momentum": Row(0.125, (f"{OPTIMIZER}.momentum",), {"optimizer": "sgd"}),
    "weight_decay": Row(0.125, (f"{OPTIMIZER}.weight_decay",)),
    "batch_size": Row(3, (f"{LOADER}.batch_size", f"{OPTIMIZER}.lr"), {"optimizer": "sgd"}),
    "optimizer": Row("radam", (f"{OPTIMIZER}.**",)),
    "backbone_lr_factor": Row(0.125, (f"{WRAPPER}.paramwise_cfg.**", f"{WRAPPER}.constructor")),
    "layer_decay": Row(0.5, (f"{WRAPPER}.paramwise_cfg.**", f"{WRAPPER}.constructor")),
    "norm_decay": Row(False, (f"{WRAPPER}.paramwise_cfg.**", f"{WRAPPER}.constructor")),
    "gradient_clip": Row(0.125, (f"{WRAPPER}.clip_grad.max_norm",)),
    "accumulate": Row(3, (f"{WRAPPER}.accumulative_counts", f"{OPTIMIZER}.lr")),
    "precision": Row("bf16", (f"{WRAPPER}.type", f"{WRAPPER}.dtype")),
    # schedule
    "epochs": Row(5, ("train_cfg.max_epochs", *SCHEDULE)),
    "validation_interval": Row(3, ("train_cfg.val_interval",)),
    "max_iters": Row(9, ("train_cfg.max_epochs", f"{LOADER}.sampler.**", *SCHEDULE)),
    "validation_iters": Row(3, ("train_cfg.max_epochs", f"{LOADER}.sampler.validation_iters"), {"max_iters": 9}),
    "schedule": Row("cosine", SCHEDULE),
    "warm_up": Row(0.5, SCHEDULE),
    "step_1": Row(0.25, (*STEPS,), {"schedule": "step"}),
    "step_2": Row(0.75, (*STEPS,), {"schedule": "step"}),
    "step_3": Row(0.95, (*STEPS,), {"schedule": "step", "epochs": 100}),
    "step_gamma": Row(0.25, ("param_scheduler.MultiStepLR.gamma",), {"schedule": "step"}),
    "poly_power": Row(0.25, ("param_scheduler.PolyLR.power",), {"schedule": "poly"}),
    "final_lr_factor": Row(0.25, ("param_scheduler.**",), {"schedule": "cosine"}),
    "plateau_patience": Row(7, ("param_scheduler.ReduceOnPlateauLR.patience",), {"schedule": "plateau"}),
    "ema": Row(0.125, ("custom_hooks.EMAHook.**",)),
    # network
    "width": Row(0.5, ("model.**",)),
    "head_width": Row(0.5, ("model.**",)),
    "frozen_stages": Row(
        2,
        ("model.backbone.frozen_stages",),
        of=of(("detectors",), "model.backbone.frozen_stages", "model.neck.rfp_backbone.frozen_stages"),
    ),
    # input
    "crop_size": Row(96, (f"{PIPELINE}.RandomCrop.**", *FRAME, *SIZE)),
    "keep_ratio": Row(False, ("*_dataloader.dataset.pipeline.Resize.keep_ratio",)),
    "multi_scale": Row(0.25, (f"{PIPELINE}.RandomResize.**", f"{PIPELINE}.Resize.**", *FRAME, *SIZE)),
    "image_width": Row(96, (*FRAME, *SIZE)),
    "image_height": Row(96, (*FRAME, *SIZE)),
    # regions and limits
    "rpn_positive_iou": Row(0.125, (f"{RPN}.pos_iou_thr",), of=of(("yolact",), "model.train_cfg.assigner.pos_iou_thr")),
    "rpn_negative_iou": Row(0.125, (f"{RPN}.neg_iou_thr",), of=of(("yolact",), "model.train_cfg.assigner.neg_iou_thr")),
    "rcnn_positive_iou": Row(0.125, tuple(path.replace("..", ".") for path in assigner(("",)))),
    "cascade_iou_low": Row(0.125, assigner(("0", "1"))),
    "cascade_iou_high": Row(0.875, assigner(("1", "2"))),
    "nms_iou": Row(
        0.125,
        (f"{RCNN}.nms.iou_threshold",),
        of=of(("condinst", "rtmdet-ins"), "model.test_cfg.nms.iou_threshold")
        | of(("yolact",), "model.test_cfg.iou_thr"),
    ),
    "rpn_nms_iou": Row(
        0.125, ("model.train_cfg.rpn_proposal.nms.iou_threshold", "model.test_cfg.rpn.nms.iou_threshold")
    ),
    "anchor_scale": Row(
        3.5,
        ("model.rpn_head.anchor_generator.scales.0",),
        of=of(("yolact",), "model.bbox_head.anchor_generator.octave_base_scale"),
    ),
    "rois_per_image": Row(
        3, ("model.train_cfg.rcnn.sampler.num",), of=of(CASCADES, "model.train_cfg.rcnn.*.sampler.num")
    ),
    "minimum_confidence": Row(
        0.125,
        (f"{RCNN}.score_thr",),
        of=of((*ONE_BOX_HEAD, "mask2former"), "model.test_cfg.score_thr")
        | of(("solo", "solov2"), "model.test_cfg.score_thr", "model.test_cfg.filter_thr"),
    ),
    "detections_per_image": Row(
        400,
        (f"{RCNN}.max_per_img", "model.test_cfg.rpn.*", "model.train_cfg.rpn_proposal.*"),
        of=of((*ONE_BOX_HEAD, "solo", "solov2"), "model.test_cfg.*", "model.mask_head.max_masks_to_train")
        | of(("queryinst",), "model.rpn_head.num_proposals", f"{RCNN}.max_per_img")
        | of(("mask2former",), "model.panoptic_head.num_queries", "model.test_cfg.max_per_image"),
    ),
    # losses of label maps
    "loss": Row("dice", (f"{DECODE}.**",), of=of(("ocrnet",), f"{DECODE}.OCRHead.**")),
    "loss_mix": Row(
        0.125,
        (f"{DECODE}.loss_decode.*.loss_weight",),
        {"loss": "ce+dice"},
        of(("ocrnet",), f"{DECODE}.OCRHead.loss_decode.*.loss_weight"),
    ),
    "focal_gamma": Row(
        0.125,
        (f"{DECODE}.loss_decode.SoftmaxFocalLoss.gamma",),
        {"loss": "ce+focal"},
        of(("ocrnet",), f"{DECODE}.OCRHead.loss_decode.SoftmaxFocalLoss.gamma"),
    ),
    "class_balance": Row(
        "inverse", (f"{DECODE}.loss_decode.**",), {"loss": "ce"}, of(("ocrnet",), f"{DECODE}.OCRHead.loss_decode.**")
    ),
    "loss_auxiliary_weight": Row(0.125, ("model.auxiliary_head.**.loss_weight",)),
    # losses of detectors
    "loss_class_weight": Row(
        0.125,
        ("model.roi_head.bbox_head.loss_cls.loss_weight",),
        of=of(CASCADES, "model.roi_head.bbox_head.*.loss_cls.loss_weight")
        | of(ONE_BOX_HEAD, "model.bbox_head.loss_cls.loss_weight")
        | of(("solo", "solov2"), "model.mask_head.loss_cls.loss_weight")
        | of(("mask2former",), "model.panoptic_head.loss_cls.loss_weight"),
    ),
    "loss_box_weight": Row(
        0.125,
        ("model.roi_head.bbox_head.loss_bbox.loss_weight",),
        of=of(CASCADES, "model.roi_head.bbox_head.*.loss_bbox.loss_weight")
        | of(ONE_BOX_HEAD, "model.bbox_head.loss_bbox.loss_weight"),
    ),
    "loss_mask_weight": Row(
        0.125,
        ("model.roi_head.mask_head.loss_mask.loss_weight",),
        of=of(("htc", "detectors", "queryinst"), "model.roi_head.mask_head.*.loss_mask.loss_weight")
        | of(
            ("point-rend",),
            "model.roi_head.mask_head.loss_mask.loss_weight",
            "model.roi_head.point_head.loss_point.loss_weight",
        )
        | of(("solo", "solov2", "condinst"), "model.mask_head.loss_mask.loss_weight")
        | of(("yolact",), "model.mask_head.loss_mask_weight")
        | of(("rtmdet-ins",), "model.bbox_head.loss_mask.loss_weight")
        | of(
            ("mask2former",), "model.panoptic_head.loss_mask.loss_weight", "model.panoptic_head.loss_dice.loss_weight"
        ),
    ),
    # augmentation
    "flip": Row(0.125, (f"{PIPELINE}.RandomFlip.prob",)),
    "augmentation_strength": Row(0.125, (f"{PIPELINE}.shear.strength",), {"shear": 0.5}),
    **{name: Row(0.125, (f"{PIPELINE}.{name}.prob",), {name: 0.5}) for name in AUGMENTATION_STEPS},
    **{
        f"{name}_rare": Row(0.125, (f"{PIPELINE}.{name}.rare",), {name: 0.5})
        for name in MIXING_STEPS
        if f"{name}_rare" in KNOBS
    },
}

# Backbones whose widths can be scaled, for models whose first one's can't.
BESIDE: dict[str, dict[str, Scalar]] = {"bifpn": {"backbone": "r18"}}
ALWAYS = ("custom_imports.**",)  # whatever uses a part of ours names the module that registers it

# What leaves the config as it is, and the test that shows its effect.
ELSEWHERE = {
    "model": "test_model_matrix",
    "backbone": "test_encoders",
    "init": "test_weights",
    "best_by": "test_training_options",
}


def name_of(child: Any, index: int, siblings: Any) -> str:
    """Returns an element's `name` or `type` if no sibling has the same one, else its index."""
    names = [(item.get("name") or item.get("type")) if isinstance(item, dict) else None for item in siblings]
    own = names[index]
    return own if isinstance(own, str) and names.count(own) == 1 else str(index)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) of every leaf; an empty container is a leaf."""
    children: list[tuple[str, Any]] = []
    if isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, list | tuple):
        children = [(name_of(child, index, node), child) for index, child in enumerate(node)]
    if not children:
        yield path, node
    for key, value in children:
        yield from leaves(value, f"{path}.{key}".lstrip("."))


def changed(before: Any, after: Any) -> set[str]:
    """Returns the paths of all leaves that differ, are new or are gone."""
    old, new = dict(leaves(before)), dict(leaves(after))
    return {path for path in old.keys() | new.keys() if repr(old.get(path, leaves)) != repr(new.get(path, leaves))}


def fits(path: str, pattern: str) -> bool:
    """Says whether a path matches a pattern of the table."""
    expression = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", r"[^.]+")
    return re.fullmatch(expression, path) is not None


def trial_of(model: str, values: Mapping[str, Scalar]) -> TrialConfig:
    trial = TrialConfig().with_value("model.name", model)
    for name, value in values.items():
        trial = trial.with_value(KNOBS[name].field, value)
    return trial


def test_every_knob_stands_in_the_table_or_is_tested_elsewhere() -> None:
    assert EXPECTED.keys() | ELSEWHERE.keys() == KNOBS.keys()
    assert not EXPECTED.keys() & ELSEWHERE.keys()
    assert all((Path(__file__).parent / f"{name}.py").is_file() for name in ELSEWHERE.values())


@pytest.mark.parametrize("model", MODELS)
def test_each_knob_changes_the_config_where_it_should_and_only_there(
    model: str, one_step: dict[str, DataDescription]
) -> None:
    data = one_step[MODELS[model].task]
    problems = [
        problem
        for knob, row in EXPECTED.items()
        if takes(model, KNOBS[knob])
        for problem in wrong(model, knob, row, data)
    ]
    assert not problems, "\n".join(problems)


def wrong(model: str, knob: str, row: Row, data: DataDescription) -> list[str]:
    """Returns what a knob does on a model that the table does not say, in words."""
    beside = BESIDE.get(model, {}) | {name: value for name, value in row.beside.items() if takes(model, KNOBS[name])}
    before, after = (
        build_config(trial_of(model, values), data, seed=7) for values in (beside, beside | {knob: row.value})
    )
    found, expected = changed(before, after), (*row.of.get(model, row.paths), *ALWAYS)
    elsewhere = sorted(path for path in found if not any(fits(path, pattern) for pattern in expected))
    nothing = [] if found else [f"{knob} changes nothing"]
    return nothing + [f"{knob} also changes {path}" for path in elsewhere[:5]]
