"""Reading a space: the forms that it takes, and every refusal with its key, what was found, and the cure."""

from typing import Any

import pytest

from search_spaces.parameters import Choice, Float, Int
from search_spaces.space import Space, parse_space
from segdata.errors import SpaceError

MODELS = {"model": {"choice": ["mask-rcnn", "cascade-mask-rcnn"]}}
TWO_OPTIMIZERS = {"optimizer": {"choice": ["sgd", "adamw"]}}


def parse(space: dict[str, Any], task: Any = "instance", **sections: Any) -> Space:
    given: dict[str, Any] = {"overrides": {}, "forbid": [], "fixed": {}} | sections
    return parse_space(space, **given, task=task, where="sweep.yaml")


def instance(space: dict[str, Any], **sections: Any) -> Space:
    """Parses a space beside a fixed Mask R-CNN."""
    return parse(space, fixed={"model": "mask-rcnn"} | sections.pop("fixed", {}), **sections)


def test_the_forms_of_the_design_are_read() -> None:
    space = parse(
        {
            **MODELS,
            "optimizer": {"choice": ["sgd", "adadelta", "adamw"]},
            "lr": [
                {"when": {"optimizer": "sgd"}, "float": [1e-3, 1e-1], "log": True},
                {"when": {"optimizer": ["adamw", "adadelta"]}, "float": [1e-5, 1e-3], "log": True},
            ],
            "epochs": {"int": [9, 15], "step": 3},
            "cascade_iou_low": {"float": [0.2, 0.5], "when": {"model": "cascade-mask-rcnn"}},
        },
        overrides={
            "model.test_cfg.rcnn.nms.iou_threshold": {"float": [0.3, 0.7]},
            "model.test_cfg.rcnn.mask_thr_binary": 0.4,
        },
        forbid=[{"model": "mask-rcnn", "optimizer": ["adadelta"]}],
        fixed={"image_width": 1280},
    )
    found = {parameter.id: (parameter.domain, parameter.when) for parameter in space.parameters}
    assert found == {
        "model": (Choice(("mask-rcnn", "cascade-mask-rcnn")), ()),
        "optimizer": (Choice(("sgd", "adadelta", "adamw")), ()),
        "lr[optimizer=sgd]": (Float(1e-3, 1e-1, log=True), (("optimizer", ("sgd",)),)),
        "lr[optimizer=adamw|adadelta]": (Float(1e-5, 1e-3, log=True), (("optimizer", ("adamw", "adadelta")),)),
        "epochs": (Int(9, 15, step=3), ()),
        "cascade_iou_low": (Float(0.2, 0.5), (("model", ("cascade-mask-rcnn",)),)),
        "model.test_cfg.rcnn.nms.iou_threshold": (Float(0.3, 0.7), ()),
    }
    assert space.fixed == {"image_width": 1280}
    assert space.fixed_overrides == (("model.test_cfg.rcnn.mask_thr_binary", 0.4),)


def test_children_written_before_parents_come_after_them() -> None:
    space = instance(
        {"lr": {"float": [0.1, 1.0], "when": {"optimizer": "adadelta"}}, "optimizer": {"choice": ["adadelta"]}}
    )
    assert [parameter.knob for parameter in space.parameters] == ["optimizer", "lr"]


def test_a_condition_on_a_fixed_knob_that_holds_is_dropped() -> None:
    space = instance({"lr": {"float": [0.1, 1.0], "when": {"optimizer": "adam"}}}, fixed={"optimizer": "adam"})
    assert space.parameters[0].when == ()


