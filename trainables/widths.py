"""Scaling a model's channel counts, so that every model has a size that trains on a CPU.

Pure functions on plain nested dicts; imports the encoders. Channel counts are rounded to multiples of 8.
"""

from typing import Any

from trainables.detector_encoders import OWN_ENCODERS, scale_detector_encoder
from trainables.detector_widths import is_detector, scale_detector_heads, scale_part
from trainables.encoders import connect, scale_encoder
from trainables.encoders.placing import heads
from trainables.encoders.shapes import scaled

__all__ = ["scale_backbone", "scale_heads"]

Nested = dict[str, Any]

# Keys that count channels inside semantic heads.
HEAD_WIDTHS = ("channels", "c1_channels", "ocr_channels")


def scale_backbone(model: Nested, factor: float | None) -> None:
    """Scales the backbone's stages and whatever reads them (a neck's or a semantic head's input channels)."""
    if factor is None or factor == 1.0:
        return
    if model["backbone"]["type"] in OWN_ENCODERS:
        scale_detector_encoder(model, factor)
        return
    scale_encoder(model["backbone"], factor)
    connect(model)


def scale_heads(model: Nested, factor: float | None) -> None:
    """Scales neck and heads; the neck's input stays what the backbone gives."""
    if factor is None or factor == 1.0:
        return
    if is_detector(model):
        scale_detector_heads(model, factor)
        return
    if model["type"] == "SmpSegmentor":
        model["decode_head"]["width"] = factor
        return
    if "out_channels" in model.get("neck", {}):
        model["neck"]["out_channels"] = scaled(model["neck"]["out_channels"], factor)
    for head in heads(model):
        scale_semantic_head(head, factor)
        if "out_channels" in model.get("neck", {}):
            head["in_channels"] = [model["neck"]["out_channels"]] * len(head["in_channels"])


def scale_semantic_head(head: Nested, factor: float) -> None:
    """Scales the channels inside a semantic head; what it reads stays."""
    if head["type"] == "Mask2FormerHead":
        scale_part(head, factor)
    elif head["type"] == "SegmenterMaskTransformerHead":
        width = scaled(head["embed_dims"] // head["num_heads"], factor) * head["num_heads"]
        head |= {"embed_dims": width, "channels": width}
    elif head.get("num_convs") != 0:  # without convolutions a head is as wide as what it reads
        for key in HEAD_WIDTHS:
            if isinstance(head.get(key), int):
                head[key] = scaled(head[key], factor)
