"""The encoders that models stand on, by family. How each is configured is known by `trainables.encoders`."""

__all__ = [
    "BEITS",
    "BEIT_ADAPTERS",
    "CONVNEXTS",
    "CSPNEXTS",
    "DENSENETS",
    "DETECTORS_RESNETS",
    "EFFICIENTNETS",
    "FAMILIES",
    "FREEZABLE",
    "HRNETS",
    "MIX_TRANSFORMERS",
    "PYRAMIDS",
    "RESNETS",
    "RESNEXTS",
    "SE_RESNEXTS",
    "SWINS",
    "VGGS",
    "VITS",
]

RESNETS = ("r50", "r18", "r34", "r101")
RESNEXTS = ("x50-32x4d", "x101-32x4d", "x101-64x4d", "x101-32x8d")
SE_RESNEXTS = ("se-x50-32x4d", "se-x101-32x4d")
EFFICIENTNETS = tuple(f"efficientnet-b{size}" for size in range(8))
DENSENETS = ("densenet121", "densenet169", "densenet201", "densenet161")
VGGS = ("vgg16",)
CONVNEXTS = ("convnext-t", "convnext-s", "convnext-b", "convnext-l")
SWINS = ("swin-t", "swin-s", "swin-b", "swin-l")
HRNETS = ("hr18", "hr32", "hr48")
MIX_TRANSFORMERS = ("mit-b0", "mit-b1", "mit-b2", "mit-b3", "mit-b4", "mit-b5")
BEITS = ("beit-b", "beit-l")
BEIT_ADAPTERS = ("beit-adapter-b", "beit-adapter-l")
VITS = ("vit-t", "vit-s", "vit-b", "vit-l")
DETECTORS_RESNETS = ("r50", "r101")
CSPNEXTS = ("cspnext-tiny", "cspnext-s", "cspnext-m", "cspnext-l", "cspnext-x")

PYRAMIDS = (
    *RESNETS,
    *RESNEXTS,
    *SE_RESNEXTS,
    *EFFICIENTNETS,
    *DENSENETS,
    *VGGS,
    *CONVNEXTS,
    *SWINS,
    *HRNETS,
    *MIX_TRANSFORMERS,
)
"""Those whose four stages have strides 4, 8, 16 and 32: what a feature pyramid can stand on."""

FREEZABLE = (
    *RESNETS,
    *RESNEXTS,
    *SE_RESNEXTS,
    *DENSENETS,
    *VGGS,
    *CONVNEXTS,
    *SWINS,
    *CSPNEXTS,
)
"""Those whose first stages can be kept as they are; the classes of the others have no such argument."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "ResNet": RESNETS,
    "ResNeXt": RESNEXTS,
    "SE-ResNeXt": SE_RESNEXTS,
    "EfficientNet": EFFICIENTNETS,
    "DenseNet": DENSENETS,
    "VGG": VGGS,
    "ConvNeXt": CONVNEXTS,
    "Swin": SWINS,
    "HRNet": HRNETS,
    "Mix Transformer": MIX_TRANSFORMERS,
    "BEiT": BEITS,
    "BEiT with ViT-Adapter": BEIT_ADAPTERS,
    "ViT": VITS,
    "CSPNeXt": CSPNEXTS,
}
"""Family as a table heads it -> its encoders; segmentation-models-pytorch's own names are listed by their models."""
