"""Configs are built by pure functions: fitted to the data, with every value where its knob says, and nothing unseen."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces.backbones import FAMILIES
from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS, knobs_of, takes
from search_spaces.landing import get_path, landings
from search_spaces.model import Model
from search_spaces.models import MODELS
from search_spaces.parameters import Float, Int
from search_spaces.trial_config import (
    InputChoice,
    ModelChoice,
    OptimizationChoice,
    Scalar,
    ScheduleChoice,
    TrialConfig,
)
from segdata.errors import InputError, SpaceError
from trainables.config import RESTING, build_config
from trainables.description import DataDescription
from trainables.weights_plan import initial_parts

FIRST = [family[0] for family in FAMILIES.values()]  # test_encoders and test_semantic_models try the others
PAIRS = [(model.name, name) for model in MODELS.values() for name in model.backbones if name in FIRST]
KNOWN = ("mask-rcnn", "cascade-mask-rcnn", "ms-rcnn", "segformer", "deeplabv3plus")  # test_knob_matrix tries all
RESIZING = ("image_width", "image_height", "crop_size", "keep_ratio", "multi_scale")
SHAPING = (
    "schedule",
    "warm_up",
    "step_1",
    "step_2",
    "step_3",
    "step_gamma",
    "poly_power",
    "final_lr_factor",
    "best_by",
)
OPTIONS = ("ema", "precision", "loss", "loss_mix", "class_balance")  # these two lines: test_schedules, _optimization
STRUCTURAL = ("model", "backbone", "init", "width", "head_width", *RESIZING, *SHAPING, *OPTIONS)

Nested = dict[str, Any]
DataOf = Callable[[str], DataDescription]


@pytest.fixture
def data_of(particles: DataDescription, litter: DataDescription) -> DataOf:
    """Returns the data that a model can learn from."""
    return lambda model: litter if model in MODELS and MODELS[model].task == "semantic" else particles


def walk(part: Any) -> list[Nested]:
    """Every dict inside `part`."""
    children = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    found = [part] if isinstance(part, dict) else []
    return found + [inner for child in children for inner in walk(child)]


def inside(knob: Knob) -> Scalar:
    """A value of a knob that is not its stock value."""
    if isinstance(knob.domain, Float):
        return 0.125 if knob.default != 0.125 else 0.25
    if isinstance(knob.domain, Int):
        return 2 if knob.default != 2 else 3
    return "adadelta" if knob.name == "optimizer" else knob.domain.values[-1]


def middle(name: str) -> Scalar:
    """A value of the knob `name` that has an effect."""
    return 0.5 if isinstance(KNOBS[name].domain, Float) else 40


@pytest.mark.parametrize(("model", "backbone"), PAIRS)
def test_every_model_stands_on_each_of_its_backbones(model: str, backbone: str, data_of: DataOf) -> None:
    data = data_of(model)
    config = build_config(TrialConfig(ModelChoice(model, backbone)), data, seed=7)
    names = ("num_classes", "num_things_classes")
    counts = [part[name] for part in walk(config["model"]) for name in names if name in part]
    assert counts and set(counts) == {len(data.classes)}
    assert not any(part.get("type") == "SyncBN" for part in walk(config["model"]))


@pytest.mark.parametrize(("model", "backbone"), PAIRS)
def test_init_none_leaves_no_published_weights_and_nothing_frozen(model: str, backbone: str, data_of: DataOf) -> None:
    config = build_config(TrialConfig(ModelChoice(model, backbone, init="none")), data_of(model), seed=7)
    assert "Pretrained" not in repr(config) and "://" not in repr(config["model"])
    body = config["model"]["backbone"]
    assert body.get("frozen_stages", -1) == -1 and not body.get("norm_eval", False)


@pytest.mark.parametrize("name", ["solov2_r101_fpn_ms-3x_coco.py", "mask-rcnn_hrnetv2p-w18-1x_coco.py"])
def test_norms_of_a_zoo_config_from_scratch_are_awake(name: str, particles: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice(name, init="none")), particles, seed=7)
    assert config["model"]["backbone"]["norm_eval"] is False


def test_backbones_whose_norms_rest_by_default_are_those_of_mmdetection() -> None:
    import inspect

    import mmdet.models
    from mmdet.registry import MODELS as DETECTION
    from mmengine.model import BaseModule

    def rests(kind: type) -> bool:
        signatures = (inspect.signature(base.__init__).parameters for base in kind.__mro__ if base is not BaseModule)
        found = [parameters["norm_eval"].default for parameters in signatures if "norm_eval" in parameters]
        return found[:1] == [True]

    backbones = {name: kind for name, kind in vars(mmdet.models.backbones).items() if name in DETECTION.module_dict}
    assert {name for name, kind in backbones.items() if rests(kind)} == set(RESTING)


@pytest.mark.parametrize(("model", "backbone"), PAIRS)
def test_no_config_names_an_address(model: str, backbone: str, data_of: DataOf) -> None:
    choice = ModelChoice(model, backbone, init="imagenet")
    try:
        initial_parts(choice, MODELS[model].task)
    except InputError as none_published:
        assert f"no imagenet for {model} with {backbone}" in str(none_published)
        return
    config = build_config(TrialConfig(choice), data_of(model), seed=7)
    assert "Pretrained" not in repr(config) and "://" not in repr(config["model"])


def test_scaled_widths_and_published_weights_exclude_each_other(particles: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("mask-rcnn", "r18", init="imagenet", width=0.5))
    with pytest.raises(InputError, match=r"width: expected width 1 with init imagenet, but got 0.5. Drop width"):
        build_config(trial, particles, seed=7)


@pytest.mark.parametrize("model", KNOWN)
@pytest.mark.parametrize("knob", [knob for knob in KNOBS.values() if knob.name not in STRUCTURAL], ids=lambda k: k.name)
def test_a_knob_lands_where_its_row_says_or_is_refused(model: str, knob: Knob, data_of: DataOf) -> None:
    stock = TrialConfig(ModelChoice(model), optimization=OptimizationChoice(optimizer="sgd"))
    value = inside(knob)
    for name in knob.beside:
        stock = stock.with_value(KNOBS[name].field, middle(name)) if KNOBS[name] in knobs_of(model) else stock
    for name, allowed in knob.needs.items():
        stock = stock.with_value(KNOBS[name].field, allowed[0]) if KNOBS[name] in knobs_of(model) else stock
    trial = stock.with_value(knob.field, value)
    if knob not in knobs_of(model):
        if knob.paths:
            with pytest.raises(SpaceError, match=knob.name):
                build_config(trial, data_of(model), seed=7)
        return
    before = build_config(stock, data_of(model), seed=7)
    config = build_config(trial, data_of(model), seed=7)
    if knob.name == "optimizer":
        assert config["optim_wrapper"]["optimizer"]["type"] == "Adadelta"
        return
    landed = [landing for landing in landings(trial, config) if landing.knob == knob.name]
    assert landed
    for landing in landed:
        assert all(found == landing.value for found in get_path(config, landing.path))
    if knob.spread is None:
        assert {landing.value for landing in landed} == {value}
    assert config != before


@pytest.mark.parametrize(
    ("model", "backbone", "fitting"),
    [("mask-rcnn", "beit-b", "r18"), ("segformer", "beit-b", "mit-b0"), ("deeplabv3plus", "mit-b1", "x50-32x4d")],
)
def test_a_backbone_that_does_not_fit_is_refused(model: str, backbone: str, fitting: str, data_of: DataOf) -> None:
    with pytest.raises(InputError, match=f"expected a backbone that fits .*{fitting}.*, but got {backbone}"):
        build_config(TrialConfig(ModelChoice(model, backbone)), data_of(model), seed=7)


def test_a_model_of_the_other_task_is_refused(litter: DataDescription) -> None:
    with pytest.raises(InputError, match="expected a model for semantic data, but got the instance model 'mask-rcnn'"):
        build_config(TrialConfig(ModelChoice("mask-rcnn")), litter, seed=7)


@pytest.mark.parametrize(
    ("trial", "kind", "lr", "weight_decay"),
    [
        (TrialConfig(ModelChoice("mask-rcnn")), "SGD", 0.02 * 2 / 16, 1e-4),  # two images a step, stock 16
        (TrialConfig(ModelChoice("segformer")), "AdamW", 6e-5, 0.01),
        (TrialConfig(ModelChoice("deeplabv3plus")), "SGD", 0.01 * 4 / 16, 1e-4),
        (TrialConfig(ModelChoice("mask-rcnn"), optimization=OptimizationChoice("adam")), "Adam", 1e-4, 0.0),
        (TrialConfig(ModelChoice("mask-rcnn"), optimization=OptimizationChoice("adadelta")), "Adadelta", 1.0, 0.0),
        (TrialConfig(ModelChoice("mask-rcnn"), optimization=OptimizationChoice("sgd", 0.3)), "SGD", 0.3, 1e-4),
    ],
)
def test_optimizers_have_the_stock_values_of_their_rows(
    trial: TrialConfig, kind: str, lr: float, weight_decay: float, data_of: DataOf
) -> None:
    optimizer = build_config(trial, data_of(trial.model.name), seed=7)["optim_wrapper"]["optimizer"]
    assert (optimizer["type"], optimizer["lr"], optimizer["weight_decay"]) == (kind, lr, weight_decay)
    assert ("momentum" in optimizer) == (kind == "SGD")


@pytest.mark.parametrize(("epochs", "milestones"), [(12, [8, 11]), (15, [10, 14]), (9, [6, 8]), (2, [1, 2]), (1, [1])])
def test_milestones_are_fractions_of_the_epochs(epochs: int, milestones: list[int], particles: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("mask-rcnn"), schedule=ScheduleChoice(epochs, 2))
    config = build_config(trial, particles, seed=7)
    assert config["param_scheduler"][-1]["milestones"] == milestones
    assert (config["train_cfg"]["max_epochs"], config["train_cfg"]["val_interval"]) == (epochs, 2)


@pytest.mark.parametrize("model", ["mask-rcnn", "segformer"])
@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 10, 30, 100])
def test_the_learning_rate_reaches_its_base_value(model: str, epochs: int, data_of: DataOf) -> None:
    trial = TrialConfig(
        ModelChoice(model),
        optimization=OptimizationChoice("adamw", 1e-3, batch_size=4),
        schedule=ScheduleChoice(epochs),
    )
    rates = learning_rates(build_config(trial, data_of(model), seed=7), epochs, iterations=2)
    assert math.isclose(max(rates), 1e-3), rates
    assert rates.index(max(rates)) <= max(1, epochs * 2 // 10), "the warm-up takes a tenth of the training"
    assert rates[0] <= 1e-3 and (epochs < 3 or rates[-1] < 1e-3)


def learning_rates(config: Nested, epochs: int, iterations: int) -> list[float]:
    """The learning rate of each training step, by MMEngine's own schedulers."""
    import torch
    from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    with DefaultScope.overwrite_default_scope("mmengine"):
        schedulers = [PARAM_SCHEDULERS.build(part | {"optimizer": optimizer}) for part in config["param_scheduler"]]
    rates = []
    for _ in range(epochs):
        for _ in range(iterations):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            step(schedulers, by_epoch=False)
        step(schedulers, by_epoch=True)
    return rates


