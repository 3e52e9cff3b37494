"""The knobs of the optimizer."""

from search_spaces.knob import Knob
from search_spaces.models import MODELS
from search_spaces.parameters import Choice, Float

__all__ = ["LR", "MOMENTUM", "OPTIMIZER", "OPTIMIZER_KNOBS", "WEIGHT_DECAY"]

OPTIMIZER = Knob(
    name="optimizer",
    domain=Choice(("sgd", "adam", "adamw", "adadelta")),
    field="optimization.optimizer",
    help="rule that turns gradients into steps",
    source="000: optimizer SGD -> Adadelta; 004: optimizers",
    default_by={
        "model": {model.name: model.optimizer for model in MODELS.values()},
    },
)
LR = Knob(
    name="lr",
    domain=Float(1e-8, 10.0, log=True),
    field="optimization.lr",
    help="learning rate after warm-up",
    source="003: base LR; 001: backbone LR against one LR; 004: LR schedules",
    default_by={
        "optimizer": {"sgd": 0.02, "adam": 1e-4, "adamw": 1e-4, "adadelta": 1.0},
        "model": {model.name: model.lr for model in MODELS.values()},
    },
    paths={"*": ("optim_wrapper.optimizer.lr",)},
)
MOMENTUM = Knob(
    name="momentum",
    domain=Float(0.0, 0.9999),
    field="optimization.momentum",
    help="share of the last step that is kept (SGD only)",
    source="MMDetection: schedule_1x",
    default=0.9,
    paths={"*": ("optim_wrapper.optimizer.momentum",)},
    needs={"optimizer": ("sgd",)},
)
WEIGHT_DECAY = Knob(
    name="weight_decay",
    domain=Float(0.0, 1.0),
    field="optimization.weight_decay",
    help="pull of every weight toward zero",
    source="004: weight decay 1e-6",
    default=1e-4,
    default_by={"optimizer": {"sgd": 1e-4, "adam": 0.0, "adamw": 0.01, "adadelta": 0.0}},
    paths={"*": ("optim_wrapper.optimizer.weight_decay",)},
)

OPTIMIZER_KNOBS = (OPTIMIZER, LR, MOMENTUM, WEIGHT_DECAY)
