"""Encoders: each is the published network, gives the channels that its config says, and connects to what reads it."""

from typing import Any

import pytest
import timm
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS as BUILDERS

from search_spaces.backbones import CSPNEXTS, FAMILIES, HRNETS, MIX_TRANSFORMERS, PYRAMIDS, VITS
from segdata.errors import InputError
from trainables.encoders import ENCODERS, channels_of, connect, put_encoder, scale_encoder, weights_of
from trainables.trial import prepare_process
from trainables.widths import scale_backbone
from trainables.zoo import load_base

Nested = dict[str, Any]

NAMES = [name for family in FAMILIES.values() for name in family if name not in CSPNEXTS]
ONE_A_FAMILY = [family[0] for name, family in FAMILIES.items() if name != "CSPNeXt"]
SIDE_PX = 64

# Ours -> the same network in timm; the others have no twin there without further layers.
TWINS = {
    "r18": "resnet18",
    "r34": "resnet34",
    "r50": "resnet50",
    "r101": "resnet101",
    "x50-32x4d": "resnext50_32x4d",
    "x101-32x4d": "resnext101_32x4d",
    "x101-32x8d": "resnext101_32x8d",
    "se-x50-32x4d": "legacy_seresnext50_32x4d",
    "se-x101-32x4d": "legacy_seresnext101_32x4d",
    **{f"efficientnet-b{size}": f"efficientnet_b{size}" for size in (0, 1, 3, 5)},
    "densenet121": "densenet121",
    "densenet161": "densenet161",
}
# Ours -> timm's, which has no norm after each stage.
NEAR_TWINS = {
    "convnext-t": "convnext_tiny",
    "convnext-s": "convnext_small",
    "swin-t": "swin_tiny_patch4_window7_224",
    "vit-t": "vit_tiny_patch16_224",
    "vit-s": "vit_small_patch16_224",
    "beit-b": "beit_base_patch16_224",
}


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    """mm*'s parts and ours can be built."""
    prepare_process(1, (), None)


def build(backbone: Nested) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope("mmseg"):
        built: torch.nn.Module = BUILDERS.build(dict(backbone))
    return built


def backbone_of(name: str, width: float = 1.0) -> Nested:
    """The config of an encoder without weights, scaled."""
    head = {"type": "FCNHead", "in_channels": 1, "in_index": 0}
    config: Nested = {"data_preprocessor": {}, "backbone": {"type": "None"}, "decode_head": head}
    put_encoder(config, name)
    backbone: Nested = config["backbone"]
    backbone.pop("init_cfg", None)
    if width != 1.0:
        scale_encoder(backbone, width)
    return backbone


