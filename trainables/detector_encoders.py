"""The encoders that only one detector has: RTMDet's CSPNeXt, and DetectoRS's ResNet, which its neck holds once more.

Pure functions on plain nested dicts; imports the zoo reader.
"""

from typing import Any

from segdata.errors import InputError
from trainables.zoo import load_base

__all__ = ["OWN_ENCODERS", "put_detector_encoder", "scale_detector_encoder"]

Nested = dict[str, Any]

OWN_ENCODERS = ("CSPNeXt", "DetectoRS_ResNet")
"""Types of backbone that `put_detector_encoder` configures."""

# name -> (depth factor, width factor, blocks of the neck); the zoo's five sizes of RTMDet-Ins.
CSPNEXTS: dict[str, tuple[float, float, int]] = {
    "cspnext-tiny": (0.167, 0.375, 1),
    "cspnext-s": (0.33, 0.5, 1),
    "cspnext-m": (0.67, 0.75, 2),
    "cspnext-l": (1.0, 1.0, 3),
    "cspnext-x": (1.33, 1.25, 4),
}
CSPNEXT_CHANNELS = (256, 512, 1024)  # of strides 8, 16 and 32 at width factor 1
PUBLISHED_CSPNEXTS = ("cspnext-tiny", "cspnext-s")  # the larger ones start from random weights in the zoo too

DETECTORS_DEPTHS = {"r50": 50, "r101": 101}


def put_detector_encoder(model: Nested, backbone: str) -> None:
    """Puts the named backbone into a detector whose type of backbone is its own.

    Raises:
        InputError: That detector has no such backbone.
    """
    kind = model["backbone"]["type"]
    fitting: tuple[str, ...] = tuple(CSPNEXTS if kind == "CSPNeXt" else DETECTORS_DEPTHS)
    if backbone not in fitting:
        raise InputError.of(
            f"expected a backbone that fits {kind} (one of {', '.join(fitting)}), but got {backbone}",
            where="space.backbone",
            cure="Choose a fitting one, or give each model its own backbones by `when: {model: ...}`.",
        )
    if kind == "CSPNeXt":
        put_cspnext(model, backbone)
    else:
        model["backbone"]["depth"] = DETECTORS_DEPTHS[backbone]
        model["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": f"torchvision://resnet{backbone[1:]}"}
        repeat_in_neck(model)


def put_cspnext(model: Nested, backbone: str) -> None:
    """Sets depth and width of RTMDet's backbone, and of the neck and head that the zoo gives that size."""
    depth, width, blocks = CSPNEXTS[backbone]
    body = model["backbone"]
    body |= {"deepen_factor": depth, "widen_factor": width}
    body.pop("init_cfg", None)
    if backbone in PUBLISHED_CSPNEXTS:
        of_that_size = load_base(f"rtmdet-ins_{backbone.removeprefix('cspnext-')}_8xb32-300e_coco.py", "instance")
        body["init_cfg"] = of_that_size["model"]["backbone"]["init_cfg"]
    channels = [int(count * width) for count in CSPNEXT_CHANNELS]
    model["neck"] |= {"in_channels": channels, "out_channels": channels[0], "num_csp_blocks": blocks}
    model["bbox_head"] |= {"in_channels": channels[0], "feat_channels": channels[0]}


def scale_detector_encoder(model: Nested, factor: float) -> None:
    """Scales the channels of RTMDet's or DetectoRS's backbone, and what the neck reads.

    CSPNeXt's width becomes a whole number of sixteenths, DetectoRS's a multiple of 8.
    """
    body, neck = model["backbone"], model["neck"]
    if body["type"] == "CSPNeXt":
        body["widen_factor"] = max(1, round(body["widen_factor"] * factor * 16)) / 16
        neck["in_channels"] = [int(count * body["widen_factor"]) for count in CSPNEXT_CHANNELS]
        return
    body["base_channels"] = max(8, round(body.get("base_channels", 64) * factor / 8) * 8)
    body["stem_channels"] = body["base_channels"]
    neck["in_channels"] = [body["base_channels"] * 2**stage * 4 for stage in range(4)]
    repeat_in_neck(model)


def repeat_in_neck(model: Nested) -> None:
    """Makes the backbone inside DetectoRS's recursive pyramid the same as the one in front of it."""
    own_to_each = ("output_img", "rfp_inplanes")
    shared = {key: value for key, value in model["backbone"].items() if key not in own_to_each}
    kept = {"rfp_inplanes": model["neck"]["rfp_backbone"]["rfp_inplanes"]}
    model["neck"]["rfp_backbone"] = shared | kept
