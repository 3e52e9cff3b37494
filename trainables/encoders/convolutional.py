"""The convolutional encoders: ResNet and its kin, EfficientNet, DenseNet, VGG, ConvNeXt, HRNet."""

from typing import Any

from trainables.encoders.rows import OPENMMLAB, Encoder, Weights

__all__ = ["CONVOLUTIONAL"]

Nested = dict[str, Any]

MMCLS = f"{OPENMMLAB}/mmclassification/v0"
FOUR_STAGES = (0, 1, 2, 3)


def imagenet(checkpoint: str, prefix: str = "", **others: Weights) -> dict[str, Weights]:
    return {"imagenet": Weights(checkpoint, prefix)} | {name.replace("_", "-"): found for name, found in others.items()}


# Wightman et al. 2021 (arXiv 2110.00476), published for ResNet-50 only.
STRIKES_BACK = Weights(f"{MMCLS}/resnet/resnet50_8xb256-rsb-a1-600e_in1k_20211228-20e21305.pth", "backbone.")

RESNETS = {
    "r18": Encoder(
        {"type": "ResNet", "depth": 18},
        imagenet("torchvision://resnet18"),
        imagenet("open-mmlab://resnet18_v1c"),
    ),
    "r34": Encoder({"type": "ResNet", "depth": 34}, imagenet("torchvision://resnet34")),
    "r50": Encoder(
        {"type": "ResNet", "depth": 50},
        imagenet("torchvision://resnet50", resnet_strikes_back=STRIKES_BACK),
        imagenet("open-mmlab://resnet50_v1c"),
    ),
    "r101": Encoder(
        {"type": "ResNet", "depth": 101},
        imagenet("torchvision://resnet101"),
        imagenet("open-mmlab://resnet101_v1c"),
    ),
}


def resnext(depth: int, groups: int, base_width: int, checkpoint: str) -> Encoder:
    backbone = {"type": "ResNeXt", "depth": depth, "groups": groups, "base_width": base_width}
    return Encoder(backbone, imagenet(checkpoint))


RESNEXTS = {
    "x50-32x4d": resnext(50, 32, 4, "open-mmlab://resnext50_32x4d"),
    "x101-32x4d": resnext(101, 32, 4, "open-mmlab://resnext101_32x4d"),
    "x101-64x4d": resnext(101, 64, 4, "open-mmlab://resnext101_64x4d"),
    "x101-32x8d": resnext(101, 32, 8, "torchvision://resnext101_32x8d"),
}

# OpenMMLab publishes none; those of timm's legacy SE-ResNeXt have the same parts under other names.
SE_RENAMES = (
    ("layer0.", ""),
    (".se_module.fc1.", ".se_layer.conv1.conv."),
    (".se_module.fc2.", ".se_layer.conv2.conv."),
)
CADENE = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-cadene"


def se_resnext(depth: int, file: str) -> Encoder:
    backbone = {
        "type": "mmpretrain.SEResNeXt",
        "depth": depth,
        "groups": 32,
        "width_per_group": 4,
        "out_indices": FOUR_STAGES,
    }
    return Encoder(backbone, {"imagenet": Weights(f"{CADENE}/{file}", renames=SE_RENAMES)})


SE_RESNEXTS = {
    "se-x50-32x4d": se_resnext(50, "se_resnext50_32x4d-a260b3a4.pth"),
    "se-x101-32x4d": se_resnext(101, "se_resnext101_32x4d-3b2fe3d8.pth"),
}

# size -> (ImageNet file, noisy-student file) below mmclassification's efficientnet folder.
EFFICIENTNET_FILES = {
    "b0": ("3rdparty_8xb32_in1k_20220119-a7e2a0b1", "3rdparty-ra-noisystudent_in1k_20221103-75cd08d3"),
    "b1": ("3rdparty_8xb32_in1k_20220119-002556d9", "3rdparty-ra-noisystudent_in1k_20221103-756bcbc0"),
    "b2": ("3rdparty_8xb32_in1k_20220119-ea374a30", "3rdparty-ra-noisystudent_in1k_20221103-301ed299"),
    "b3": ("3rdparty_8xb32_in1k_20220119-4b4d7487", "3rdparty-ra-noisystudent_in1k_20221103-a4ab5fd6"),
    "b4": ("3rdparty_8xb32_in1k_20220119-81fd4077", "3rdparty-ra-noisystudent_in1k_20221103-16ba8a2d"),
    "b5": ("3rdparty_8xb32_in1k_20220119-e9814430", "3rdparty-ra-noisystudent_in1k_20221103-111a185f"),
    "b6": ("3rdparty_8xb32-aa_in1k_20220119-45b03310", "3rdparty-ra-noisystudent_in1k_20221103-7de7d2cc"),
    "b7": ("3rdparty_8xb32-aa_in1k_20220119-bf03951c", "3rdparty-ra-noisystudent_in1k_20221103-a82894bc"),
}


