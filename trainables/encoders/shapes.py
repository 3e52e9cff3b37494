"""The channels that a backbone gives, read from its config, and scaling them: one reader and one scaler a type."""

from collections.abc import Callable
from typing import Any

from segdata.errors import InputError

__all__ = ["BASIC_DEPTHS", "bare_type", "channels_of", "scale_encoder", "scaled"]

Nested = dict[str, Any]

BASIC_DEPTHS = (18, 34)
VGG_CHANNELS = (64, 128, 256, 512, 512)  # of its five stages
# Width multipliers of EfficientNet, Tan and Le 2019 (arXiv 1905.11946), as published with its code.
EFFICIENTNET_WIDTHS = {"b0": 1.0, "b1": 1.0, "b2": 1.1, "b3": 1.2, "b4": 1.4, "b5": 1.6, "b6": 1.8, "b7": 2.0}


def scaled(channels: int, factor: float) -> int:
    """Returns `channels * factor`, a multiple of 8 and at least 8."""
    return max(8, round(channels * factor / 8) * 8)


def bare_type(part: Nested) -> str:
    """Returns the type of a part without the package that it may name."""
    return str(part["type"]).rpartition(".")[2]


def channels_of(backbone: Nested) -> tuple[int, ...] | None:
    """Returns the channels of a backbone's outputs in its order, UNet's coarsest first; None for unknown types."""
    reader = READERS.get(bare_type(backbone))
    return reader(backbone) if reader else None


def scale_encoder(backbone: Nested, factor: float) -> None:
    """Scales the channels of a backbone's config, in place.

    Raises:
        InputError: Its class has fixed widths.
    """
    scaler = SCALERS.get(bare_type(backbone))
    if scaler is None:
        raise InputError.of(
            f"expected width 1 for {bare_type(backbone)}, whose widths are fixed, but got {factor}",
            where="space.width",
            cure="Drop width for this model (by `when: {model: ...}`), or choose a smaller backbone.",
        )
    scaler(backbone, factor)


def resnet_channels(backbone: Nested) -> tuple[int, ...]:
    expansion = 1 if backbone["depth"] in BASIC_DEPTHS else 4
    return tuple(backbone.get("base_channels", 64) * 2**stage * expansion for stage in range(4))


def scale_resnet(backbone: Nested, factor: float) -> None:
    backbone["base_channels"] = scaled(backbone.get("base_channels", 64), factor)
    if bare_type(backbone) in ("ResNetV1c", "SEResNeXt"):  # stems with a width of their own
        backbone["stem_channels"] = scaled(backbone.get("stem_channels", 64), factor)
    for group_width in ("base_width", "width_per_group"):  # ResNeXt: channels of a group, whatever the base is
        if group_width in backbone:
            backbone[group_width] = max(1, round(backbone[group_width] * factor))


def efficientnet_channels(backbone: Nested) -> tuple[int, ...]:
    width = EFFICIENTNET_WIDTHS[backbone["arch"]] * backbone.get("width", 1.0)
    return tuple(nearest_eighth(channels * width) for channels in (24, 40, 112, 320))


def scale_efficientnet(backbone: Nested, factor: float) -> None:
    backbone |= {"type": "mmseg.ScaledEfficientNet", "width": factor}


def nearest_eighth(channels: float) -> int:
    """Rounds to a multiple of 8, never below nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def densenet_channels(backbone: Nested) -> tuple[int, ...]:
    """Each block adds its layers' growth; a transition halves what goes on, the last output keeps all."""
    arch, channels, found = backbone["arch"], backbone["arch"]["init_channels"], []
    for depth in arch["depths"]:
        channels += depth * arch["growth_rate"]
        found.append(channels)
        channels //= 2
    return tuple(found)


def scale_densenet(backbone: Nested, factor: float) -> None:
    arch = backbone["arch"]
    backbone["arch"] = arch | {key: scaled(arch[key], factor) for key in ("growth_rate", "init_channels")}


def vgg_channels(backbone: Nested) -> tuple[int, ...]:
    return tuple(backbone.get("channels", VGG_CHANNELS)[1:])


def scale_vgg(backbone: Nested, factor: float) -> None:
    channels = tuple(scaled(count, factor) for count in VGG_CHANNELS)
    backbone |= {"type": "mmseg.ScaledVGG", "channels": channels}


def convnext_channels(backbone: Nested) -> tuple[int, ...]:
    return tuple(backbone["arch"]["channels"])


