"""The models for instance segmentation beyond the first three: what is changed in the zoo's configs, and why."""

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as BUILDERS
from mmengine.registry import DefaultScope

from search_spaces.iou_thresholds import IOU_THRESHOLD_KNOBS
from search_spaces.knobs import KNOBS, takes
from search_spaces.landing import get_path
from search_spaces.models import MODELS
from search_spaces.space import parse_space
from search_spaces.trial_config import InputChoice, ModelChoice, OptimizationChoice, ScheduleChoice, TrialConfig
from segdata.errors import InputError
from segdata.statistics import ObjectStatistics
from segsweep.preflight import check_devices
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.devices import trains_on_gpu_only
from trainables.instance_adaptations import put_training_parts
from trainables.outputs import instances_of, limits_of
from trainables.trial import prepare_process
from trainables.zoo import load_base

INSTANCE = [model.name for model in MODELS.values() if model.task == "instance"]
ON_CPU = [name for name in INSTANCE if not MODELS[name].needs_gpu]
SIZE_PX = 64

Nested = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    """Makes the networks known to this process."""
    prepare_process(1, (), None)


def tiny(model: str, **values: Any) -> TrialConfig:
    """Returns the smallest trial of a model; `values` are those of other knobs' fields."""
    backbone = "r18" if "r18" in MODELS[model].backbones else None
    trial = TrialConfig(
        ModelChoice(model, backbone, width=0.25, head_width=0.125),
        InputChoice(crop_size=SIZE_PX),
        OptimizationChoice(batch_size=2),
        ScheduleChoice(epochs=1),
    )
    for field, value in values.items():
        trial = trial.with_value(field.replace("__", "."), value)
    return trial


def built(model: Nested, *, device: str = "cpu") -> Any:
    """Returns the torch network of a model config, with weights as they are initialised for training."""
    with torch.device(device), DefaultScope.overwrite_default_scope("mmdet"):
        network = BUILDERS.build(Config({"model": put_training_parts(model)}).model)
    if device == "cpu":
        torch.manual_seed(0)
        network.init_weights()
    return network


def with_statistics(data: DataDescription, **values: Any) -> DataDescription:
    """Returns the data with other statistics."""
    assert isinstance(data.statistics, ObjectStatistics)
    return replace(data, statistics=replace(data.statistics, **values))


def walk(part: Any) -> list[Nested]:
    """Every dict inside `part`."""
    children = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else ()
    return ([part] if isinstance(part, dict) else []) + [inner for child in children for inner in walk(child)]


# Batches as random crops leave them.


