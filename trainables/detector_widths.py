"""Scaling necks and heads of detectors, so that every one has a size that trains on a CPU.

Pure functions on plain nested dicts. Channel counts become multiples of 8; what two parts share stays equal, since
equal counts scale to equal counts. A list of counts (what a neck reads from the backbone) is left alone.
"""

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["is_detector", "scale_detector_heads", "scale_part"]

Nested = dict[str, Any]

CHANNELS = (
    "in_channels",
    "out_channels",
    "feat_channels",
    "fc_out_channels",
    "conv_out_channels",
    "fc_channels",
    "out_conv_channels",  # SCNet's feature relay
    "proposal_feature_channel",  # QueryInst
    "feedforward_channels",
    "embed_dims",
)
HEADS = ("neck", "rpn_head", "roi_head", "bbox_head", "mask_head", "panoptic_head")
STOCK_COUNTS = (128, 256, 512)  # of the layers that group norms follow
PROTOTYPE_LAYERS = (256, 256, 256, None, 256)  # YOLACT's protonet as published; its last layer gives the prototypes


def is_detector(model: Nested) -> bool:
    """Says whether a model config is a detector's."""
    return any(part in model for part in ("rpn_head", "bbox_head", "mask_head", "panoptic_head"))


def scale_detector_heads(model: Nested, factor: float) -> None:
    """Scales the channel counts of neck and heads by `factor`; the neck's input stays what the backbone gives."""
    per_object = filters_of_condinst(model)
    for part in filter(None, (model.get(name) for name in HEADS)):
        scale_part(part, factor)
    SPECIAL.get(model["type"], nothing_else)(model, factor)
    for part, values in per_object:
        part.update(values)


def scale_part(part: Nested, factor: float) -> None:
    """Scales every channel count inside `part`, in place.

    Group norms get as many groups as then fit; a sine encoding gives half of an embedding's channels to each axis.
    """
    groups = norm_groups(factor)
    for inner in parts_of(part):
        if str(inner.get("type", "")).startswith("DetectoRS"):
            continue
        for key in CHANNELS:
            if type(inner.get(key)) is int:
                inner[key] = scaled(inner[key], factor)
        if inner.get("type") == "GN":
            inner["num_groups"] = groups
        if "num_feats" in inner:
            inner["num_feats"] = scaled(2 * inner["num_feats"], factor) // 2


def norm_groups(factor: float) -> int:
    """Returns how many groups, of 32 at stock width, divide every scaled count into groups of two channels and more.

    A group of one channel cannot be normalised on a map of one pixel.
    """
    return math.gcd(32, math.gcd(*(scaled(count, factor) for count in STOCK_COUNTS)) // 2)


def scale_solo(model: Nested, factor: float) -> None:
    """The zoo leaves the group norms of SOLOv2's head to the class."""
    model["mask_head"]["norm_cfg"] = group_norm(factor)


def scale_condinst(model: Nested, factor: float) -> None:
    """The zoo leaves the group norms of CondInst's box head to the class."""
    model["bbox_head"]["norm_cfg"] = group_norm(factor)


def group_norm(factor: float) -> Nested:
    """Returns the config of a group norm over scaled channels."""
    return {"type": "GN", "num_groups": norm_groups(factor), "requires_grad": True}


def scale_yolact(model: Nested, factor: float) -> None:
    """Scales the layers between pyramid and prototypes, not the number of prototypes."""
    layers = [None if count is None else scaled(count, factor) for count in PROTOTYPE_LAYERS]
    model["mask_head"]["proto_channels"] = (*layers, model["mask_head"]["num_protos"])


def scale_recursive_pyramid(model: Nested, factor: float) -> None:
    """Four dilated branches side by side feed the second pass of DetectoRS's backbone."""
    neck = model["neck"]
    if neck["type"] == "RFP":
        neck["aspp_out_channels"] = neck["out_channels"] // 4
        neck["rfp_backbone"]["rfp_inplanes"] = neck["out_channels"]


def nothing_else(model: Nested, factor: float) -> None:
    """Most detectors hold no counts beyond those of `CHANNELS`."""


SPECIAL = {
    "SOLO": scale_solo,
    "SOLOv2": scale_solo,
    "CondInst": scale_condinst,
    "YOLACT": scale_yolact,
    "HybridTaskCascade": scale_recursive_pyramid,
}


def filters_of_condinst(model: Nested) -> list[tuple[Nested, Nested]]:
    """Returns CondInst's counts that do not scale: each object's filters are 169 weights between 8 channels."""
    if model["type"] != "CondInst":
        return []
    head = model["mask_head"]
    features = head["mask_feature_head"]
    return [
        (head, {"feat_channels": head["feat_channels"]}),
        (features, {"out_channels": features["out_channels"]}),
    ]


def parts_of(part: Any) -> Iterator[Nested]:
    """Yields every dict inside `part`, itself included."""
    if isinstance(part, dict):
        yield part
        part = tuple(part.values())
    if isinstance(part, list | tuple):
        for value in part:
            yield from parts_of(value)


def scaled(channels: int, factor: float) -> int:
    """Returns `channels * factor`, a multiple of 8 and at least 8."""
    return max(8, round(channels * factor / 8) * 8)