def efficientnet(size: str) -> Encoder:
    plain, student = (
        Weights(f"{MMCLS}/efficientnet/efficientnet-{size}_{file}.pth", "backbone.")
        for file in EFFICIENTNET_FILES[size]
    )
    # Of its seven parts the third to sixth end at strides 4, 8, 16 and 32; Tan and Le 2019 (arXiv 1905.11946), table 1.
    backbone = {"type": "mmpretrain.EfficientNet", "arch": size, "out_indices": (2, 3, 4, 5)}
    return Encoder(backbone, {"imagenet": plain, "noisy-student": student})


EFFICIENTNETS = {f"efficientnet-{size}": efficientnet(size) for size in EFFICIENTNET_FILES}


def densenet(growth_rate: int, depths: tuple[int, ...], init_channels: int, file: str) -> Encoder:
    """Huang et al. 2017 (arXiv 1608.06993), table 1."""
    arch = {"growth_rate": growth_rate, "depths": list(depths), "init_channels": init_channels}
    return Encoder(
        {"type": "mmseg.PyramidDenseNet", "arch": arch}, imagenet(f"{MMCLS}/densenet/{file}.pth", "backbone.")
    )


DENSENETS = {
    "densenet121": densenet(32, (6, 12, 24, 16), 64, "densenet121_4xb256_in1k_20220426-07450f99"),
    "densenet169": densenet(32, (6, 12, 32, 32), 64, "densenet169_4xb256_in1k_20220426-a2889902"),
    "densenet201": densenet(32, (6, 12, 48, 32), 64, "densenet201_4xb256_in1k_20220426-05cae4ef"),
    "densenet161": densenet(48, (6, 12, 36, 24), 96, "densenet161_4xb256_in1k_20220426-ee6a80a9"),
}

VGGS = {
    "vgg16": Encoder(
        # With batch norm; of its five stages the first has stride 2.
        {"type": "mmpretrain.VGG", "depth": 16, "norm_cfg": {"type": "BN"}, "out_indices": (1, 2, 3, 4)},
        imagenet(f"{MMCLS}/vgg/vgg16_bn_batch256_imagenet_20210208-7e55cd29.pth", "backbone."),
    )
}


def convnext(depths: tuple[int, ...], channels: int, file: str) -> Encoder:
    """Liu et al. 2022 (arXiv 2201.03545), section 3; drop path and layer scale as in the zoos' segmentors."""
    backbone = {
        "type": "mmpretrain.ConvNeXt",
        "arch": {"depths": list(depths), "channels": [channels * 2**stage for stage in range(4)]},
        "out_indices": list(FOUR_STAGES),
        "drop_path_rate": 0.4,
        "layer_scale_init_value": 1.0,
        "gap_before_final_norm": False,
    }
    return Encoder(backbone, imagenet(f"{MMCLS}/convnext/downstream/{file}.pth", "backbone."))


CONVNEXTS = {
    "convnext-t": convnext((3, 3, 9, 3), 96, "convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634"),
    "convnext-s": convnext((3, 3, 27, 3), 96, "convnext-small_3rdparty_32xb128-noema_in1k_20220301-303e75e3"),
    "convnext-b": convnext((3, 3, 27, 3), 128, "convnext-base_3rdparty_32xb128-noema_in1k_20220301-2a0ee547"),
    "convnext-l": convnext((3, 3, 27, 3), 192, "convnext-large_3rdparty_in21k_20220301-e6e0ea0a"),
}


def hrnet(width: int) -> Encoder:
    """Wang et al. 2020 (arXiv 1908.07919), section 3.4: `width` channels at the finest resolution, doubled below."""
    channels = [width * 2**branch for branch in range(4)]

    def stage(modules: int, branches: int) -> Nested:
        return {
            "num_modules": modules,
            "num_branches": branches,
            "block": "BASIC",
            "num_blocks": (4,) * branches,
            "num_channels": tuple(channels[:branches]),
        }

    first = {"num_modules": 1, "num_branches": 1, "block": "BOTTLENECK", "num_blocks": (4,), "num_channels": (64,)}
    extra = {"stage1": first, "stage2": stage(1, 2), "stage3": stage(4, 3), "stage4": stage(3, 4)}
    return Encoder({"type": "HRNet", "extra": extra}, imagenet(f"open-mmlab://msra/hrnetv2_w{width}"))


HRNETS = {f"hr{width}": hrnet(width) for width in (18, 32, 48)}

CONVOLUTIONAL: dict[str, Encoder] = {
    **RESNETS,
    **RESNEXTS,
    **SE_RESNEXTS,
    **EFFICIENTNETS,
    **DENSENETS,
    **VGGS,
    **CONVNEXTS,
    **HRNETS,
}
