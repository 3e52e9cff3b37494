"""The knobs of the optimizer."""

from search_spaces.knob import Knob
from search_spaces.models import MODELS
from search_spaces.parameters import Choice, Float, Int

__all__ = ["LR", "MOMENTUM", "OPTIMIZER", "OPTIMIZER_KNOBS", "WEIGHT_DECAY"]

OPTIMIZER = Knob(
    name="optimizer",
    domain=Choice(("sgd", "adam", "adamw", "adadelta", "adamp", "radam")),
    field="optimization.optimizer",
    help="rule that turns gradients into steps",
    source="000: optimizer SGD -> Adadelta; 004: optimizers Adam, AdamP",
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
        "optimizer": {"sgd": 0.02, "adam": 1e-4, "adamw": 1e-4, "adadelta": 1.0, "adamp": 1e-4, "radam": 1e-4},
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
    default_by={"optimizer": {"sgd": 1e-4, "adam": 0.0, "adamw": 0.01, "adadelta": 0.0, "adamp": 0.01, "radam": 0.0}},
    paths={"*": ("optim_wrapper.optimizer.weight_decay",)},
)
BACKBONE_LR_FACTOR = Knob(
    name="backbone_lr_factor",
    domain=Float(1e-4, 10.0, log=True),
    field="optimization.backbone_lr_factor",
    help="factor on the encoder's learning rate; necks, decoders and heads keep `lr`",
    source="001: backbone LR 4e-6, decoder LR 4e-5 against one LR 6e-5",
    default=1.0,
    paths={"*": ("optim_wrapper.paramwise_cfg.backbone_lr_factor",)},
)
LAYER_DECAY = Knob(
    name="layer_decay",
    domain=Float(0.1, 1.0),
    field="optimization.layer_decay",
    help="factor on the learning rate from each stage (or transformer layer) of the encoder to the one before it",
    source="BEiT (arXiv 2106.08254), ConvNeXt: layer-wise learning rates; 001: backbone LR against one LR",
    default=1.0,
    paths={"*": ("optim_wrapper.paramwise_cfg.layer_decay",)},
)
NORM_DECAY = Knob(
    name="norm_decay",
    domain=Choice((True, False)),
    field="optimization.norm_decay",
    help="whether weight decay pulls at normalisation layers too",
    source="SegFormer, Swin: no decay on norms",
    default=True,
    paths={"*": ("optim_wrapper.paramwise_cfg.norm_decay",)},
)
GRADIENT_CLIP = Knob(
    name="gradient_clip",
    domain=Float(1e-3, 1e6, log=True),
    field="optimization.gradient_clip",
    help="largest norm of all gradients together; a longer gradient is shortened to it",
    source="MMDetection: clip_grad of DETR, SOLOv2 and YOLACT",
    default=35.0,
    paths={"*": ("optim_wrapper.clip_grad.max_norm",)},
)
ACCUMULATE = Knob(
    name="accumulate",
    domain=Int(1, 1024),
    field="optimization.accumulate",
    help="batches whose gradients are averaged before a step; SGD's stock learning rate grows with it",
    source="003: batch 1 for want of memory; 004: batch 16-24",
    default=1,
    paths={"*": ("+optim_wrapper.accumulative_counts",)},
)
EMA = Knob(
    name="ema",
    domain=Float(0.0, 0.5),
    field="optimization.ema",
    help="share of the newest weights in a moving average that is validated and kept; 0 = no average",
    source="RTMDet: EMA with momentum 0.0002",
    default=0.0,
)
PRECISION = Knob(
    name="precision",
    domain=Choice(("fp32", "fp16", "bf16")),
    field="optimization.precision",
    help="number format of the forward pass; fp16 needs a GPU; bf16 is for encoder and neck, heads stay in fp32",
    source="004: CUDA out of memory cost them a day",
    default="fp32",
)

OPTIMIZER_KNOBS = (
    OPTIMIZER,
    LR,
    MOMENTUM,
    WEIGHT_DECAY,
    BACKBONE_LR_FACTOR,
    LAYER_DECAY,
    NORM_DECAY,
    GRADIENT_CLIP,
    ACCUMULATE,
    EMA,
    PRECISION,
)