def test_values_take_the_type_of_their_knob() -> None:
    space = instance({"lr": {"choice": [1, 0.1]}, "anchor_scale": {"int": [2, 8]}}, fixed={"weight_decay": 0})
    assert [type(value) for value in space.parameters[0].domain.edges()] == [float, float]
    assert space.parameters[1].domain == Int(2, 8)
    assert type(space.fixed["weight_decay"]) is float
    assert type(space.decode({"lr": 0.1, "anchor_scale": 4}).thresholds.anchor_scale) is float


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lrr": {"float": [0.1, 1.0]}}, r"sweep.yaml: space.lrr: expected a knob, but got 'lrr'. Did you mean lr\?"),
        ({"lr": {"float": [0.1, 1.0], "lgo": True}}, r"space.lr.lgo: .* but got 'lgo'. Did you mean log\?"),
        ({"lr": {"float": [0.1, 0.01]}}, r"space.lr.float: .*\[0.1, 0.01\], the wrong way round"),
        ({"lr": {"float": [0, 0.01], "log": True}}, "space.lr.float: expected low > 0"),
        ({"lr": {"float": [0.1, 1.0], "log": "yes"}}, "space.lr.log: expected true or false, but got 'yes'"),
        ({"lr": {"float": [0.1, 1.0], "step": "x"}}, "space.lr.step: expected a number, but got 'x'"),
        ({"lr": {"float": [0.1, 1.0], "step": 0.4}}, "End the range at 0.9"),
        ({"lr": {"float": [0.1, 1.0], "log": True, "step": 0.1}}, "`log` or `step`, but got both"),
        ({"lr": {"float": ["0.1", 1.0]}}, r"expected two numbers \[low, high\], but got \['0.1', 1.0\]"),
        ({"lr": {"float": [0.1]}}, r"expected two numbers \[low, high\]"),
        ({"lr": {"float": [0.1, 100.0]}}, "lr to be 1e-08 to 10 .* but got 100.0"),
        ({"lr": {}}, "exactly one of choice, float, int, but got none of them"),
        ({"lr": {"float": [0.1, 1], "int": [1, 2]}}, "exactly one of choice, float, int, but got float and int"),
        ({"lr": {"choice": []}}, "space.lr.choice: .*empty list"),
        ({"lr": {"choice": [0.1, 0.1]}}, "0.1 twice"),
        ({"lr": {"choice": [1, 1.0]}}, "twice"),
        ({"lr": {"choice": 0.1}}, r"expected a list of values, but got 0.1. Write choice: \[0.1\]"),
        ({"lr": {"choice": [0.1, 0.2], "log": True}}, "`log` beside float or int, but got it beside choice"),
        ({"lr": {"choice": [[0.1]]}}, r"expected one number, text or true/false, but got \[0.1\]"),
        ({"lr": 0.1}, r"but got 0.1. Put a single value under `fixed`"),
        ({"lr": []}, "space.lr: expected {choice"),
        ({"lr": [{"float": [0.1, 1.0]}]}, "space.lr.0: expected every case of a list to say `when`"),
        ({"lr": [3]}, "space.lr.0: expected a case .* but got 3"),
        ({"epochs": {"float": [9, 15]}}, "space.epochs.float: expected `int` for epochs .* but got `float`"),
        ({"epochs": {"int": [9, 15.0]}}, "expected two whole numbers"),
        ({"epochs": {"choice": [9, 10.5]}}, "epochs to be 1 to 10000, but got 10.5"),
        ({"optimizer": {"int": [1, 2]}}, "expected `choice` for optimizer"),
        ({"optimizer": {"choice": ["sdg"]}}, r"optimizer to be one of sgd.* but got 'sdg'. Did you mean sgd\?"),
        ({"optimizer": {"choice": [True]}}, "but got True"),
        ({"lr": {"float": [0.1, 1.0], "when": {}}}, "space.lr.when: expected {knob: value or list}"),
        ({"lr": {"float": [0.1, 1.0], "when": "sgd"}}, "space.lr.when: expected {knob: value or list}, but got 'sgd'"),
        ({"lr": {"float": [0.1, 1.0], "when": {"optimizer": "sgd"}}}, "which is not in it. Add optimizer to the space"),
        (
            {**TWO_OPTIMIZERS, "lr": {"float": [0.1, 1.0], "when": {"optimiser": "sgd"}}},
            r"space.lr.when.optimiser: .*Did you mean optimizer\?",
        ),
        (
            {**TWO_OPTIMIZERS, "lr": {"float": [0.1, 1.0], "when": {"optimizer": "adam"}}},
            r"optimizer can take \(one of sgd, adamw\), but got 'adam'. Did you mean adamw\?",
        ),
        (
            {"lr": {"float": [0.1, 1.0], "when": {"weight_decay": 0.5}}, "weight_decay": {"float": [0.1, 1.0]}},
            "parent with separate values, but got weight_decay, which is continuous",
        ),
        (
            {"lr": {"choice": [0.1], "when": {"epochs": 9}}, "epochs": {"int": [9, 15], "when": {"lr": 0.1}}},
            "space: expected conditions without a circle, but got epochs -> lr -> epochs",
        ),
        ({"lr": {"choice": [0.1], "when": {"lr": 0.1}}}, "circle, but got lr -> lr"),
        ({"model": {"choice": ["mask-rcnn"]}}, "expected model in `space` or `fixed`, but got it in both"),
        ({"loss_auxiliary_weight": {"float": [0, 1]}}, "knob of the task instance, .* which serves semantic"),
        (
            {"rpn_negative_iou": {"float": [0.75, 0.9]}},
            "rpn_negative_iou <= rpn_positive_iou, but got at least 0.75 against at most 0.7",
        ),
        ({"rpn_positive_iou": {"float": [0.1, 0.2]}}, "got at least 0.3 against at most 0.2"),
        (
            {"backbone": {"choice": ["r50", "cspnext-s"]}},
            "backbone cspnext-s, which mask-rcnn can't take. .*takes r50, r18.*`segsweep spaces models mask-rcnn`",
        ),
        ({"momentum": {"float": [0.5, 0.9]}}, "momentum with optimizer left to the model .*or fix optimizer: sgd"),
        (
            {**TWO_OPTIMIZERS, "momentum": {"float": [0.5, 0.9]}},
            "momentum with optimizer adamw .*Add when: {optimizer: sgd}",
        ),
        (
            {"cascade_iou_low": {"float": [0.2, 0.5]}},
            "which mask-rcnn can't take. Drop cascade_iou_low; it serves cascade-mask-rcnn",
        ),
    ],
)  # fmt: skip
def test_spaces_that_are_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        instance(space)


