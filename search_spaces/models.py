"""The networks that a sweep can name, and the knobs of the network as a whole.

A model is a short name of `MODELS`, or the file name of a config of the MMDetection or MMSegmentation zoo. This room
imports no training framework: whether such a config exists is found out by `trainables`.
"""

from search_spaces.backbones import FAMILIES, FREEZABLE
from search_spaces.instance_models import INSTANCE_MODELS
from search_spaces.knob import Knob
from search_spaces.model import Model, is_timm_encoder
from search_spaces.parameters import Choice, Float, Int
from search_spaces.semantic_models import AS_WIDE_AS_THE_BACKBONE, SEMANTIC_MODELS, SMP

__all__ = [
    "BACKBONE",
    "FROZEN_STAGES",
    "HEAD_WIDTH",
    "INIT",
    "MODEL",
    "MODELS",
    "MODEL_KNOBS",
    "WIDTH",
    "is_checkpoint_file",
    "is_sweep_reference",
    "is_zoo_config",
]


MODELS: dict[str, Model] = {model.name: model for model in (*INSTANCE_MODELS, *SEMANTIC_MODELS)}


def is_zoo_config(name: str) -> bool:
    """Says whether `name` is meant as a zoo config: `x.py`, or a stem such as `solo_r50_fpn_1x_coco`.

    Short names hold no underscore; the zoos' stems hold both an underscore and a digit.
    """
    return name.endswith(".py") or ("_" in name and any(letter.isdigit() for letter in name))


def is_checkpoint_file(name: str) -> bool:
    """Says whether `name` is meant as a file of weights."""
    return name.endswith((".pth", ".pt", ".safetensors"))


def is_sweep_reference(name: str) -> bool:
    """Says whether `name` means the best trial of another sweep: `sweep:NAME`."""
    return name.startswith("sweep:") and len(name) > len("sweep:")


MODEL = Knob(
    name="model",
    domain=Choice(tuple(MODELS)),
    field="model.name",
    help="the network, by short name or zoo config file",
    source="000: models tried; 001: model search; 004: DeepLabV3+",
    also=is_zoo_config,
    also_text="a zoo config's file name (.py)",
)
BACKBONE = Knob(
    name="backbone",
    domain=Choice(tuple(dict.fromkeys(name for model in MODELS.values() for name in model.backbones))),
    field="model.backbone",
    help="encoder, by short name (`segsweep spaces models` lists those of each model)",
    source="000: deeper models; 000: backbones; 001: best backbone; 003: R101-FPN then X101-FPN; 004: encoders",
    models=tuple(name for name, model in MODELS.items() if model.backbones),
    zoo=False,
    values_by_model={model.name: tuple(model.backbones) for model in MODELS.values()},
    also=is_timm_encoder,
    also_text="any encoder of timm as tu-NAME (for smp- models)",
)
INIT = Knob(
    name="init",
    domain=Choice(
        ("none", "imagenet", "resnet-strikes-back", "noisy-student", "coco", "ade20k", "pascal-context", "cityscapes")
    ),
    field="model.init",
    help="initial weights: none, a published encoder, a whole model of another data set, a file, another sweep's best",
    source="000: ResNet Strikes Back; 001: pretrained-weight search (Pascal-Context best); 004: noisy-student",
    default="none",
    also=lambda name: is_checkpoint_file(name) or is_sweep_reference(name),
    also_text="a local checkpoint (.pth), or sweep:NAME",
)
WIDTH = Knob(
    name="width",
    domain=Float(0.05, 2.0),
    field="model.width",
    help="factor on the backbone's channel counts; 1 = stock",
    source="002: running time measured for each architecture",
    default=1.0,
    models=tuple(name for name in MODELS if name not in SMP),
    zoo=False,
)
HEAD_WIDTH = Knob(
    name="head_width",
    domain=Float(0.05, 2.0),
    field="model.head_width",
    help="factor on the channel counts of neck and heads; 1 = stock",
    source="002: running time measured for each architecture",
    default=1.0,
    models=tuple(name for name in MODELS if name not in AS_WIDE_AS_THE_BACKBONE),
    zoo=False,
)
FROZEN_STAGES = Knob(
    name="frozen_stages",
    domain=Int(-1, 4),
    field="model.frozen_stages",
    help="backbone stages that do not learn; -1 = all learn (not for EfficientNet, HRNet, MiT, ViT, BEiT)",
    source="MMDetection: ResNet frozen_stages",
    default=-1,
    unfit={"backbone": tuple(name for family in FAMILIES.values() for name in family if name not in FREEZABLE)},
    paths={
        "detectors": ("model.backbone.frozen_stages", "model.neck.rfp_backbone.frozen_stages"),
        "*": ("+model.backbone.frozen_stages",),
    },
    models=tuple(model.name for model in MODELS.values() if model.backbones[:1] and model.backbones[0] in FREEZABLE),
)

MODEL_KNOBS = (MODEL, BACKBONE, INIT, WIDTH, HEAD_WIDTH, FROZEN_STAGES)