def maps_of(backbone: Nested) -> tuple[torch.Tensor, ...]:
    """What an encoder gives for one image."""
    network = build(backbone)
    network.eval()
    with torch.no_grad():
        maps: tuple[torch.Tensor, ...] = network(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
    return maps


def weights_in(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_every_encoder_that_can_be_named_has_a_row() -> None:
    assert set(NAMES) == set(ENCODERS)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_a_scaled_encoder_gives_the_channels_that_its_config_says(name: str) -> None:
    backbone = backbone_of(name, 0.25)
    maps = maps_of(backbone)
    assert tuple(found.shape[1] for found in maps) == channels_of(backbone)
    strides = [SIDE_PX // found.shape[-1] for found in maps]
    assert strides == ([4, 8, 16, 32] if name in PYRAMIDS or "adapter" in name else [16] * len(maps))


@pytest.mark.parametrize("name", [*ONE_A_FAMILY, "r34", "efficientnet-b3", "densenet161", "swin-b", "hr48"])
def test_an_encoder_at_its_stock_width_gives_the_channels_that_its_config_says(name: str) -> None:
    backbone = backbone_of(name)
    maps = maps_of(backbone)
    assert tuple(found.shape[1] for found in maps) == channels_of(backbone)


@pytest.mark.parametrize("name", TWINS)
def test_an_encoder_has_as_many_weights_as_timms(name: str) -> None:
    with torch.device("meta"):
        twin = timm.create_model(TWINS[name], num_classes=0)
    assert weights_in(build(backbone_of(name))) == weights_in(twin)


@pytest.mark.parametrize("name", NEAR_TWINS)
def test_an_encoder_with_norms_of_its_own_has_nearly_as_many_weights_as_timms(name: str) -> None:
    twin = timm.create_model(NEAR_TWINS[name], num_classes=0)
    ours = weights_in(build(backbone_of(name)))
    # Position tables and norms that one of the two lacks: below three in a hundred.
    assert abs(ours - weights_in(twin)) < 0.03 * weights_in(twin)


@pytest.mark.parametrize("name", ["se-x50-32x4d", "se-x101-32x4d"])
def test_weights_of_se_resnext_fit_after_renaming(name: str) -> None:
    with torch.device("meta"):
        published = timm.create_model(TWINS[name], num_classes=0).state_dict()
    renames = weights_of(name)["imagenet"].renames

    def renamed(tensor: str) -> str:
        for old, new in renames:
            tensor = tensor.replace(old, new)
        return tensor

    ours = build(backbone_of(name)).state_dict()
    assert {renamed(key): value.shape for key, value in published.items()} == {
        key: value.shape for key, value in ours.items()
    }


@pytest.mark.parametrize("name", ["densenet121", "beit-b"])
def test_names_of_tensors_are_those_of_the_published_file(name: str) -> None:
    from mmpretrain.models.backbones import BEiTViT, DenseNet

    published = {
        "densenet121": lambda: DenseNet(arch="121"),
        "beit-b": lambda: BEiTViT("b", 224, use_abs_pos_emb=False, use_rel_pos_bias=True, final_norm=False),
    }[name]()
    assert set(build(backbone_of(name)).state_dict()) <= set(published.state_dict())


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("r50", "ResNet", {"imagenet", "resnet-strikes-back"}),
        ("r50", "ResNetV1c", {"imagenet"}),
        ("r34", "ResNet", {"imagenet"}),
        ("efficientnet-b4", "EfficientNet", {"imagenet", "noisy-student"}),
        ("beit-l", "AnySizeBEiT", set()),
        ("resnet34", "SmpEncoder", set()),
    ],
)
def test_which_initial_weights_are_published(name: str, kind: str, words: set[str]) -> None:
    assert set(weights_of(name, kind)) == words


@pytest.mark.parametrize("name", [name for name in PYRAMIDS if name in ENCODERS])
def test_every_pyramid_feeds_a_detectors_neck(name: str) -> None:
    model = load_base("mask-rcnn", "instance")["model"]
    put_encoder(model, name)
    assert tuple(model["neck"]["in_channels"]) == channels_of(model["backbone"])
    before = model["neck"]["in_channels"]
    scale_encoder(model["backbone"], 0.5)
    connect(model)
    assert tuple(model["neck"]["in_channels"]) == channels_of(model["backbone"])
    assert model["neck"]["in_channels"] != before


def test_a_resnet_keeps_what_the_model_wants_of_its_stages() -> None:
    model = load_base("deeplabv3plus", "semantic")["model"]
    put_encoder(model, "se-x50-32x4d")
    assert model["backbone"]["dilations"] == (1, 1, 2, 4)
    put_encoder(model := load_base("deeplabv3plus", "semantic")["model"], "r34")
    assert (model["backbone"]["type"], model["backbone"]["strides"]) == ("ResNet", (1, 2, 1, 1))
    detector = load_base("mask-rcnn", "instance")["model"]
    put_encoder(detector, "x101-32x8d")
    assert (detector["backbone"]["norm_eval"], detector["backbone"]["frozen_stages"]) == (True, 1)


def test_pixels_come_as_the_published_weights_know_them() -> None:
    model = load_base("segmenter", "semantic")["model"]
    put_encoder(model, "vit-s")
    assert model["data_preprocessor"]["mean"] == [127.5] * 3
    model = load_base("upernet", "semantic")["model"]
    put_encoder(model, "swin-t")
    assert model["data_preprocessor"]["mean"] == [123.675, 116.28, 103.53]


def test_a_dilated_resnet_sees_wider_at_the_same_size() -> None:
    model = load_base("fcn", "semantic")["model"]
    for name in ("r18", "se-x50-32x4d"):
        put_encoder(model, name)
        backbone = {key: value for key, value in model["backbone"].items() if key != "init_cfg"}
        scale_encoder(backbone, 0.125)
        backbone["norm_cfg"] = {"type": "BN"}
        assert [SIDE_PX // found.shape[-1] for found in maps_of(backbone)] == [4, 8, 8, 8]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *((f"mit-b{size}", f"segformer_mit-b{size}_8xb2-160k_ade20k-512x512") for size in range(6)),
        ("hr18", "fcn_hr18_4xb4-80k_ade20k-512x512"),
        ("hr48", "fcn_hr48_4xb4-80k_ade20k-512x512"),
        ("r18", "deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024"),
        ("r101", "deeplabv3plus_r101-d8_4xb4-80k_ade20k-512x512"),
        *((name, f"segmenter_{name}_mask_8xb1-160k_ade20k-512x512") for name in ("vit-t", "vit-s", "vit-b")),
        ("swin-t", "swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"),
        ("swin-s", "swin-small-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"),
        ("convnext-t", "convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512"),
        ("beit-b", "beit-base_upernet_8xb2-160k_ade20k-640x640"),
        ("beit-l", "beit-large_upernet_8xb1-amp-160k_ade20k-640x640"),
    ],
)
def test_heads_read_an_encoder_as_in_the_zoos_own_file(name: str, file: str) -> None:
    zoo = load_base(file, "semantic")["model"]
    model = load_base(start_of(name), "semantic")["model"]
    put_encoder(model, name)
    read = ("in_channels", "in_index", "c1_in_channels", "num_heads", "embed_dims")
    for head in ("decode_head", "auxiliary_head"):
        ours, theirs = model.get(head, {}), zoo.get(head, {})
        assert {key: ours[key] for key in read if key in ours} == {key: theirs[key] for key in read if key in theirs}
        if name in (*HRNETS, *VITS, *MIX_TRANSFORMERS, "r18", "r101"):
            assert ours.get("channels") == theirs.get("channels")
    shared = ("embed_dims", "num_layers", "num_heads", "depths", "depth", "dilations", "extra")
    body, published = model["backbone"], zoo["backbone"]
    for key in (key for key in shared if key in body and key in published):
        assert list_of(body[key]) == list_of(published[key])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("beit-b", "beit-base_upernet_8xb2-160k_ade20k-640x640"),
        ("beit-l", "beit-large_upernet_8xb1-amp-160k_ade20k-640x640"),
    ],
)
def test_heads_trained_on_the_zoos_beit_read_the_blocks_that_they_know(name: str, file: str) -> None:
    zoo = load_base(file, "semantic")["model"]["backbone"]
    assert list_of(backbone_of(name)["out_indices"]) == list_of(zoo["out_indices"])


