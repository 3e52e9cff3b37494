"""The networks that a sweep can name, and the knobs of the network as a whole.

A model is a short name of `MODELS`, or the file name of a config of the MMDetection or MMSegmentation zoo. This room
imports no training framework: whether such a config exists is found out by `trainables`.
"""

from search_spaces.instance_models import INSTANCE_MODELS
from search_spaces.knob import Knob
from search_spaces.model import Model
from search_spaces.parameters import Choice, Float, Int
from search_spaces.semantic_models import SEMANTIC_MODELS

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
    return name.endswith((".pth", ".pt"))


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
    zoo=False,
    values_by_model={model.name: tuple(model.backbones) for model in MODELS.values()},
)
INIT = Knob(
    name="init",
    domain=Choice(("none", "imagenet")),
    field="model.init",
    help="initial weights: none, an ImageNet backbone, or a local checkpoint",
    source="001: pretrained-weight search",
    default="none",
    also=is_checkpoint_file,
    also_text="a local checkpoint (.pth)",
)
WIDTH = Knob(
    name="width",
    domain=Float(0.05, 2.0),
    field="model.width",
    help="factor on the backbone's channel counts; 1 = stock",
    source="002: running time measured for each architecture",
    default=1.0,
    zoo=False,
)
HEAD_WIDTH = Knob(
    name="head_width",
    domain=Float(0.05, 2.0),
    field="model.head_width",
    help="factor on the channel counts of neck and heads; 1 = stock",
    source="002: running time measured for each architecture",
    default=1.0,
    zoo=False,
)
FROZEN_STAGES = Knob(
    name="frozen_stages",
    domain=Int(-1, 4),
    field="model.frozen_stages",
    help="backbone stages that do not learn; -1 = all learn",
    source="MMDetection: ResNet frozen_stages",
    default=-1,
    paths={"instance": ("model.backbone.frozen_stages",), "deeplabv3plus": ("+model.backbone.frozen_stages",)},
    models=("mask-rcnn", "cascade-mask-rcnn", "ms-rcnn", "deeplabv3plus"),
)

MODEL_KNOBS = (MODEL, BACKBONE, INIT, WIDTH, HEAD_WIDTH, FROZEN_STAGES)
