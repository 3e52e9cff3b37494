"""Semantic models: each learns from images of odd sizes and predicts them at their own; the rows equal what exists."""

import copy
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS as BUILDERS
from mmseg.structures import SegDataSample
from torch.nn import functional

from search_spaces.knobs import KNOBS, takes
from search_spaces.models import MODELS
from search_spaces.semantic_models import SEMANTIC_MODELS
from search_spaces.smp_models import SMP_ENCODERS, SMP_MODELS
from search_spaces.trial_config import InputChoice, ModelChoice, TrialConfig
from segdata.errors import InputError, SpaceError
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.networks.smp_network import build_network
from trainables.semantic_adaptations import LARGEST_TABLE_PX
from trainables.trial import prepare_process

Nested = dict[str, Any]

HEIGHT_PX, WIDTH_PX = 70, 93
WITHOUT_DILATION = ("densenet121", "xception", "vgg11", "inceptionv4")

# The smallest encoder of each, and of UPerNet one of each kind; "" = its own.
TINY = [
    ("upernet", "swin-t"),
    ("upernet", "convnext-t"),
    ("upernet", "beit-b"),
    ("upernet", "beit-adapter-b"),
    ("upernet", "densenet121"),
    ("fcn-8s", "vgg16"),
    ("segmenter", "vit-t"),
    ("segformer", "mit-b0"),
    ("hrnet", "hr18"),
    ("ocrnet", "hr18"),
    ("segnet", ""),
    ("unet", ""),
    *((name, "r18") for name in ("segformer", "deeplabv3plus", "deeplabv3", "pspnet", "fcn", "fcn-8s", "upernet")),
    *((name, "r18") for name in ("semantic-fpn", "bifpn", "mask2former-semantic")),
    ("smp-dpt", "tu-vit_tiny_patch16_224"),
    ("smp-segformer", "mit_b0"),
    *((model.name, "resnet18") for model in SMP_MODELS if model.name != "smp-dpt"),
]


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    """mm*'s parts and ours can be built."""
    prepare_process(1, (), None)


def tiny(model: str, backbone: str) -> TrialConfig:
    """A trial of the smallest width that the model takes."""
    trial = TrialConfig(ModelChoice(model, backbone or None), InputChoice(crop_size=64))
    for knob, value in (("width", 0.25), ("head_width", 0.125)):
        if takes(model, KNOBS[knob]):
            trial = trial.with_value(KNOBS[knob].field, value)
    return trial


def samples(count: int, classes: int) -> tuple[list[torch.Tensor], list[SegDataSample]]:
    """Images and label maps of an odd size, with one corner ignored."""
    generator = torch.Generator().manual_seed(7)
    size = (HEIGHT_PX, WIDTH_PX)
    images = [torch.randint(0, 255, (3, *size), generator=generator, dtype=torch.uint8) for _ in range(count)]
    found = []
    for _ in images:
        labels = torch.randint(0, classes, (1, *size), generator=generator)
        labels[:, :5, :5] = 255
        sample = SegDataSample(metainfo={"img_shape": size, "ori_shape": size, "pad_shape": size})
        sample.gt_sem_seg = PixelData(data=labels)
        found.append(sample)
    return images, found


def test_every_semantic_model_is_tried() -> None:
    assert {model for model, _ in TINY} == {model.name for model in SEMANTIC_MODELS}


@pytest.mark.parametrize(("model", "backbone"), TINY)
def test_a_model_learns_from_odd_sizes_and_predicts_at_the_images_own(
    model: str, backbone: str, litter: DataDescription
) -> None:
    config = build_config(tiny(model, backbone), litter, seed=7)["model"]
    config["data_preprocessor"]["size"] = (112, 112)
    if model == "mask2former-semantic":  # points a mask is compared at, for time's sake
        config["decode_head"]["train_cfg"]["num_points"] = 256
    classes = len(litter.classes)
    images, labelled = samples(2, classes)
    with DefaultScope.overwrite_default_scope("mmseg"):
        network = BUILDERS.build(ConfigDict(config))
        network.init_weights()
        network.train()
        batch = network.data_preprocessor({"inputs": [*images], "data_samples": copy.deepcopy(labelled)}, True)
        loss, _ = network.parse_losses(network.loss(batch["inputs"], batch["data_samples"]))
        loss.backward()
        assert torch.isfinite(loss)
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.backbone.parameters())
        network.eval()
        batch = network.data_preprocessor({"inputs": images[:1], "data_samples": labelled[:1]}, False)
        with torch.no_grad():
            (predicted,) = network.predict(batch["inputs"], batch["data_samples"])
    assert predicted.seg_logits.data.shape == (classes, HEIGHT_PX, WIDTH_PX)


