"""Scaling a model's channel counts, so that every model has a size that trains on a CPU.

Pure functions on plain nested dicts; imports nothing of ours. Channel counts are rounded to multiples of 8.
"""

from collections.abc import Iterator
from typing import Any

__all__ = ["scale_backbone", "scale_heads"]

Nested = dict[str, Any]

# Keys that count channels inside necks and heads; `in_channels` of a neck reads the backbone and is left alone.
HEAD_WIDTHS = ("feat_channels", "out_channels", "fc_out_channels", "conv_out_channels", "in_channels", "channels")
HEAD_WIDTHS_SEMANTIC = ("channels", "c1_channels")


def scaled(channels: int, factor: float) -> int:
    """Returns `channels * factor`, a multiple of 8 and at least 8."""
    return max(8, round(channels * factor / 8) * 8)


def scale_backbone(model: Nested, factor: float | None) -> None:
    """Scales the backbone's stages and whatever reads them (a neck's or a semantic head's input channels)."""
    if factor is None or factor == 1.0:
        return
    backbone = model["backbone"]
    if backbone["type"] == "MixVisionTransformer":
        before = backbone["embed_dims"]
        backbone["embed_dims"] = scaled(before, factor)
    else:
        before = backbone.get("base_channels", 64)
        backbone["base_channels"] = scaled(before, factor)
        if backbone["type"] == "ResNetV1c":  # MMSegmentation's stem has a width of its own
            backbone["stem_channels"] = scaled(backbone.get("stem_channels", 64), factor)
        if "base_width" in backbone:  # ResNeXt: channels of one group, whatever `base_channels` is
            backbone["base_width"] = max(1, round(backbone["base_width"] * factor))
    exact = (backbone.get("embed_dims") or backbone.get("base_channels")) / before
    if "neck" in model:
        model["neck"]["in_channels"] = [int(count * exact) for count in model["neck"]["in_channels"]]
        return
    for head in filter(None, (model["decode_head"], model.get("auxiliary_head"))):
        if isinstance(head["in_channels"], int):
            head["in_channels"] = int(head["in_channels"] * exact)
        else:
            head["in_channels"] = [int(count * exact) for count in head["in_channels"]]
        if "c1_in_channels" in head:
            head["c1_in_channels"] = int(head["c1_in_channels"] * exact)


def scale_heads(model: Nested, factor: float | None) -> None:
    """Scales neck and heads; the neck's input stays what the backbone gives."""
    if factor is None or factor == 1.0:
        return
    if "neck" not in model:
        for head in filter(None, (model["decode_head"], model.get("auxiliary_head"))):
            scale_keys(head, HEAD_WIDTHS_SEMANTIC, factor)
        return
    scale_keys(model["neck"], ("out_channels",), factor)
    for head in detector_heads(model):
        scale_keys(head, HEAD_WIDTHS, factor)


def detector_heads(model: Nested) -> Iterator[Nested]:
    """Yields every head and RoI extractor of a two-stage detector, cascade stages one by one."""
    yield model["rpn_head"]
    for part in model["roi_head"].values():
        for head in part if isinstance(part, list) else (part,):
            if isinstance(head, dict) and "type" in head:
                yield head


def scale_keys(head: Nested, keys: tuple[str, ...], factor: float) -> None:
    """Scales those of `keys` that `head` has and that are plain numbers."""
    for key in keys:
        if isinstance(head.get(key), int):
            head[key] = scaled(head[key], factor)
