"""segmentation-models-pytorch's decoders as models: one row each, with the encoders of that library that fit.

A pair that the library refuses (a decoder that needs dilation on an encoder that can't dilate) is not in a row.
"""

from search_spaces.model import Model

__all__ = ["SMP_ENCODERS", "SMP_FAMILIES", "SMP_MODELS"]

_RESNETS = (
    "resnet34",
    "resnet18",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "resnext101_32x8d",
    "resnext101_32x16d",
    "resnext101_32x32d",
    "resnext101_32x48d",
)
_DPNS = ("dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131")
_VGGS = ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
_SENETS = (
    "senet154",
    "se_resnet50",
    "se_resnet101",
    "se_resnet152",
    "se_resnext50_32x4d",
    "se_resnext101_32x4d",
)
_DENSENETS = ("densenet121", "densenet169", "densenet201", "densenet161")
_INCEPTIONS = ("inceptionresnetv2", "inceptionv4", "xception")
_MOBILE = ("mobilenet_v2", "mobileone_s0", "mobileone_s1", "mobileone_s2", "mobileone_s3", "mobileone_s4")
_EFFICIENTNETS = (
    *(f"efficientnet-b{size}" for size in range(8)),
    *(f"timm-efficientnet-b{size}" for size in range(9)),
    "timm-efficientnet-l2",
    *(f"timm-tf_efficientnet_lite{size}" for size in range(5)),
)
_SKNETS = ("timm-skresnet18", "timm-skresnet34", "timm-skresnext50_32x4d")
_MIX_TRANSFORMERS = tuple(f"mit_b{size}" for size in range(6))

# Plain vision transformers of timm, the only encoders that DPT reads; other `tu-` names of this kind fit as well.
_PLAIN_VITS = (
    "tu-vit_base_patch16_224",
    "tu-vit_tiny_patch16_224",
    "tu-vit_small_patch16_224",
    "tu-vit_large_patch16_224",
    "tu-vit_small_patch32_224",
    "tu-deit_tiny_patch16_224",
    "tu-deit_small_patch16_224",
    "tu-deit_base_patch16_224",
)

SMP_FAMILIES: dict[str, tuple[str, ...]] = {
    "ResNet, ResNeXt": _RESNETS,
    "DPN": _DPNS,
    "SENet, SE-ResNet, SE-ResNeXt": _SENETS,
    "MobileNet, MobileOne": _MOBILE,
    "EfficientNet": _EFFICIENTNETS,
    "SK-ResNet": _SKNETS,
    "VGG": _VGGS,
    "DenseNet": _DENSENETS,
    "Inception, Xception": _INCEPTIONS,
    "Mix Transformer": _MIX_TRANSFORMERS,
    "ViT, DeiT (of timm)": _PLAIN_VITS,
}
"""Family as a table heads it -> its encoders, by their names in segmentation-models-pytorch."""

_DILATABLE_CNNS = (*_RESNETS, *_DPNS, *_SENETS, *_MOBILE, *_EFFICIENTNETS, *_SKNETS)
_DILATABLE = (*_DILATABLE_CNNS, *_MIX_TRANSFORMERS)
_CNNS = (*_DILATABLE_CNNS, *_VGGS, *_DENSENETS, *_INCEPTIONS)
SMP_ENCODERS = (*_CNNS, *_MIX_TRANSFORMERS)
"""Every encoder of segmentation-models-pytorch 0.6 by its name there."""


def _row(decoder: str, words: str, backbones: tuple[str, ...], source: str) -> Model:
    return Model(
        name=f"smp-{decoder}",
        task="semantic",
        help=f"{words}, with the encoders of segmentation-models-pytorch and timm",
        zoo="fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py",
        backbones=backbones,
        optimizer="adam",
        lr=1e-3,
        source=source,
        any_timm=True,
    )


SMP_MODELS = (
    _row("unet", "U-Net", SMP_ENCODERS, "004: U-Net EfficientNet-b0 0.4757, b4 0.5022"),
    _row("unetplusplus", "U-Net++", _CNNS, "004: U-Net++ R50 val 0.3322"),
    _row("manet", "MA-Net", SMP_ENCODERS, "002: decoder search"),
    _row("linknet", "LinkNet", _CNNS, "002: decoder search"),
    _row("fpn", "feature pyramid", SMP_ENCODERS, "002: EfficientNet + FPN joined the ensemble"),
    _row("pspnet", "PSPNet", SMP_ENCODERS, "002: decoder search"),
    _row("pan", "pyramid attention", _DILATABLE, "002: decoder search"),
    _row("deeplabv3", "DeepLabV3", _DILATABLE, "004: DeepLabV3 R50 LB 0.5781"),
    _row("deeplabv3plus", "DeepLabV3+", _DILATABLE, "004: DeepLabV3+ R50 LB 0.5628-0.5817, ResNeXt-50 LB 0.5881"),
    _row("upernet", "UPerNet", SMP_ENCODERS, "002: decoder search"),
    _row("segformer", "SegFormer's head", SMP_ENCODERS, "002: decoder search"),
    _row("dpt", "dense prediction transformer", _PLAIN_VITS, "002: decoder search"),
)
