"""The encoders by short name: how each is configured, the channels of its pyramid, and its published weights.

Pure functions on plain nested dicts; imports the zoo reader.
"""

from dataclasses import dataclass
from typing import Any

from segdata.errors import InputError
from trainables.zoo import load_base

__all__ = ["put_encoder"]

Nested = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResNetRow:
    """One ResNet or ResNeXt: keys of its config, output channels of the four stages, published weights."""

    keys: tuple[tuple[str, str | int], ...]
    channels: tuple[int, int, int, int]
    weights: str
    stem_weights: str  # for the V1c stem that DeepLabV3+ uses; the same as `weights` where there is none


BASIC = (64, 128, 256, 512)
BOTTLENECK = (256, 512, 1024, 2048)

RESNETS: dict[str, ResNetRow] = {
    "r18": ResNetRow((("depth", 18),), BASIC, "torchvision://resnet18", "open-mmlab://resnet18_v1c"),
    "r50": ResNetRow((("depth", 50),), BOTTLENECK, "torchvision://resnet50", "open-mmlab://resnet50_v1c"),
    "r101": ResNetRow((("depth", 101),), BOTTLENECK, "torchvision://resnet101", "open-mmlab://resnet101_v1c"),
    **{
        f"x{depth}-{groups}x4d": ResNetRow(
            (("type", "ResNeXt"), ("depth", depth), ("groups", groups), ("base_width", 4)),
            BOTTLENECK,
            f"open-mmlab://resnext{depth}_{groups}x4d",
            f"open-mmlab://resnext{depth}_{groups}x4d",
        )
        for depth, groups in ((50, 32), (101, 32), (101, 64))
    },
}

# mit-bN -> (first embedding dimension, layers of the four stages); Xie et al. 2021 (arXiv 2105.15203), table 6.
MIX_TRANSFORMERS: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    "mit-b0": (32, (2, 2, 2, 2)),
    "mit-b1": (64, (2, 2, 2, 2)),
    "mit-b2": (64, (3, 4, 6, 3)),
    "mit-b3": (64, (3, 4, 18, 3)),
    "mit-b4": (64, (3, 8, 27, 3)),
    "mit-b5": (64, (3, 6, 40, 3)),
}


def put_encoder(model: Nested, backbone: str | None) -> None:
    """Puts the named backbone into a model config, with the channel counts that follow from it.

    Raises:
        InputError: The model has no place for that backbone.
    """
    if backbone is None:
        return
    kind = model["backbone"]["type"]
    if kind == "MixVisionTransformer" and backbone in MIX_TRANSFORMERS:
        put_mix_transformer(model, backbone)
    elif kind in ("ResNet", "ResNetV1c", "ResNeXt") and backbone in RESNETS:
        put_resnet(model, RESNETS[backbone])
    else:
        fitting = MIX_TRANSFORMERS if kind == "MixVisionTransformer" else RESNETS if "ResNe" in kind else {}
        raise InputError.of(
            f"expected a backbone that fits {kind} (one of {', '.join(fitting) or 'its own only'}), but got {backbone}",
            where="space.backbone",
            cure="Choose a fitting one, or give each model its own backbones by `when: {model: ...}`.",
        )


def put_mix_transformer(model: Nested, backbone: str) -> None:
    """Sets embedding width and depth of a MixVisionTransformer; only the first has published weights in the base."""
    width, layers = MIX_TRANSFORMERS[backbone]
    model["backbone"].update(embed_dims=width, num_layers=list(layers))
    model["decode_head"]["in_channels"] = [width * heads for heads in model["backbone"]["num_heads"]]
    if backbone != "mit-b0":
        published = load_base(f"segformer_{backbone}_8xb2-160k_ade20k-512x512.py", "semantic")
        model["backbone"]["init_cfg"] = published["model"]["backbone"]["init_cfg"]


def put_resnet(model: Nested, row: ResNetRow) -> None:
    """Sets type and depth of a ResNet and the channels of neck or heads that read its stages."""
    deep_stem = model["backbone"]["type"] == "ResNetV1c"
    model["backbone"].update(dict(row.keys))
    weights = row.stem_weights if deep_stem else row.weights
    model["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": weights}
    model.pop("pretrained", None)
    if "neck" in model:
        model["neck"]["in_channels"] = list(row.channels)
        return
    head, auxiliary = model["decode_head"], model.get("auxiliary_head")
    head["in_channels"] = row.channels[3]
    if "c1_in_channels" in head:
        head["c1_in_channels"] = row.channels[0]
    if auxiliary:
        auxiliary["in_channels"] = row.channels[auxiliary["in_index"]]
    if row.channels is BASIC:  # the zoo's own sizes for R18
        head.update(channels=128, **({"c1_channels": 12} if "c1_channels" in head else {}))
        if auxiliary:
            auxiliary["channels"] = 64
