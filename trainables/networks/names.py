"""The names under which our own parts stand in a config. Imports nothing, so that reading a config stays cheap."""

from typing import Any

__all__ = ["MODEL_PARTS", "OWN_TYPES", "TRAINING_PARTS", "custom_imports", "uses_own_parts"]

MODULES = ("trainables.segsweep_modules",)  # whose import registers all of them

# Without these a model can't be built.
OWN_TYPES = MODEL_PARTS = (
    "AnySizeBEiT",
    "BEiTAdapter",
    "BiFPN",
    "FCNSkipHead",
    "LovaszSoftmaxLoss",
    "PyramidDenseNet",
    "ScaledEfficientNet",
    "ScaledVGG",
    "SegNet",
    "SmpEncoder",
    "SmpHead",
    "SmpSegmentor",
    "SoftDiceLoss",
    "SoftIoULoss",
    "SoftmaxCrossEntropyLoss",
    "SoftmaxFocalLoss",
)

# Without these it can't be trained as it was, but it predicts.
TRAINING_PARTS = (
    "AdamP",
    "Augment",
    "Bfloat16OptimWrapper",
    "EncoderRatesConstructor",
    "LayerMasks",
    "MixImages",
    "OneCycleShareLR",
    "PolyShareLR",
    "StepSampler",
    "UnlayerMasks",
)


def custom_imports(config: dict[str, Any]) -> dict[str, Any]:
    """Returns what a trial's config says so that stock tools know our parts in it: nothing if it has none.

    A model of stock parts stays usable where Segsweep is not installed, even if it was trained with parts of ours.
    """
    if uses_own_parts(config["model"], MODEL_PARTS):
        return {"custom_imports": {"imports": list(MODULES), "allow_failed_imports": False}}
    if uses_own_parts(config, TRAINING_PARTS):
        return {"custom_imports": {"imports": list(MODULES), "allow_failed_imports": True}}
    return {}


def uses_own_parts(part: Any, names: tuple[str, ...] = MODEL_PARTS) -> bool:
    """Tells whether a nested config names one of `names` as a type or a constructor, with a registry's scope
    (`mmseg.BiFPN`) or without.
    """
    if isinstance(part, dict):
        written = (part.get("type"), part.get("constructor"))
        if any(isinstance(name, str) and name.rpartition(".")[2] in names for name in written):
            return True
        part = tuple(part.values())
    return isinstance(part, list | tuple) and any(uses_own_parts(value, names) for value in part)
