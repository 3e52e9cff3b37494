"""What must change in a zoo config of a detector before it trains on the user's data: model name -> change.

The models with queries get a `score_thr` that their heads do not read: `outputs.instances_of` drops what is below it.

Pure functions on plain nested dicts; imports the zoo reader.
"""

from collections.abc import Callable
from typing import Any

from trainables.detector_encoders import repeat_in_neck
from trainables.zoo import load_base

__all__ = ["INSTANCE_ADAPTATIONS", "pad_to_one_size", "put_training_parts", "sync_recursive_backbone"]

Nested = dict[str, Any]

SEMANTIC_BRANCH = ("semantic_roi_extractor", "semantic_head")
PADDING_DIVISOR = 32  # the coarsest stride that a pyramid is built from


def without_semantic_branch(model: Nested) -> None:
    """Drops the branch that learns COCO's stuff maps, which instance data does not have."""
    for part in SEMANTIC_BRANCH:
        model["roi_head"].pop(part, None)
    model["data_preprocessor"].pop("pad_seg", None)


def adapt_recursive(model: Nested) -> None:
    """DetectoRS: no semantic branch, and both backbones written alike."""
    without_semantic_branch(model)
    model["data_preprocessor"]["pad_mask"] = True
    repeat_in_neck(model)


def pad_masks(model: Nested) -> None:
    """HTC and SCNet: masks are padded with their images, as all the other detectors do."""
    without_semantic_branch(model)
    model["data_preprocessor"]["pad_mask"] = True


def adapt_point_rend(model: Nested) -> None:
    """Takes backbone and image normalisation of Mask R-CNN, so that the same published encoders fit."""
    stock = load_base("mask-rcnn", "instance")["model"]
    model["backbone"], model["data_preprocessor"] = stock["backbone"], stock["data_preprocessor"]


def adapt_yolact(model: Nested) -> None:
    """Puts anchors at the true strides of the pyramid.

    The zoo's strides (7.97 to 110 px) are those of 550 px inputs only: on 1024 px they drift from their cells by up to
    140 px.
    """
    strides = [8, 16, 32, 64, 128]
    model["bbox_head"]["anchor_generator"] |= {
        "strides": strides,
        "base_sizes": strides,
        "centers": [(stride / 2, stride / 2) for stride in strides],
    }


def spell_norms(model: Nested) -> None:
    """SOLO and SOLOv2: the zoo leaves it to the class that the backbone's norms rest, so none would know to wake them.

    Norms at rest need published weights: from scratch they would stay untrained.
    """
    model["backbone"]["norm_eval"] = True


def adapt_queryinst(model: Nested) -> None:
    """Keeps the boxes of the last stage inside the image.

    Otherwise an untrained network predicts some that lie wholly outside, and MMDetection's mask pasting cannot cut
    their masks out on a CPU ("upper bound and lower bound inconsistent with step sign").
    """
    model["roi_head"]["bbox_head"][-1]["bbox_coder"]["clip_border"] = True
    model["test_cfg"]["rcnn"]["score_thr"] = 0.0


def adapt_rtmdet(model: Nested) -> None:
    """Pads images to whole cells of the coarsest level; the zoo relies on its own fixed 640 px."""
    model["data_preprocessor"] |= {"pad_size_divisor": PADDING_DIVISOR, "pad_mask": True}


def adapt_mask2former(model: Nested) -> None:
    """Pads to whole cells only: a fixed square is for panoptic training on several GPUs."""
    model["data_preprocessor"]["batch_augments"] = None
    model["test_cfg"]["score_thr"] = 0.0


INSTANCE_ADAPTATIONS: dict[str, Callable[[Nested], None]] = {
    "htc": pad_masks,
    "scnet": pad_masks,
    "detectors": adapt_recursive,
    "point-rend": adapt_point_rend,
    "yolact": adapt_yolact,
    "solo": spell_norms,
    "solov2": spell_norms,
    "queryinst": adapt_queryinst,
    "rtmdet-ins": adapt_rtmdet,
    "mask2former": adapt_mask2former,
}


# Parts that stand in for the zoo's while a trial trains, with the same weights: zoo type -> ours.
TRAINING_PARTS = {"PointRendRoIHead": "ObjectlessPointRendRoIHead", "DIIHead": "ObjectlessDIIHead"}


def put_training_parts(part: Any) -> Any:
    """Returns a copy of `part` of a config in which our parts stand in for those of the zoo that fail in training."""
    if isinstance(part, dict):
        copied = {key: put_training_parts(value) for key, value in part.items()}
        return copied | ({"type": TRAINING_PARTS[part["type"]]} if part.get("type") in TRAINING_PARTS else {})
    if isinstance(part, list | tuple):
        return type(part)(put_training_parts(value) for value in part)
    return part


def sync_recursive_backbone(model: Nested) -> None:
    """Repeats what was changed in the backbone (width, frozen stages, initial weights) inside DetectoRS's neck."""
    if model["backbone"]["type"] == "DetectoRS_ResNet":
        repeat_in_neck(model)


def pad_to_one_size(config: Nested, side_px: int) -> None:
    """Pads every training image of YOLACT to one size, in its pipeline.

    Its masks are relative to `img_shape`, which padding by the batch leaves as it was: masks and images would no
    longer cover each other. The pipeline's `Pad` sets `img_shape`.

    Args:
        config: The whole config, whose `train_dataloader` is changed in place.
        side_px: Side of a square that no training image exceeds.
    """
    if config["model"]["type"] != "YOLACT":
        return
    pipeline = config["train_dataloader"]["dataset"]["pipeline"]
    last = next(index for index, step in enumerate(pipeline) if step["type"] == "PackDetInputs")
    pipeline.insert(last, {"type": "Pad", "size": (side_px, side_px)})