def test_overlapping_cases_are_refused() -> None:
    cases = [
        {"when": {"optimizer": ["sgd", "adamw"]}, "float": [0.1, 1.0]},
        {"when": {"epochs": 9}, "float": [0.1, 1.0]},
    ]
    with pytest.raises(SpaceError, match=r"space.lr.1: .*got lr\[optimizer=sgd\|adamw\] and lr\[epochs=9\] at once"):
        instance({**TWO_OPTIMIZERS, "epochs": {"int": [9, 12]}, "lr": cases})
    with pytest.raises(SpaceError, match=r"space.lr.1: .*lr\[optimizer=sgd\] twice"):
        instance({**TWO_OPTIMIZERS, "lr": [{"when": {"optimizer": "sgd"}, "float": [0.1, 1.0]}] * 2})


def test_conditions_that_never_hold_together_are_refused() -> None:
    space = {
        **TWO_OPTIMIZERS,
        "momentum": {"choice": [0.8, 0.9], "when": {"optimizer": "sgd"}},
        "lr": {"float": [0.1, 1.0], "when": {"momentum": 0.9, "optimizer": "adamw"}},
    }
    with pytest.raises(SpaceError, match="space.lr.when: .*but got lr, which never exists"):
        instance(space)


def test_a_when_against_a_fixed_parent_is_refused() -> None:
    with pytest.raises(SpaceError, match="expected model to be able to be 'ms-rcnn', but got it fixed to 'mask-rcnn'"):
        instance({"lr": {"float": [0.1, 1.0], "when": {"model": "ms-rcnn"}}})