def step(schedulers: list[Any], *, by_epoch: bool) -> None:
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def test_a_zoo_config_by_its_file_name_is_the_short_name(particles: DataDescription) -> None:
    named = build_config(TrialConfig(ModelChoice("mask-rcnn_r50_fpn_1x_coco.py")), particles, seed=7)
    short = build_config(TrialConfig(ModelChoice("mask-rcnn")), particles, seed=7)
    assert named["model"] == short["model"]
    assert named["optim_wrapper"]["optimizer"] == short["optim_wrapper"]["optimizer"]


@pytest.mark.parametrize("name", ["solov2_r50_fpn_1x_coco", "htc-without-semantic_r50_fpn_1x_coco.py"])
def test_other_zoo_configs_take_the_knobs_that_have_a_place(name: str, particles: DataDescription) -> None:
    trial = TrialConfig(
        ModelChoice(name),
        optimization=OptimizationChoice("adamw", 1e-3),
        overrides=(("model.test_cfg.rcnn.score_thr", 0.2),),
    )
    if name.startswith("solov2"):
        trial = replace(trial, overrides=(("model.test_cfg.score_thr", 0.2),))
    config = build_config(trial, particles, seed=7)
    assert config["optim_wrapper"]["optimizer"]["lr"] == 1e-3
    assert "Pretrained" not in repr(config)
    assert {part["num_classes"] for part in walk(config["model"]) if "num_classes" in part} == {1}
    assert 0.2 in [part.get("score_thr") for part in walk(config["model"]["test_cfg"])]


