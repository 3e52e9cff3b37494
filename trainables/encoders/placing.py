"""Putting an encoder into a model config, and giving whatever reads it the channels that it has."""

import copy
from collections.abc import Iterator
from typing import Any

from segdata.errors import InputError
from trainables.detector_encoders import OWN_ENCODERS, put_detector_encoder
from trainables.encoders.rows import Encoder
from trainables.encoders.shapes import BASIC_DEPTHS, bare_type, channels_of
from trainables.encoders.table import ENCODERS

__all__ = ["connect", "heads", "put_encoder"]

Nested = dict[str, Any]

# What a ResNet takes over from the ResNet in whose place it comes: where it is dilated, what is frozen.
STAGES = ("num_stages", "out_indices", "strides", "dilations", "norm_eval", "frozen_stages")
RESNETS = ("ResNet", "ResNetV1c", "ResNeXt")
OWN_OF_RESNEXT = ("groups", "base_width")
UNDILATED = (1, 1, 1, 1)
BATCH_NORMED = ("HRNet", "VGG", "EfficientNet")  # others of which a detector may want the norms at rest


def put_encoder(model: Nested, backbone: str | None) -> None:
    """Puts the named backbone into a model config, with the channel counts that follow from it.

    Which backbones a model takes is known by its row in `search_spaces`; None leaves the model its own.

    Raises:
        InputError: There is no such backbone.
    """
    if backbone is None:
        return
    if model["backbone"]["type"] in OWN_ENCODERS:
        put_detector_encoder(model, backbone)
        return
    if model["backbone"]["type"] == "SmpEncoder":  # reads its channels itself
        model["backbone"]["encoder"] = backbone
        return
    if backbone not in ENCODERS:
        raise InputError.of(
            f"expected the name of a backbone, but got {backbone}",
            where="space.backbone",
            cure="`segsweep spaces models` lists them.",
        )
    encoder, old = ENCODERS[backbone], model["backbone"]
    new = backbone_in_place_of(old, encoder)
    weights = encoder.deep_stem_weights if new["type"] == "ResNetV1c" else encoder.weights
    published = weights["imagenet"].init_cfg() if "imagenet" in weights else None
    model["backbone"] = new | ({"init_cfg": published} if published else {})
    model.pop("pretrained", None)
    put_pixels(model, encoder)
    put_resampling(model)
    if bare_type(new) in RESNETS and new["depth"] in BASIC_DEPTHS and old.get("dilations", UNDILATED) != UNDILATED:
        narrow_heads(model)
    connect(model)


def backbone_in_place_of(old: Nested, encoder: Encoder) -> Nested:
    """Returns the encoder's config; among ResNets it keeps what the model wants of its stages."""
    new = copy.deepcopy(encoder.backbone)
    if bare_type(new) in BATCH_NORMED:
        return new | {"norm_eval": old.get("norm_eval", False)}
    if bare_type(old) not in RESNETS:
        return new
    if bare_type(new) == "SEResNeXt":
        return new | {key: old[key] for key in STAGES if key in old}
    if bare_type(new) not in RESNETS:
        return new
    kept = {key: value for key, value in old.items() if key not in (*OWN_OF_RESNEXT, "init_cfg", "pretrained")}
    if encoder.deep_stem_weights and bare_type(old) == "ResNetV1c":
        new["type"] = old["type"]
    return kept | new | {"style": "pytorch"}


def put_pixels(model: Nested, encoder: Encoder) -> None:
    """Gives the network its pixels as the encoder's published weights know them."""
    if encoder.pixels is not None and "mean" in model.get("data_preprocessor", {}):
        pixels = {"mean": list(encoder.pixels.mean), "std": list(encoder.pixels.std), "bgr_to_rgb": True}
        model["data_preprocessor"].update(pixels)


def put_resampling(model: Nested) -> None:
    """Makes a pyramid of a plain transformer's maps, which are all of stride 16, on images of whole patches.

    The maps of half a patch would be stretched to the image's edge, and all scores shifted.
    """
    neck = model.get("neck", {})
    if bare_type(model["backbone"]) == "AnySizeBEiT":
        model["neck"] = {
            "type": "Feature2Pyramid",
            "embed_dim": model["backbone"]["embed_dims"],
            "rescales": [4, 2, 1, 0.5],
            "norm_cfg": {"type": "BN", "requires_grad": True},
        }
        model["data_preprocessor"]["test_cfg"] = {"size_divisor": model["backbone"]["patch_size"]}
    elif neck and neck["type"] == "Feature2Pyramid":
        del model["neck"]


def narrow_heads(model: Nested) -> None:
    """Gives dilated ResNets of basic blocks the smaller heads that the zoo gives its R18."""
    for head, channels in (("decode_head", 128), ("auxiliary_head", 64)):
        if head in model:
            model[head]["channels"] = channels
        if "c1_channels" in model.get(head, {}):
            model[head]["c1_channels"] = 12


def connect(model: Nested) -> None:
    """Gives neck or heads the channels of the backbone as it is now; leaves a backbone of unknown type alone."""
    channels = channels_of(model["backbone"])
    if channels is None:
        return
    neck = model.get("neck")
    if isinstance(neck, dict) and neck["type"] == "Feature2Pyramid":
        neck["embed_dim"] = channels[0]
    elif neck:
        feed_neck(neck, channels)
        return
    for head in heads(model):
        feed_head(head, channels)
        if head["type"] == "SegmenterMaskTransformerHead":
            attention = {
                "channels": channels[0],
                "embed_dims": channels[0],
                "num_heads": model["backbone"]["num_heads"],
            }
            head.update(attention)


def feed_neck(neck: Any, channels: tuple[int, ...]) -> None:
    first = neck[0] if isinstance(neck, list | tuple) else neck
    if isinstance(first.get("in_channels"), list | tuple):
        first["in_channels"] = list(channels[-len(first["in_channels"]) :])


def heads(model: Nested) -> Iterator[Nested]:
    """Yields the heads that read the backbone: decode and auxiliary heads, and Mask2Former's."""
    for name in ("decode_head", "auxiliary_head", "panoptic_head"):
        found = model.get(name) or ()
        yield from found if isinstance(found, list | tuple) else (found,)


def feed_head(head: Nested, channels: tuple[int, ...]) -> None:
    """Sets the input channels of one head by the stages that it reads, and what the zoo derives from them."""
    index, before = head.get("in_index", -1), head["in_channels"]
    if isinstance(before, list | tuple):
        chosen = index if isinstance(index, list | tuple) else range(len(channels))
        head["in_channels"] = [channels[stage] for stage in chosen]
        # HRNet's head has as many as it reads; UPerNet's 512 are the sum of MiT-B0's by chance.
        if head.get("input_transform") == "resize_concat" and head.get("channels") == sum(before):
            head["channels"] = sum(head["in_channels"])
    else:
        head["in_channels"] = channels[index]
        if head.get("num_convs") == 0:  # nothing in between that could change the number
            head["channels"] = channels[index]
    if "c1_in_channels" in head:
        head["c1_in_channels"] = channels[0]