def scale_convnext(backbone: Nested, factor: float) -> None:
    first = scaled(backbone["arch"]["channels"][0], factor)
    backbone["arch"] = backbone["arch"] | {"channels": [first * 2**stage for stage in range(4)]}


def hrnet_channels(backbone: Nested) -> tuple[int, ...]:
    return tuple(backbone["extra"]["stage4"]["num_channels"])


def scale_hrnet(backbone: Nested, factor: float) -> None:
    first = scaled(backbone["extra"]["stage4"]["num_channels"][0], factor)
    for name, stage in backbone["extra"].items():
        branches = stage["num_branches"]
        before = scaled(stage["num_channels"][0], factor) if name == "stage1" else first
        stage["num_channels"] = tuple(before * 2**branch for branch in range(branches))


def swin_channels(backbone: Nested) -> tuple[int, ...]:
    return tuple(backbone["embed_dims"] * 2**stage for stage in range(4))


def scale_swin(backbone: Nested, factor: float) -> None:
    """Narrows each attention head, whose number stays."""
    heads = backbone["num_heads"][0]
    backbone["embed_dims"] = heads * scaled(backbone["embed_dims"] // heads, factor)


def mix_transformer_channels(backbone: Nested) -> tuple[int, ...]:
    return tuple(backbone["embed_dims"] * heads for heads in backbone["num_heads"])


def scale_embedding(backbone: Nested, factor: float) -> None:
    backbone["embed_dims"] = scaled(backbone["embed_dims"], factor)


def vit_channels(backbone: Nested) -> tuple[int, ...]:
    outputs = backbone.get("out_indices", -1)
    return (backbone["embed_dims"],) * (1 if isinstance(outputs, int) else len(outputs))


def scale_vit(backbone: Nested, factor: float) -> None:
    """Narrows each attention head, whose number stays."""
    heads = backbone["num_heads"]
    backbone["embed_dims"] = heads * scaled(backbone["embed_dims"] // heads, factor)


def adapter_channels(backbone: Nested) -> tuple[int, ...]:
    return (backbone["embed_dims"],) * 4


def scale_adapter(backbone: Nested, factor: float) -> None:
    scale_vit(backbone, factor)
    backbone["stem_channels"] = scaled(backbone["stem_channels"], factor)


def segnet_channels(backbone: Nested) -> tuple[int, ...]:
    return (backbone["base_channels"],)


def unet_channels(backbone: Nested) -> tuple[int, ...]:
    """The coarsest first, unlike all the others."""
    return tuple(backbone["base_channels"] * 2**level for level in (4, 3, 2, 1, 0))


def scale_base(backbone: Nested, factor: float) -> None:
    backbone["base_channels"] = scaled(backbone["base_channels"], factor)


READERS: dict[str, Callable[[Nested], tuple[int, ...]]] = {
    "ResNet": resnet_channels,
    "ResNetV1c": resnet_channels,
    "ResNeXt": resnet_channels,
    "SEResNeXt": resnet_channels,
    "EfficientNet": efficientnet_channels,
    "PyramidDenseNet": densenet_channels,
    "ScaledEfficientNet": efficientnet_channels,
    "VGG": vgg_channels,
    "ScaledVGG": vgg_channels,
    "ConvNeXt": convnext_channels,
    "HRNet": hrnet_channels,
    "SwinTransformer": swin_channels,
    "MixVisionTransformer": mix_transformer_channels,
    "VisionTransformer": vit_channels,
    "AnySizeBEiT": vit_channels,
    "BEiTAdapter": adapter_channels,
    "SegNet": segnet_channels,
    "UNet": unet_channels,
}

SCALERS: dict[str, Callable[[Nested, float], None]] = {
    "ResNet": scale_resnet,
    "ResNetV1c": scale_resnet,
    "ResNeXt": scale_resnet,
    "SEResNeXt": scale_resnet,
    "EfficientNet": scale_efficientnet,
    "PyramidDenseNet": scale_densenet,
    "VGG": scale_vgg,
    "ConvNeXt": scale_convnext,
    "HRNet": scale_hrnet,
    "SwinTransformer": scale_swin,
    "MixVisionTransformer": scale_embedding,
    "VisionTransformer": scale_vit,
    "AnySizeBEiT": scale_vit,
    "BEiTAdapter": scale_adapter,
    "SegNet": scale_base,
    "UNet": scale_base,
}