def test_a_zoo_config_with_things_stuff_and_class_weights_gets_our_classes(particles: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("mask2former_r50_8xb2-lsj-50e_coco.py"), InputChoice(crop_size=64))
    config = build_config(trial, particles, seed=7)
    head = config["model"]["panoptic_head"]
    assert (head["num_things_classes"], head["num_stuff_classes"]) == (1, 0)
    assert head["loss_cls"]["class_weight"] == [1.0, 0.1]  # our one class, and "no object"
    assert config["model"]["data_preprocessor"]["batch_augments"][0]["size"] == (64, 64)
    # Its own optimizer and multipliers, not ours.
    assert config["optim_wrapper"]["type"] == "OptimWrapper" and "paramwise_cfg" in config["optim_wrapper"]
    assert config["optim_wrapper"]["optimizer"]["type"] == "AdamW"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("thresholds.rpn_positive_iou", 0.6, "rpn_positive_iou"),
        ("loss.box_weight", 2.0, "loss_box_weight"),
        ("model.width", 0.5, "width"),
        ("model.backbone", "r18", "backbone"),
    ],
)
def test_a_knob_that_a_zoo_config_cannot_take_is_named(
    field: str, value: Scalar, named: str, particles: DataDescription
) -> None:
    trial = TrialConfig(ModelChoice("solov2_r50_fpn_1x_coco.py")).with_value(field, value)
    with pytest.raises(InputError, match=f"{named}.*solov2|solov2.*{named}"):
        build_config(trial, particles, seed=7)


