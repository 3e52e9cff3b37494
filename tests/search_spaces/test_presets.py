"""The presets: each covers its report, parses as it is, and its trials are such as their models can take."""

import numpy as np
import pytest

from search_spaces.knobs import KNOBS
from search_spaces.models import MODELS
from search_spaces.preset import PRESETS, read_preset
from search_spaces.preset_merge import preset_space
from search_spaces.space import Space

REPORTS = {"particles": "000", "litter-team": "001", "litter-solo": "002", "nuclei": "003", "litter-diary": "004"}
# What each report tried, in words of ours: it must be searched or fixed.
TRIED = {
    "particles": {
        "model": {"mask-rcnn", "cascade-mask-rcnn", "ms-rcnn", "htc", "yolact", "solo", "solov2", "point-rend",
                  "detectors", "scnet", "queryinst"},
        "backbone": {"r50", "r101", "x101-32x4d", "x101-64x4d"},
        "init": {"imagenet", "resnet-strikes-back"},
        "optimizer": {"sgd", "adadelta"},
    },
    "litter-team": {
        "model": {"fcn", "hrnet", "upernet", "mask2former-semantic"},
        "backbone": {"r50", "r101", "hr48", "convnext-l", "beit-l", "beit-adapter-l"},
        "init": {"imagenet", "pascal-context", "ade20k", "cityscapes"},
        "backbone_lr_factor": set(), "gauss_noise": set(), "brightness_contrast": set(), "hsv": set(), "clahe": set(),
        "color_jitter": set(), "random_resized_crop": set(), "copy_paste": set(),
    },
    "litter-solo": {
        "model": {"smp-unet", "smp-fpn", "bifpn"},
        "image_width": {256, 512},
        "loss": {"ce", "soft-iou", "ce+soft-iou"},
        "loss_mix": set(), "schedule": set(), "batch_size": set(), "class_mix": set(), "class_mix_rare": set(),
    },
    "nuclei": {
        "model": {"mask-rcnn"},
        "backbone": {"r101", "x101-32x8d"},
        "max_iters": {5000, 9000},
        "batch_size": {1}, "rois_per_image": {256}, "best_by": {"loss"},
        "lr": set(), "step_1": set(), "step_2": set(), "step_3": set(), "minimum_confidence": set(),
    },
    "litter-diary": {
        "model": {"fcn", "fcn-8s", "segnet", "deeplabv3", "deeplabv3plus", "smp-unet", "smp-unetplusplus"},
        "backbone": {"r50", "r101", "x50-32x4d", "se-x50-32x4d", "efficientnet-b0", "timm-efficientnet-b4", "vgg16"},
        "init": {"imagenet", "noisy-student"},
        "optimizer": {"adam", "adamp"},
        "loss": {"ce", "focal", "ce+focal"},
        "batch_size": {16, 24}, "weight_decay": {1e-6}, "best_by": {"score", "loss"},
        "flip": set(), "vertical_flip": set(), "rotate90": set(), "motion_blur": set(), "gaussian_blur": set(),
        "optical_distortion": set(), "gauss_noise": set(), "elastic": set(), "grid_dropout": set(),
        "grid_distortion": set(), "transpose": set(), "shift_scale_rotate": set(), "rain": set(), "snow": set(),
        "sun_flare": set(), "fog": set(), "rgb_shift": set(), "hsv": set(), "channel_shuffle": set(), "contrast": set(),
        "gamma": set(), "brightness": set(), "clahe": set(), "cut_mix": set(),
    },
}  # fmt: skip


@pytest.fixture(params=PRESETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def space(name: str) -> Space:
    return preset_space(read_preset(name))


def values_of(space: Space, knob: str) -> set[object]:
    """All that a knob can be in any case."""
    domains = [parameter.domain for parameter in space.parameters if parameter.knob == knob]
    fixed = {space.fixed[knob]} if knob in space.fixed else set()
    return fixed | {value for domain in domains for value in domain.discrete() or domain.edges()}


def test_every_report_has_its_preset(name: str) -> None:
    assert read_preset(name).report == REPORTS[name]
    assert len(read_preset(name).what) <= 100


def test_each_knob_has_the_reports_row_beside_it(name: str) -> None:
    preset = read_preset(name)
    assert set(preset.rows) == set(preset.knobs())
    assert all(row.strip() for row in preset.rows.values())


def test_the_space_covers_what_the_report_tried(name: str, space: Space) -> None:
    for knob, tried in TRIED[name].items():
        assert tried <= values_of(space, knob), knob
        assert values_of(space, knob), f"{knob} is not searched"


def test_nothing_of_the_preset_is_lost_to_narrowing(name: str, space: Space) -> None:
    """Every value that is written can occur: a model that takes no part of a knob would drop it silently."""
    preset = read_preset(name)
    for knob, spec in preset.space.items():
        cases = spec if isinstance(spec, list) else [spec]
        written = {value for case in cases for value in case.get("choice", case.get("float", case.get("int", ())))}
        assert written <= values_of(space, knob), knob
    kept = {parameter.knob for parameter in space.parameters} | set(space.fixed) | dict(space.fixed_overrides).keys()
    assert kept == set(preset.knobs())


def test_the_baseline_is_the_reports_first_model_without_augmentation(name: str, space: Space) -> None:
    trial = space.decode(space.baseline())
    firsts = {"particles": ("mask-rcnn", "r50"), "litter-team": ("fcn", "r50"), "litter-solo": ("smp-unet", "resnet34"),
              "nuclei": ("mask-rcnn", "r101"), "litter-diary": ("fcn", "r50")}  # fmt: skip
    assert (trial.model.name, trial.model.backbone) == firsts[name]
    assert trial.model.init == "imagenet"
    assert {step for step, probability in trial.augmentation if probability} <= {"flip"}


def test_samples_are_trials_that_their_models_can_take(name: str, space: Space) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        trial = space.decode(space.sample(rng))
        model = MODELS[trial.model.name]
        assert model.task == read_preset(name).task
        assert trial.model.backbone is None or model.takes_backbone(trial.model.backbone)
        assert (trial.input.image_width == trial.input.image_height) or name == "particles"


def test_knobs_of_a_preset_serve_its_task(name: str) -> None:
    preset = read_preset(name)
    for knob in (*preset.space, *preset.fixed):
        assert preset.task in KNOBS[knob].tasks, knob