def batch_of(objects: tuple[int, ...]) -> Nested:
    """A batch of random images; one with `objects[i]` squares of 20 pixels."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    generator = np.random.default_rng(0)
    inputs, samples = [], []
    for count in objects:
        corners = [(4 + 20 * (index % 2), 4 + 20 * (index // 2)) for index in range(count)]
        masks_NHW = np.zeros((count, SIZE_PX, SIZE_PX), dtype=np.uint8)
        for mask_HW, (left, top) in zip(masks_NHW, corners, strict=True):
            mask_HW[top : top + 20, left : left + 20] = 1
        boxes = np.array([(left, top, left + 20, top + 20) for left, top in corners], dtype=np.float32).reshape(-1, 4)
        truth = InstanceData(
            bboxes=HorizontalBoxes(torch.from_numpy(boxes)),
            labels=torch.zeros(count, dtype=torch.long),
            masks=BitmapMasks(masks_NHW, SIZE_PX, SIZE_PX),
        )
        meta = {
            "img_shape": (SIZE_PX, SIZE_PX),
            "ori_shape": (SIZE_PX, SIZE_PX),
            "scale_factor": (1.0, 1.0),
            "img_id": 0,
        }
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances, sample.ignored_instances = truth, InstanceData(bboxes=truth.bboxes[:0])
        samples.append(sample)
        inputs.append(torch.from_numpy(generator.integers(0, 256, (3, SIZE_PX, SIZE_PX), dtype=np.uint8)))
    return {"inputs": inputs, "data_samples": samples}


def loss_of(network: Any, objects: tuple[int, ...]) -> torch.Tensor:
    """The training loss of a batch."""
    batch = network.data_preprocessor(batch_of(objects), True)
    total: torch.Tensor = network.parse_losses(network(**batch, mode="loss"))[0]
    return total


@pytest.mark.slow
@pytest.mark.parametrize("model", ON_CPU)
def test_images_without_objects_with_one_and_with_several_train(model: str, particles: DataDescription) -> None:
    network = built(build_config(tiny(model), particles, seed=0)["model"]).train()
    usual = loss_of(network, (4, 2))
    for objects in ((4, 2), (1, 1), (0, 1), (0, 0)):
        loss = loss_of(network, objects)
        # Losses are means over objects: no batch may weigh much more than another.
        assert math.isfinite(loss.item()) and 0 <= loss.item() < 10 * usual.item(), objects
        network.zero_grad()
        loss.backward()
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        assert gradients and all(bool(torch.isfinite(gradient).all()) for gradient in gradients), objects


@pytest.mark.slow
@pytest.mark.parametrize("model", ON_CPU)
def test_an_untrained_model_predicts_masks_of_the_images_size(model: str, particles: DataDescription) -> None:
    config = build_config(tiny(model), particles, seed=0)
    network = built(config["model"]).eval()
    batch = batch_of((0,))
    meta = {"img_shape": (SIZE_PX, SIZE_PX), "ori_shape": (32, 48), "scale_factor": (SIZE_PX / 48, 2.0), "img_id": 0}
    batch["data_samples"][0].set_metainfo(meta)
    with torch.no_grad():
        predicted = network.test_step(batch)[0].to_dict()["pred_instances"]
    found = instances_of(predicted)
    limit = limits_of(config["model"]).detections
    assert limit is not None and len(found) <= limit
    assert all((rle.height, rle.width) == (32, 48) for rle in found.rles)
    assert ((found.confidences >= 0) & (found.confidences <= 1)).all()
    assert (found.classes == 0).all()


def test_queryinst_boxes_outside_the_image_do_not_break_mask_pasting(particles: DataDescription) -> None:
    # On a CPU, MMDetection cuts out the part of the image around a box: of none, if it lies wholly outside.
    model = build_config(tiny("queryinst"), particles, seed=0)["model"]
    assert [head["bbox_coder"]["clip_border"] for head in model["roi_head"]["bbox_head"]] == [False] * 5 + [True]
    network = built(model).eval()
    with torch.no_grad():
        network.rpn_head.init_proposal_bboxes.weight[:, :2] += 1.5  # centres beyond the right lower corner
        predicted = network.test_step(batch_of((0,)))[0].pred_instances
    assert len(predicted) == 100 and predicted.bboxes.min() >= 0 and predicted.bboxes.max() <= SIZE_PX


# What the zoo's configs become.


@pytest.mark.parametrize("model", ["htc", "scnet", "detectors"])
def test_no_semantic_branch_is_left(model: str, particles: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice(model)), particles, seed=0)["model"]
    assert not [key for part in walk(config) for key in part if "semantic" in key]


def test_point_rend_takes_encoders_and_pixels_of_mask_rcnn(particles: DataDescription) -> None:
    ours, stock = (
        build_config(TrialConfig(ModelChoice(name)), particles, seed=0) for name in ("point-rend", "mask-rcnn")
    )
    assert ours["model"]["backbone"] == stock["model"]["backbone"]
    assert ours["model"]["data_preprocessor"] == stock["model"]["data_preprocessor"]
    assert ours["model"]["roi_head"]["type"] == "PointRendRoIHead", "the exported config keeps the zoo's parts"


def test_yolact_anchors_stay_on_their_cells_on_large_images(particles: DataDescription) -> None:
    from mmdet.registry import TASK_UTILS

    config = build_config(TrialConfig(ModelChoice("yolact")), particles, seed=0)
    anchors = TASK_UTILS.build(config["model"]["bbox_head"]["anchor_generator"])
    size_px = 1024
    for level, stride in enumerate((8, 16, 32, 64, 128)):
        cells = size_px // stride
        boxes = anchors.grid_priors([(size_px // s,) * 2 for s in (8, 16, 32, 64, 128)], device="cpu")[level]
        x = (boxes[:, 0] + boxes[:, 2]).reshape(cells, cells, 3)[0, :, 0] / 2
        torch.testing.assert_close(x, (torch.arange(cells) + 0.5) * stride)  # the middles of the cells


@pytest.mark.parametrize("multi_scale", [None, 0.5])
def test_yolact_trains_on_images_of_one_size(multi_scale: float | None, particles: DataDescription) -> None:
    from mmdet.registry import DATASETS

    trial = tiny("yolact", input__crop_size=48)
    if multi_scale:
        trial = trial.with_value("input.multi_scale", multi_scale)
    loader = build_config(trial, particles, seed=0)["train_dataloader"]
    with DefaultScope.overwrite_default_scope("mmdet"):
        samples = [sample for sample in DATASETS.build(loader["dataset"])]
    assert {tuple(sample["inputs"].shape) for sample in samples} == {(3, 48, 48)}
    assert {sample["data_samples"].img_shape[:2] for sample in samples} == {(48, 48)}, "masks are relative to it"


@pytest.mark.parametrize(
    ("backbone", "depth", "width", "blocks"),
    [("cspnext-tiny", 0.167, 0.375, 1), ("cspnext-m", 0.67, 0.75, 2), ("cspnext-x", 1.33, 1.25, 4)],
)
def test_rtmdet_comes_in_the_sizes_of_the_zoo(
    backbone: str, depth: float, width: float, blocks: int, particles: DataDescription
) -> None:
    ours = build_config(TrialConfig(ModelChoice("rtmdet-ins", backbone)), particles, seed=0)["model"]
    size = backbone.removeprefix("cspnext-")
    zoo = load_base(f"rtmdet-ins_{size}_8xb{'16' if size == 'x' else '32'}-300e_coco.py", "instance")["model"]
    assert (ours["backbone"]["deepen_factor"], ours["backbone"]["widen_factor"]) == (depth, width)
    assert ours["neck"]["in_channels"] == zoo["neck"]["in_channels"]
    assert ours["neck"]["num_csp_blocks"] == zoo["neck"]["num_csp_blocks"] == blocks
    assert ours["bbox_head"]["feat_channels"] == zoo["bbox_head"]["feat_channels"]


def test_a_backbone_of_another_family_is_refused(particles: DataDescription) -> None:
    with pytest.raises(InputError, match=r"fits rtmdet-ins \(.*cspnext-s.*\), but got r50"):
        build_config(TrialConfig(ModelChoice("rtmdet-ins", "r50")), particles, seed=0)


# Widths.


@pytest.mark.parametrize("model", INSTANCE)
@pytest.mark.parametrize("factor", [0.125, 0.27, 0.5, 1.5])
def test_heads_of_any_width_fit_together(model: str, factor: float, particles: DataDescription) -> None:
    trial = tiny(model).with_value("model.head_width", factor).with_value("model.width", min(factor * 2, 1.0))
    built(build_config(trial, particles, seed=0)["model"], device="meta")


@pytest.mark.parametrize("model", INSTANCE)
def test_a_quarter_of_the_channels_is_about_a_sixteenth_of_the_weights(model: str, particles: DataDescription) -> None:
    def weights(width: float | None) -> int:
        choice = replace(tiny(model).model, width=width, head_width=width)
        network = built(build_config(replace(tiny(model), model=choice), particles, seed=0)["model"], device="meta")
        return sum(weight.numel() for weight in network.parameters())

    assert weights(0.25) < weights(None) / 9


# Frozen stages.


@pytest.mark.parametrize(
    "backbone", ["r18", "x50-32x4d", "se-x50-32x4d", "densenet121", "vgg16", "convnext-t", "swin-t"]
)
def test_frozen_stages_do_not_learn(backbone: str, particles: DataDescription) -> None:
    def frozen(stages: int) -> tuple[int, int]:
        width = None if backbone == "vgg16" else 0.25
        trial = TrialConfig(ModelChoice("mask-rcnn", backbone, width=width, frozen_stages=stages))
        config = Config(build_config(trial, particles, seed=0)["model"])
        with DefaultScope.overwrite_default_scope("mmdet"):
            body = BUILDERS.build(config.backbone)
        body.train()
        weights = list(body.parameters())
        return sum(weight.numel() for weight in weights if not weight.requires_grad), sum(w.numel() for w in weights)

    none, two, three = frozen(-1), frozen(2), frozen(3)
    assert none[0] == 0 < two[0] < three[0] < three[1]


def test_densenets_stem_does_not_learn_below_frozen_stages(particles: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("mask-rcnn", "densenet121", width=0.25, frozen_stages=1))
    with DefaultScope.overwrite_default_scope("mmdet"):
        body = BUILDERS.build(Config(build_config(trial, particles, seed=0)["model"]).backbone)
    body.train()
    assert not any(weight.requires_grad for weight in body.stem.parameters())
    assert not any(part.training for part in body.stem.modules())
    assert all(weight.requires_grad for weight in body.stages[1].parameters())


@pytest.mark.parametrize("init", ["none", "imagenet"])
@pytest.mark.parametrize("model", [name for name in ON_CPU if "r18" in MODELS[name].backbones])
def test_norms_of_a_backbone_from_scratch_are_awake(model: str, init: str, particles: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice(model, "r18", init=init)), particles, seed=0)["model"]
    body = built(config, device="meta").train().backbone
    assert body.layer4[0].bn1.training == (init == "none" or model == "yolact")  # the zoo's YOLACT trains them


@pytest.mark.parametrize("model", ["solo", "solov2"])
def test_every_batch_normed_backbone_of_solo_rests_its_norms_alike(model: str, particles: DataDescription) -> None:
    for backbone in ("r50", "hr18", "vgg16", "efficientnet-b0", "se-x50-32x4d"):
        trial = TrialConfig(ModelChoice(model, backbone, init="imagenet"))
        assert build_config(trial, particles, seed=0)["model"]["backbone"]["norm_eval"] is True


@pytest.mark.parametrize("backbone", ["efficientnet-b0", "hr18", "mit-b0"])
def test_backbones_that_cannot_freeze_stages_say_so(backbone: str, particles: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("mask-rcnn", backbone, frozen_stages=1))
    with pytest.raises(
        InputError, match=rf"frozen_stages: expected a backbone whose stages can be frozen.*got {backbone}"
    ):
        build_config(trial, particles, seed=0)


# Fitted to the data.


@pytest.mark.parametrize("model", ["queryinst", "mask2former"])
def test_more_detections_than_queries_times_classes_are_never_asked_for(model: str, particles: DataDescription) -> None:
    trial = tiny(model, thresholds__detections_per_image=7)
    network = built(build_config(trial, particles, seed=0)["model"]).eval()
    with torch.no_grad():
        assert len(network.test_step(batch_of((0,)))[0].pred_instances) == 7


@pytest.mark.parametrize("model", INSTANCE)
def test_stock_values_are_those_of_the_zoo(model: str, particles: DataDescription) -> None:
    # Large objects, few an image: nothing is fitted.
    plain = with_statistics(particles, object_size_px_p10=64.0, objects_per_image_max=5)
    config = build_config(TrialConfig(ModelChoice(model)), plain, seed=0)
    checked = []
    for knob in (*IOU_THRESHOLD_KNOBS, KNOBS["loss_class_weight"], KNOBS["loss_box_weight"], KNOBS["loss_mask_weight"]):
        if not takes(model, knob) or (model in ("solo", "solov2") and knob.name == "minimum_confidence"):
            continue  # SOLO's two: 0.1 before its matrix NMS, 0.05 after it; the knob sets both
        paths = knob.paths.get(model) or knob.paths.get("instance") or knob.paths["*"]
        found = {value for path in paths for value in get_path(config, path)}
        stages = {"cascade_iou_low": {0.5, 0.6, 0.7}, "cascade_iou_high": {0.5, 0.6, 0.7}}
        assert found == stages.get(knob.name, {knob.default_for({"model": model})}), knob.name
        checked.append(knob.name)
    assert len(checked) >= 3


# What comes out.


@pytest.mark.parametrize("model", INSTANCE)
def test_the_minimum_confidence_is_read_back_wherever_it_lies(model: str, particles: DataDescription) -> None:
    trial = tiny(model, thresholds__minimum_confidence=0.25, thresholds__detections_per_image=123)
    limits = limits_of(build_config(trial, particles, seed=0)["model"])
    assert (limits.minimum_confidence, limits.detections, limits.mask_threshold) == (0.25, 123, 0.5)
    # Heads with queries drop nothing themselves; the others do it before NMS.
    assert limits.floor == (0.25 if model in ("queryinst", "mask2former") else 0.0)


# DetectoRS.


@pytest.mark.parametrize(("backbone", "depth"), [("r50", 50), ("r101", 101)])
def test_detectors_repeats_its_backbone_in_the_pyramid(backbone: str, depth: int, particles: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("detectors", backbone, width=0.5, head_width=0.5, frozen_stages=2))
    model = build_config(trial, particles, seed=0)["model"]
    first, second = model["backbone"], model["neck"]["rfp_backbone"]
    assert {key: value for key, value in first.items() if key != "output_img"} | {"rfp_inplanes": 128} == second
    assert (first["depth"], first["base_channels"], first["frozen_stages"]) == (depth, 32, 2)
    assert model["neck"]["in_channels"] == [128, 256, 512, 1024]
    built(model, device="meta")


def test_only_deformable_convolutions_need_a_gpu() -> None:
    needing = [name for name in INSTANCE if trains_on_gpu_only(load_base(name, "instance")["model"])]
    assert needing == ["detectors"] == [name for name in INSTANCE if MODELS[name].needs_gpu]
    assert trains_on_gpu_only(load_base("solov2_r101-dcn_fpn_ms-3x_coco.py", "instance")["model"])


@pytest.mark.parametrize("name", ["detectors", "solov2_r101-dcn_fpn_ms-3x_coco.py"])
def test_a_space_with_a_model_that_needs_a_gpu_is_refused_without_one(name: str) -> None:
    space = parse_space(
        {"model": {"choice": ["mask-rcnn", name]}}, {}, (), {"epochs": 1}, task="instance", where="sweep.yaml"
    )
    check_devices(space, "instance", 0.5)
    with pytest.raises(
        InputError, match=rf"expected a GPU for {name}.*but got none. Leave the model out, or run where"
    ):
        check_devices(space, "instance", 0.0)


def test_training_parts_leave_the_exported_config_alone(particles: DataDescription) -> None:
    model = build_config(TrialConfig(ModelChoice("queryinst")), particles, seed=0)["model"]
    before = copy.deepcopy(model)
    assert {part["type"] for part in put_training_parts(model)["roi_head"]["bbox_head"]} == {"ObjectlessDIIHead"}
    assert model == before