def test_a_zoo_config_that_is_not_there_is_named(particles: DataDescription) -> None:
    with pytest.raises(InputError, match="a short model name or a config file of the mmdet zoo, but got 'nope"):
        build_config(TrialConfig(ModelChoice("nope_r50.py")), particles, seed=7)


def test_an_override_lands_last_and_must_have_a_place(particles: DataDescription) -> None:
    path = "model.test_cfg.rcnn.nms.iou_threshold"
    config = build_config(TrialConfig(overrides=((path, 0.31),)), particles, seed=7)
    assert config["model"]["test_cfg"]["rcnn"]["nms"]["iou_threshold"] == 0.31
    with pytest.raises(SpaceError, match="iou_treshold"):
        build_config(TrialConfig(overrides=((path.replace("iou_threshold", "iou_treshold"), 0.3),)), particles, seed=7)


def test_building_a_config_is_pure(data_of: DataOf) -> None:
    for model in MODELS:
        first, second = (build_config(TrialConfig(ModelChoice(model)), data_of(model), seed=7) for _ in range(2))
        assert first == second


@pytest.mark.slow
def smallest(model: Model) -> str | None:
    """A small encoder of a model, None if it stands on its own only."""
    return "r18" if "r18" in model.backbones else next(iter(model.backbones), None)


@pytest.mark.parametrize(
    ("model", "backbone"),
    [
        *((model.name, smallest(model)) for model in MODELS.values() if takes(model.name, KNOBS["width"])),
        ("deeplabv3plus", "x50-32x4d"),
        ("segformer", "mit-b0"),
    ],
)
def test_scaled_widths_build_real_models(model: str, backbone: str | None, data_of: DataOf) -> None:
    from mmengine.config import Config
    from mmengine.registry import MODELS as BUILDERS
    from mmengine.registry import DefaultScope

    from trainables.trial import prepare_process

    prepare_process(1, (), None)

    def parameters(width: float | None, head_width: float | None) -> int:
        trial = TrialConfig(ModelChoice(model, backbone, width=width, head_width=head_width))
        config = build_config(trial, data_of(model), seed=7)
        with DefaultScope.overwrite_default_scope(config["default_scope"]):
            built = BUILDERS.build(Config(config).model)
        return sum(weight.numel() for weight in built.parameters())

    # A quarter of the channels on both sides of a convolution is a sixteenth of its weights, save at the borders and
    # where rounding keeps more (HRNet).
    assert parameters(0.25, 0.25) < parameters(None, None) / 5


def test_paths_of_this_machine_stand_in_the_data_only(particles: DataDescription, tmp_path: Path) -> None:
    config = build_config(TrialConfig(), particles, seed=7)
    outside = {key: value for key, value in config.items() if "dataloader" not in key and "evaluator" not in key}
    assert str(tmp_path.parent.parent) not in repr(outside)
