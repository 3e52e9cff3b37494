"""Initial weights: which files a model starts from, where they lie, and what is said if they are not there."""

from pathlib import Path

import pytest

from search_spaces.models import MODELS
from search_spaces.trial_config import ModelChoice, TrialConfig
from segdata.errors import InputError
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.initial_parts import Part, take_published, weights_folder
from trainables.published_datasets import WHOLE_MODELS
from trainables.published_file import published_file
from trainables.published_weights import whole_model_url
from trainables.weights_plan import initial_parts, place_parts


def files(model: str, backbone: str | None, init: str) -> list[str]:
    """Names of the files that a model starts from."""
    parts = initial_parts(ModelChoice(model, backbone, init), MODELS[model].task)
    return [part.file.name for part in parts if part.file is not None]


def test_init_none_needs_no_file() -> None:
    assert initial_parts(ModelChoice("mask-rcnn", "r50"), "instance") == ()


@pytest.mark.parametrize(
    ("model", "backbone", "init", "file"),
    [
        ("mask-rcnn", "r50", "imagenet", "resnet50-0676ba61.pth"),  # what MMEngine's `torchvision://resnet50` means
        (
            "deeplabv3plus",
            "r50",
            "imagenet",
            "resnet50_v1c-2cccc1ad.pth",
        ),  # MMSegmentation's stem of three convolutions
        ("segformer", "mit-b3", "imagenet", "mit_b3_20220624-13b1141c.pth"),
        ("mask-rcnn", "r50", "resnet-strikes-back", "resnet50_8xb256-rsb-a1-600e_in1k_20211228-20e21305.pth"),
        (
            "mask-rcnn",
            "efficientnet-b4",
            "noisy-student",
            "efficientnet-b4_3rdparty-ra-noisystudent_in1k_20221103-16ba8a2d.pth",
        ),
        (
            "smp-unet",
            "timm-efficientnet-b4",
            "noisy-student",
            "smp-hub--timm-efficientnet-b4.noisy-student--617936aa7b32--model.safetensors",
        ),
    ],
)
def test_the_file_of_a_published_encoder(model: str, backbone: str, init: str, file: str) -> None:
    found = files(model, backbone, init)
    assert [name.split("--")[:2] for name in found] == [file.split("--")[:2]]


def test_both_backbones_of_detectors_are_filled() -> None:
    parts = initial_parts(ModelChoice("detectors", "r50", "imagenet"), "instance")
    assert {part.module for part in parts} == {"backbone", "neck.rfp_modules.0"}
    assert len({part.file for part in parts}) == 1