def test_a_space_without_a_model_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"expected a model, but got none. Add model: {choice: \[segformer, deeplab"):
        parse({"lr": {"float": [0.1, 1.0]}}, task="semantic")
    with pytest.raises(SpaceError, match="space.model: expected a model in every trial"):
        parse({**TWO_OPTIMIZERS, "model": {"choice": ["mask-rcnn"], "when": {"optimizer": "sgd"}}})


def test_a_model_of_the_other_task_is_refused() -> None:
    with pytest.raises(SpaceError, match="space.model: .*task instance, but got segformer, which is semantic. Choose"):
        parse({"model": {"choice": ["mask-rcnn", "segformer"]}})
    with pytest.raises(SpaceError, match="fixed.model: .*task semantic, but got mask-rcnn"):
        parse({}, task="semantic", fixed={"model": "mask-rcnn"})


def test_knobs_and_values_that_one_of_several_models_cannot_take_name_the_cure() -> None:
    with pytest.raises(
        SpaceError, match=r"cascade_iou_low.*mask-rcnn can't take. Add when: {model: \[cascade-mask-rcnn"
    ):
        parse({**MODELS, "cascade_iou_low": {"float": [0.2, 0.5]}})
    semantic = {"model": {"choice": ["segmenter", "deeplabv3plus"]}}
    with pytest.raises(SpaceError, match="backbone r50, which segmenter can't take. Split backbone into cases"):
        parse({**semantic, "backbone": {"choice": ["r50", "vit-t"]}}, task="semantic")
    with pytest.raises(SpaceError, match="fixed.backbone: .*segmenter can't take. Move it to the space"):
        parse(semantic, task="semantic", fixed={"backbone": "r50"})


def test_cases_by_model_make_values_fit() -> None:
    space = parse(
        {
            "model": {"choice": ["segformer", "deeplabv3plus"]},
            "backbone": [
                {"when": {"model": "segformer"}, "choice": ["mit-b0", "mit-b2"]},
                {"when": {"model": "deeplabv3plus"}, "choice": ["r18", "r50"]},
            ],
        },
        task="semantic",
    )
    assert space.size() == 4


def test_forbid_may_stand_in_for_when() -> None:
    space = parse(
        {"model": {"choice": ["segformer", "deeplabv3plus"]}, "backbone": {"choice": ["r50", "mit-b0"]}},
        task="semantic",
        forbid=[{"model": "segformer", "backbone": "r50"}, {"model": "deeplabv3plus", "backbone": "mit-b0"}],
    )
    assert space.size() == 2
    assert space.baseline() == {"model": "segformer", "backbone": "mit-b0"}


@pytest.mark.parametrize(
    ("forbid", "message"),
    [
        ([{"optimzer": "sgd"}], r"forbid.0.optimzer: .*but got 'optimzer'. Did you mean optimizer\?"),
        ([{"lr": 0.1}], "but got 'lr'. Add lr to the space"),
        ([{"optimizer": "adam"}], r"forbid.0.optimizer: .*one of sgd, adamw\), but got 'adam'. Did you mean adamw\?"),
        ([{"model": "ms-rcnn"}], "forbid.0.model: .*fixed to 'mask-rcnn'"),
        ([{"optimizer": ["sgd", "adamw"]}], "forbid: expected some combination to be left"),
        ([{"optimizer": "sgd"}, {"optimizer": "adamw"}], "forbid: expected some combination to be left"),
        ([{"model": "mask-rcnn"}], "forbid: expected some combination to be left"),
        ([{"optimizer": "adamw", "momentum": 0.9}], "forbid.0: expected a combination that can occur"),
        ([{}], "forbid.0: expected {knob: value or list}, but got {}"),
        ([{"weight_decay": 0.01}], "forbid.0.weight_decay: expected a value of weight_decay that is drawn"),
        (["sgd"], "forbid.0: expected {knob: value or list}, but got 'sgd'"),
        ({"optimizer": "sgd"}, "forbid: expected a list"),
    ],
)
def test_forbidden_combinations_that_are_refused(forbid: Any, message: str) -> None:
    space = {**TWO_OPTIMIZERS, "momentum": {"choice": [0.9, 0.95], "when": {"optimizer": "sgd"}}}
    space["weight_decay"] = {"float": [0.0, 0.1]}
    with pytest.raises(SpaceError, match=message):
        instance(space, forbid=forbid)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model..x": 1}, "overrides.model..x: expected a config path such as"),
        ({"model.a": None}, "overrides.model.a: expected one number, text or true/false, but got None"),
        ({"model.a": {"float": [1, 0.5]}}, "overrides.model.a.float: .*wrong way round"),
        ({"model.a": [1, 2]}, "overrides.model.a.0: expected a case"),
        ({"optim_wrapper.optimizer.lr": 0.1}, "no knob of this space writes, but got .*, which lr writes. Keep one"),
        ({"train_cfg.max_epochs": 3}, "which epochs writes"),
        ({"model.train_cfg.rcnn.sampler.num": {"int": [1, 9]}}, "which rois_per_image writes"),
    ],
)
def test_overrides_that_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        instance({"lr": {"float": [0.1, 1.0]}, "rois_per_image": {"int": [32, 64]}}, overrides=overrides)


