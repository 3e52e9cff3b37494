"""The encoders that a model can stand on, and the knob that names one. Imports only the knob and model rows' types."""

from search_spaces.knob import Knob
from search_spaces.parameters import Choice

__all__ = ["BACKBONE", "BACKBONES_BY_MODEL", "MIX_TRANSFORMERS", "RESNETS"]

RESNETS = ("r18", "r50", "r101", "x50-32x4d", "x101-32x4d", "x101-64x4d")
MIX_TRANSFORMERS = ("mit-b0", "mit-b1", "mit-b2", "mit-b3", "mit-b4", "mit-b5")

BACKBONES_BY_MODEL: dict[str, tuple[str, ...]] = {
    "mask-rcnn": RESNETS,
    "cascade-mask-rcnn": RESNETS,
    "ms-rcnn": RESNETS,
    "segformer": MIX_TRANSFORMERS,
    "deeplabv3plus": RESNETS,
}

BACKBONE = Knob(
    name="backbone",
    domain=Choice((*RESNETS, *MIX_TRANSFORMERS)),
    field="model.backbone",
    help="encoder: ResNet (r), ResNeXt (x) or Mix Transformer (mit)",
    source="000: deeper models; 000: backbones; 003: R101-FPN then X101-FPN",
    zoo=False,
    values_by_model={model: tuple(names) for model, names in BACKBONES_BY_MODEL.items()},
)
