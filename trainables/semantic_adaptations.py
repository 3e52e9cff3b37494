"""What must change in a zoo config of a semantic model before it trains on the user's data: model name -> change.

Pure functions on plain nested dicts.
"""

from collections.abc import Callable
from typing import Any

from search_spaces.smp_models import SMP_MODELS
from trainables.encoders import put_encoder

__all__ = ["SEMANTIC_ADAPTATIONS", "fit_positions", "padded_side"]

Nested = dict[str, Any]

CROSS_ENTROPY = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}
SKIP_HEAD_CHANNELS = 512  # the paper's 4096 suit VGG16 and 1000 classes: 400 million weights on a ResNet-50
UNET_STRIDE_PX = 16  # UNet refuses other sizes than its multiples
LARGEST_TABLE_PX = 640  # what the zoo trains BEiT at: beyond, positions are interpolated rather than learned
PATCH_PX = 16


def adapt_fcn_8s(model: Nested) -> None:
    """Long et al. 2015 (arXiv 1411.4038): VGG16, undilated, scores of strides 8, 16 and 32."""
    undilate(model)
    model.pop("auxiliary_head")
    model["decode_head"] = {
        "type": "FCNSkipHead",
        "in_channels": [256, 512, 512],
        "in_index": [1, 2, 3],
        "channels": SKIP_HEAD_CHANNELS,
        "dropout_ratio": 0.5,
        "num_classes": 1,
        "align_corners": False,
        "loss_decode": dict(CROSS_ENTROPY),
    }
    put_encoder(model, "vgg16")


def undilate(model: Nested) -> None:
    """Gives a dilated ResNet back its strides of 4, 8, 16 and 32."""
    model["backbone"] |= {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1)}


def adapt_segnet(model: Nested) -> None:
    """Badrinarayanan et al. 2017 (arXiv 1511.00561), whose decoder ends in one convolution at full resolution."""
    channels = 64
    model.pop("auxiliary_head")
    model.pop("pretrained", None)
    model["backbone"] = {
        "type": "SegNet",
        "base_channels": channels,
        "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://vgg16_bn"},
    }
    model["decode_head"] |= {
        "in_channels": channels,
        "channels": channels,
        "in_index": 0,
        "num_convs": 0,
        "concat_input": False,
        "dropout_ratio": 0.0,
    }


def adapt_unet(model: Nested) -> None:
    """Images are padded to what four halvings divide, also in prediction."""
    model["data_preprocessor"]["test_cfg"] = {"size_divisor": UNET_STRIDE_PX}


def adapt_bifpn(model: Nested) -> None:
    """Tan et al. 2020 (arXiv 1911.09070): EfficientDet-D0's three fusions of 64 channels, here of strides 4 to 32."""
    put_encoder(model, "efficientnet-b0")
    neck = model["neck"]
    model["neck"] = {
        "type": "BiFPN",
        "in_channels": neck["in_channels"],
        "out_channels": 64,
        "num_outs": 4,
        "stack": 3,
        "norm_cfg": {"type": "BN"},
    }
    model["decode_head"]["in_channels"] = [64] * 4


def adapt_segmenter(model: Nested) -> None:
    """Whole images in prediction, as every other model; the position embedding is interpolated.

    Images are padded to whole patches: scores of half a patch would be stretched to the edge, and all others shifted.
    """
    model["test_cfg"] = {"mode": "whole"}
    model["data_preprocessor"]["test_cfg"] = {"size_divisor": PATCH_PX}


def adapt_mask2former(model: Nested) -> None:
    """The zoo freezes the scale and shift of the backbone's norms, which needs published weights."""
    model["backbone"]["norm_cfg"] = {"type": "BN", "requires_grad": True}


def smp_adaptation(name: str, backbone: str) -> Callable[[Nested], None]:
    """Returns the change that puts a network of segmentation-models-pytorch into the place of the zoo's."""

    def adapt(model: Nested) -> None:
        preprocessor, classes = model["data_preprocessor"], model["decode_head"]["num_classes"]
        model.clear()
        model |= {
            "type": "SmpSegmentor",
            "data_preprocessor": preprocessor,
            "backbone": {"type": "SmpEncoder", "encoder": backbone},
            "decode_head": {
                "type": "SmpHead",
                "decoder": name.removeprefix("smp-"),
                "width": 1.0,
                "num_classes": classes,
                "loss_decode": dict(CROSS_ENTROPY),
            },
            "train_cfg": {},
            "test_cfg": {"mode": "whole"},
        }

    return adapt


SEMANTIC_ADAPTATIONS: dict[str, Callable[[Nested], None]] = {
    "fcn-8s": adapt_fcn_8s,
    "segnet": adapt_segnet,
    "unet": adapt_unet,
    "bifpn": adapt_bifpn,
    "segmenter": adapt_segmenter,
    "mask2former-semantic": adapt_mask2former,
    **{model.name: smp_adaptation(model.name, model.backbones[0]) for model in SMP_MODELS},
}


def padded_side(model: Nested, side_px: int) -> int:
    """Returns the side of a training image after padding: one that a semantic model divides."""
    divisor = model["data_preprocessor"].get("test_cfg", {}).get("size_divisor", 1)
    return int(-(-side_px // divisor) * divisor)


def fit_positions(model: Nested, side_px: int) -> None:
    """Makes a plain transformer's position tables for the size that it trains at; other sizes are interpolated."""
    if "img_size" in model["backbone"]:
        side = min(LARGEST_TABLE_PX, -(-side_px // PATCH_PX) * PATCH_PX)
        model["backbone"]["img_size"] = (side, side)