def test_fixed_values_that_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"fixed.batchsize: .*Did you mean batch_size\?"):
        instance({}, fixed={"batchsize": 2})
    with pytest.raises(SpaceError, match="fixed.batch_size: expected batch_size to be 1 to 1024, but got 0"):
        instance({}, fixed={"batch_size": 0})
    with pytest.raises(SpaceError, match=r"fixed.batch_size: .*but got \[2\]"):
        instance({}, fixed={"batch_size": [2]})
    with pytest.raises(SpaceError, match="fixed.rpn_negative_iou: .*at least 0.8 against at most 0.7"):
        instance({}, fixed={"rpn_negative_iou": 0.8})


def test_a_zoo_config_is_a_model_but_takes_none_of_our_backbones() -> None:
    space = parse({"lr": {"float": [0.1, 1.0]}}, fixed={"model": "solo_r50_fpn_1x_coco.py"})
    assert space.decode({"lr": 0.5}).model.name == "solo_r50_fpn_1x_coco.py"
    assert parse({}, fixed={"model": "htc_r50_fpn_1x_coco"}).fixed["model"] == "htc_r50_fpn_1x_coco"
    with pytest.raises(SpaceError, match="backbone, which solo_r50_fpn_1x_coco.py can't take"):
        parse({"backbone": {"choice": ["r50"]}}, fixed={"model": "solo_r50_fpn_1x_coco.py"})
    with pytest.raises(SpaceError, match=r"'mask_rcnn'. Did you mean mask-rcnn\?"):
        parse({}, fixed={"model": "mask_rcnn"})


def test_a_local_checkpoint_is_an_init() -> None:
    assert instance({}, fixed={"init": "weights/start.pth"}).fixed["init"] == "weights/start.pth"
    with pytest.raises(SpaceError, match="or a local checkpoint"):
        instance({}, fixed={"init": "weights/start.h5"})


def test_conditions_over_too_many_combinations_are_refused_rather_than_walked() -> None:
    chain: dict[str, Any] = {
        "image_width": {"int": [100, 1000]},
        "image_height": {"int": [100, 1000], "when": {"image_width": 200}},
        "batch_size": {"int": [1, 1000], "when": {"image_height": 200, "image_width": 200}},
        "epochs": {"int": [1, 1000]},
        "lr": {"float": [0.1, 1.0], "when": {"batch_size": 2, "epochs": 3}},
    }
    with pytest.raises(SpaceError, match="at most 100,000 combinations"):
        instance(chain)


def test_a_large_space_with_forbidden_combinations_is_read() -> None:
    sizes: dict[str, Any] = {"image_width": {"int": [100, 1000]}, "image_height": {"int": [100, 1000]}}
    space = instance(sizes, forbid=[{"image_width": 100, "image_height": 100}])
    assert space.forbidden({"image_width": 100, "image_height": 100})
    assert space.size() is None