@pytest.mark.parametrize(
    ("model", "backbone", "init", "message"),
    [
        (
            "mask-rcnn",
            "r101",
            "resnet-strikes-back",
            "no resnet-strikes-back for mask-rcnn with r101. .*none, imagenet",
        ),
        ("deeplabv3plus", "r50", "resnet-strikes-back", "no resnet-strikes-back for deeplabv3plus with r50"),
        ("mask-rcnn", "r18", "noisy-student", "no noisy-student for mask-rcnn with r18"),
        ("mask-rcnn", "r50", "cityscapes", "no cityscapes for mask-rcnn with r50"),
        ("unet", None, "imagenet", "no imagenet for unet with its own encoder. Choose from none, or"),
        ("segnet", None, "cityscapes", "no cityscapes for segnet with its own encoder"),
    ],
)
def test_weights_that_nobody_has_published_are_refused(
    model: str, backbone: str | None, init: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as told:
        initial_parts(ModelChoice(model, backbone, init), MODELS[model].task)
    assert "name a checkpoint file" in str(told.value) and "\n" not in str(told.value)


WHOLE = [
    (model, backbone, dataset, stem)
    for model, backbones in WHOLE_MODELS.items()
    for backbone, rows in backbones.items()
    for dataset, stem in rows.items()
]


@pytest.mark.parametrize(("model", "backbone", "dataset", "stem"), WHOLE)
def test_every_whole_model_of_the_table_has_an_address_with_a_hash(
    model: str, backbone: str, dataset: str, stem: str
) -> None:
    assert backbone in MODELS[model].backbones
    url = whole_model_url(model, backbone, dataset)
    assert url is not None and url.startswith("https://"), f"the zoo has no weights for {stem}"
    assert len(published_file(url).sha256) == 8


def test_a_zoo_config_has_its_own_weights() -> None:
    choice = ModelChoice("solov2_r50_fpn_1x_coco.py", init="coco")
    (part,) = initial_parts(choice, "instance")
    assert part.module == "" and part.file is not None and part.file.name.startswith("solov2_r50_fpn_1x_coco")


def test_published_checkpoints_leave_the_config_wherever_they_stand() -> None:
    head = {"type": "Head", "init_cfg": [{"type": "Xavier"}, {"type": "Pretrained", "checkpoint": "a.pth"}]}
    second = {"type": "ResNet", "pretrained": "c.pth"}
    model = {
        "pretrained": "b.pth",
        "backbone": {"init_cfg": {"type": "Pretrained", "checkpoint": "d.pth", "prefix": "net."}},
        "neck": {"rfp_backbone": second},
        "heads": [head],
    }
    assert set(take_published(model)) == {
        Part("backbone", "b.pth"),
        Part("backbone", "d.pth", "net."),
        Part("neck.rfp_modules.0", "c.pth"),
        Part("heads.0", "a.pth"),
    }
    assert ".pth" not in repr(model) and head["init_cfg"] == [{"type": "Xavier"}]
    assert take_published(model) == ()


def test_the_exported_config_names_no_weights(litter: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice("segformer", init="imagenet")), litter, seed=7)
    assert "Pretrained" not in repr(config) and "://" not in repr(config["model"])


def test_where_published_weights_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEGSWEEP_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert weights_folder() == Path.home() / ".cache" / "torch" / "hub" / "checkpoints"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert weights_folder() == tmp_path / "torch" / "hub" / "checkpoints"
    assert weights_folder(tmp_path / "chosen") == tmp_path / "chosen"
    monkeypatch.setenv("SEGSWEEP_WEIGHTS", str(tmp_path / "node"))
    assert weights_folder(tmp_path / "chosen") == tmp_path / "node", "a node's own setting comes first"


def test_a_relative_folder_in_the_environment_is_refused_because_trials_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGSWEEP_WEIGHTS", "cache")
    with pytest.raises(InputError, match=f"expected an absolute path, but got 'cache'. Write {tmp_path}/cache"):
        weights_folder()
    monkeypatch.setenv("SEGSWEEP_WEIGHTS", "~/cache")
    assert weights_folder() == Path.home() / "cache"


def test_a_missing_file_is_named_with_the_command_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEGSWEEP_WEIGHTS", raising=False)
    parts = initial_parts(ModelChoice("mask-rcnn", "r50", "imagenet"), "instance")
    with pytest.raises(InputError, match=f"resnet50-0676ba61.pth in {tmp_path}, but they are not there") as told:
        place_parts(parts, None, tmp_path)
    assert "segsweep weights fetch SWEEP" in str(told.value) and "`init: none`" in str(told.value)
    (tmp_path / "resnet50-0676ba61.pth").touch()
    assert [placed.path for placed in place_parts(parts, None, tmp_path)] == [tmp_path / "resnet50-0676ba61.pth"]


def test_a_local_file_starts_at_the_sweep_files_folder(tmp_path: Path) -> None:
    parts = initial_parts(ModelChoice("mask-rcnn", "r50", "start.pth"), "instance")
    with pytest.raises(InputError, match=r"expected an existing checkpoint, but got 'start.pth'"):
        place_parts(parts, tmp_path, None)
    (tmp_path / "start.pth").touch()
    assert place_parts(parts, tmp_path, None)[0].path == tmp_path / "start.pth"