@pytest.mark.parametrize(
    ("model", "backbone", "fitting"),
    [
        ("deeplabv3plus", "densenet121", "r50"),
        ("hrnet", "r50", "hr18"),
        ("segmenter", "beit-b", "vit-b"),
        ("smp-deeplabv3plus", "xception", "resnet34"),
        ("smp-unetplusplus", "mit_b0", "resnet34"),
        ("segnet", "vgg16", "its own only"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(
    model: str, backbone: str, fitting: str, litter: DataDescription
) -> None:
    with pytest.raises(
        InputError, match=f"expected a backbone that fits {model} .*{fitting}.*, but got {backbone}"
    ) as refused:
        build_config(TrialConfig(ModelChoice(model, backbone)), litter, seed=7)
    assert len(str(refused.value)) < 300


def test_smp_models_name_every_encoder_of_the_library() -> None:
    assert set(SMP_ENCODERS) == set(smp.encoders.get_encoder_names())
    assert len(SMP_ENCODERS) == len(set(SMP_ENCODERS))


@pytest.mark.parametrize("model", [model.name for model in SMP_MODELS])
@pytest.mark.parametrize("encoder", [*WITHOUT_DILATION, "mobilenet_v2", "timm-skresnet18", "mit_b0"])
def test_a_pair_is_in_the_table_as_the_library_takes_it(model: str, encoder: str) -> None:
    device = "cpu" if encoder == "mit_b0" else "meta"  # its constructor reads values

    def build() -> torch.nn.Module:
        with torch.device(device):
            return build_network(model.removeprefix("smp-"), encoder, 3)

    if encoder in MODELS[model].backbones:
        assert sum(weight.numel() for weight in build().parameters()) > 1e6
    else:
        with pytest.raises(InputError):
            build()


def test_any_encoder_of_timm_is_a_choice_of_smp_models_only(litter: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice("smp-unet", "tu-regnetx_002")), litter, seed=7)
    assert config["model"]["backbone"] == {"type": "SmpEncoder", "encoder": "tu-regnetx_002"}
    with pytest.raises(InputError, match="expected a backbone that fits upernet"):
        build_config(TrialConfig(ModelChoice("upernet", "tu-regnetx_002")), litter, seed=7)


def test_smp_models_take_no_width_but_a_head_width(litter: DataDescription) -> None:
    narrow = TrialConfig(ModelChoice("smp-unet", head_width=0.5))
    assert build_config(narrow, litter, seed=7)["model"]["decode_head"]["width"] == 0.5
    assert not takes("smp-unet", KNOBS["width"])
    assert not takes("smp-linknet", KNOBS["head_width"])
    with pytest.raises(InputError, match="expected width 1 for SmpEncoder"):
        build_config(TrialConfig(ModelChoice("smp-unet", width=0.5)), litter, seed=7)


@pytest.mark.parametrize(("crop_px", "table_px"), [(64, 64), (100, 112), (2000, LARGEST_TABLE_PX)])
@pytest.mark.parametrize(("model", "backbone"), [("upernet", "beit-b"), ("segmenter", "vit-t")])
def test_position_tables_are_made_for_the_crop(
    model: str, backbone: str, crop_px: int, table_px: int, litter: DataDescription
) -> None:
    trial = TrialConfig(ModelChoice(model, backbone), InputChoice(crop_size=crop_px))
    assert build_config(trial, litter, seed=7)["model"]["backbone"]["img_size"] == (table_px, table_px)


def test_unet_pads_to_what_it_can_halve_four_times(litter: DataDescription) -> None:
    config = build_config(TrialConfig(ModelChoice("unet"), InputChoice(crop_size=100)), litter, seed=7)
    assert config["model"]["data_preprocessor"]["size"] == (112, 112)  # 7 * 16


@pytest.mark.parametrize(("model", "backbone"), [("segmenter", "vit-t"), ("upernet", "beit-b")])
def test_scores_of_a_plain_transformer_lie_where_its_patches_do(
    model: str, backbone: str, litter: DataDescription
) -> None:
    """70 x 93 px are 5 x 6 patches, which cover 80 x 96 px: none of their scores may be squeezed into 70 x 93 px."""
    config = build_config(tiny(model, backbone), litter, seed=7)["model"]
    images, labelled = samples(1, len(litter.classes))
    with DefaultScope.overwrite_default_scope("mmseg"):
        network = BUILDERS.build(ConfigDict(config))
        network.eval()
        normalised = (images[0][[2, 1, 0]].float() - 127.5) / 127.5
        padded = functional.pad(normalised[None], (0, 96 - WIDTH_PX, 0, 80 - HEIGHT_PX))
        batch = network.data_preprocessor({"inputs": images, "data_samples": labelled}, False)
        with torch.no_grad():
            (predicted,) = network.predict(batch["inputs"], batch["data_samples"])
            whole = functional.interpolate(network(padded, mode="tensor"), (80, 96), mode="bilinear")
    torch.testing.assert_close(predicted.seg_logits.data, whole[0, :, :HEIGHT_PX, :WIDTH_PX], rtol=1e-4, atol=1e-4)


def test_frozen_stages_of_a_backbone_without_them_are_refused(litter: DataDescription) -> None:
    with pytest.raises(InputError, match="stages can be frozen .* but got mit-b1"):
        build_config(TrialConfig(ModelChoice("upernet", "mit-b1", frozen_stages=1)), litter, seed=7)
    with pytest.raises(SpaceError, match="frozen_stages"):
        build_config(TrialConfig(ModelChoice("unet", frozen_stages=1)), litter, seed=7)


@pytest.mark.parametrize("model", [model.name for model in SEMANTIC_MODELS if takes(model.name, KNOBS["head_width"])])
def test_a_narrower_head_keeps_the_backbone(model: str, litter: DataDescription) -> None:
    stock, narrow = (
        build_config(TrialConfig(ModelChoice(model, head_width=width)), litter, seed=7)["model"] for width in (1.0, 0.5)
    )
    assert narrow["backbone"] == stock["backbone"]
    assert {part: narrow[part] for part in ("neck", "decode_head") if part in narrow} != {
        part: stock[part] for part in ("neck", "decode_head") if part in stock
    }