def test_a_narrower_backbone_leaves_the_width_of_upernets_head() -> None:
    # MiT-B0's 32 + 64 + 160 + 256 channels are as many as UPerNet's head has.
    model = load_base("upernet", "semantic")["model"]
    put_encoder(model, "mit-b0")
    scale_backbone(model, 0.5)
    assert model["decode_head"]["in_channels"] == [16, 32, 80, 128]
    assert model["decode_head"]["channels"] == 512


def start_of(name: str) -> str:
    """The model from whose zoo file ours starts."""
    starts = {"mit": "segformer", "hr": "hrnet", "r": "deeplabv3plus", "vit": "segmenter"}
    return starts.get(name.split("-")[0].rstrip("0123456789"), "upernet")


def list_of(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_a_plain_transformer_brings_a_pyramid_and_takes_it_away() -> None:
    model = load_base("upernet", "semantic")["model"]
    put_encoder(model, "beit-b")
    assert (model["neck"]["type"], model["neck"]["embed_dim"]) == ("Feature2Pyramid", 768)
    scale_encoder(model["backbone"], 0.25)
    connect(model)
    assert model["neck"]["embed_dim"] == model["backbone"]["embed_dims"] == model["auxiliary_head"]["in_channels"]
    put_encoder(model, "beit-adapter-b")
    assert "neck" not in model
    assert model["decode_head"]["in_channels"] == [768] * 4


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected the name of a backbone, but got r51.*spaces models"):
        put_encoder(load_base("mask-rcnn", "instance")["model"], "r51")
