"""The models for semantic segmentation, one row each, and the groups of them that share knobs."""

from search_spaces.backbones import (
    BEIT_ADAPTERS,
    BEITS,
    HRNETS,
    MIX_TRANSFORMERS,
    PYRAMIDS,
    RESNETS,
    RESNEXTS,
    SE_RESNEXTS,
    VGGS,
    VITS,
)
from search_spaces.model import Model
from search_spaces.smp_models import SMP_MODELS

__all__ = [
    "AS_WIDE_AS_THE_BACKBONE",
    "DILATED",
    "OWN_ENCODER",
    "SEMANTIC_MODELS",
    "SMP",
    "WITH_AUXILIARY_HEAD",
    "WITH_LOSS",
]

_DILATABLE = (*RESNETS, *RESNEXTS, *SE_RESNEXTS)
_ZOO = (
    Model(
        name="segformer",
        task="semantic",
        help="Mix Transformer encoder with a light all-MLP head",
        zoo="segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        backbones=(*MIX_TRANSFORMERS, *(name for name in PYRAMIDS if name not in MIX_TRANSFORMERS)),
        optimizer="adamw",
        lr=6e-5,
        source="001: model search over MMSegmentation",
    ),
    Model(
        name="deeplabv3plus",
        task="semantic",
        help="dilated encoder, pyramid of dilated convolutions, decoder",
        zoo="deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=_DILATABLE,
        optimizer="sgd",
        lr=0.01,
        source="004: DeepLabV3+ R50 LB 0.5628-0.5817, R101 0.5027-0.5911, SE-ResNeXt-50 0.5766",
    ),
    Model(
        name="deeplabv3",
        task="semantic",
        help="dilated encoder and pyramid of dilated convolutions",
        zoo="deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=_DILATABLE,
        optimizer="sgd",
        lr=0.01,
        source="004: DeepLabV3 R50 LB 0.5781, R101 LB 0.5070 at 256 px",
    ),
    Model(
        name="pspnet",
        task="semantic",
        help="dilated encoder and pooling at four sizes",
        zoo="pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=_DILATABLE,
        optimizer="sgd",
        lr=0.01,
        source="001: model search over MMSegmentation",
    ),
    Model(
        name="fcn",
        task="semantic",
        help="dilated encoder and two convolutions",
        zoo="fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=_DILATABLE,
        optimizer="sgd",
        lr=0.01,
        source="001: FCN-R101 weights; 004: FCN-R50 LB 0.4956",
    ),
    Model(
        name="fcn-8s",
        task="semantic",
        help="scores at strides 8, 16 and 32, added up (the first FCN)",
        zoo="fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=(*VGGS, *(name for name in PYRAMIDS if name not in VGGS)),
        optimizer="sgd",
        lr=0.01,
        source="004: FCN-16s VGG16 LB 0.3218",
    ),
    Model(
        name="segnet",
        task="semantic",
        help="VGG16 whose decoder unpools by the encoder's pooling indices",
        zoo="fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=(),
        optimizer="sgd",
        lr=0.01,
        source="004: SegNet LB 0.3075",
    ),
    Model(
        name="unet",
        task="semantic",
        help="encoder and decoder of five levels with skip connections (smp-unet: with other encoders)",
        zoo="unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py",
        backbones=(),
        optimizer="sgd",
        lr=0.01,
        source="004: U-Net",
    ),
    Model(
        name="hrnet",
        task="semantic",
        help="high resolution kept throughout, four scales side by side",
        zoo="hrnet/fcn_hr18_4xb4-80k_ade20k-512x512.py",
        backbones=HRNETS,
        optimizer="sgd",
        lr=0.01,
        source="001: HRNet-w48 weights",
    ),
    Model(
        name="ocrnet",
        task="semantic",
        help="HRNet, each pixel compared with its class's context",
        zoo="ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py",
        backbones=HRNETS,
        optimizer="sgd",
        lr=0.01,
        source="001: model search over MMSegmentation",
    ),
    Model(
        name="upernet",
        task="semantic",
        help="feature pyramid with pooling at four sizes, for every encoder",
        zoo="upernet/upernet_r50_4xb4-80k_ade20k-512x512.py",
        backbones=(*PYRAMIDS, *BEITS, *BEIT_ADAPTERS),
        optimizer="adamw",
        lr=1e-4,
        source="001: UPerNet ConvNeXt, UPerNet BEiT-Adapter (pseudo labels 0.7773 -> 0.7959)",
    ),
    Model(
        name="semantic-fpn",
        task="semantic",
        help="feature pyramid with a light head",
        zoo="sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py",
        backbones=PYRAMIDS,
        optimizer="adamw",
        lr=1e-4,
        source="002: EfficientNet + FPN joined the ensemble",
    ),
    Model(
        name="bifpn",
        task="semantic",
        help="EfficientDet's two-way pyramid with a light head",
        zoo="sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py",
        backbones=("efficientnet-b0", *(name for name in PYRAMIDS if name != "efficientnet-b0")),
        optimizer="adamw",
        lr=1e-4,
        source="002: EfficientDet's BiFPN with a segmentation head",
    ),
    Model(
        name="segmenter",
        task="semantic",
        help="plain vision transformer and a mask transformer",
        zoo="segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py",
        backbones=VITS,
        optimizer="sgd",
        lr=0.001,
        source="001: model search over MMSegmentation",
    ),
    Model(
        name="mask2former-semantic",
        task="semantic",
        help="queries that each give a mask and a class",
        zoo="mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
        backbones=PYRAMIDS,
        optimizer="adamw",
        lr=1e-4,
        source="001: Mask2Former best model",
    ),
)

SEMANTIC_MODELS = (*_ZOO, *SMP_MODELS)

SMP = tuple(model.name for model in SMP_MODELS)
DILATED = ("fcn", "pspnet", "deeplabv3", "deeplabv3plus")
OWN_ENCODER = ("segnet", "unet")
"""Those that stand on an encoder of their own only."""

AS_WIDE_AS_THE_BACKBONE = ("segnet", "smp-linknet")
"""Those whose decoder has no widths of its own."""

WITH_LOSS = tuple(model.name for model in SEMANTIC_MODELS if model.name != "mask2former-semantic")
"""Those that score each pixel's class by a loss of choice; the others match masks to objects by their own."""

WITH_AUXILIARY_HEAD = (*DILATED, "unet", "upernet")
