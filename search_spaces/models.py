"""The networks that a sweep can name, and the knobs of the network as a whole.

A model is a short name of `MODELS`, or the file name of a config of the MMDetection or MMSegmentation zoo. This room
imports no training framework: whether such a config exists is found out by `trainables`.
"""

from dataclasses import dataclass

from search_spaces.backbones import BACKBONES_BY_MODEL
from search_spaces.knob import Knob, Task
from search_spaces.parameters import Choice, Float, Int

__all__ = [
    "FROZEN_STAGES",
    "HEAD_WIDTH",
    "INIT",
    "MODEL",
    "MODELS",
    "MODEL_KNOBS",
    "WIDTH",
    "Model",
    "is_checkpoint_file",
    "is_zoo_config",
]


@dataclass(frozen=True, slots=True)
class Model:
    """One network by its short name."""

    name: str
    task: Task
    help: str

    @property
    def backbones(self) -> tuple[str, ...]:
        """The encoders that it can stand on; the zoo's config for it uses one of them."""
        return BACKBONES_BY_MODEL[self.name]


MODELS: dict[str, Model] = {
    "mask-rcnn": Model("mask-rcnn", "instance", "two stages: regions, then class, box and mask (FPN)"),
    "cascade-mask-rcnn": Model("cascade-mask-rcnn", "instance", "three box stages with rising IoU thresholds (FPN)"),
    "ms-rcnn": Model("ms-rcnn", "instance", "Mask R-CNN that also predicts how good its masks are (FPN)"),
    "segformer": Model("segformer", "semantic", "Mix Transformer encoder with a light all-MLP head"),
    "deeplabv3plus": Model("deeplabv3plus", "semantic", "dilated encoder, pyramid of dilated convolutions, decoder"),
}


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

MODEL_KNOBS = (MODEL, INIT, WIDTH, HEAD_WIDTH, FROZEN_STAGES)
