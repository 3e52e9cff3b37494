"""The knobs of what is minimised, and of how much each term counts."""

from search_spaces.instance_models import BOX_LOSS, ONE_STAGE_BOXES, SOLOS
from search_spaces.knob import Knob
from search_spaces.parameters import Choice, Float
from search_spaces.semantic_models import SEMANTIC_MODELS, WITH_AUXILIARY_HEAD
from search_spaces.trial_config import Scalar

__all__ = ["LOSS_KNOBS", "STOCK_MIX"]

PIXEL_MODELS = tuple(model.name for model in SEMANTIC_MODELS if model.name != "mask2former-semantic")  # class by pixel
LAST_OF_TWO = ("ocrnet",)  # the last of two decode heads decides; the first keeps its own loss, as auxiliary heads do
STOCK_MIX: dict[Scalar, Scalar] = {
    "ce+focal": 0.2,
    "ce+dice": 0.5,
    "ce+lovasz": 0.5,
    "ce+soft-iou": 0.4,
}  # share of the second term
WITH_CE_OR_FOCAL = ("ce", "focal", *STOCK_MIX)

LOSS = Knob(
    name="loss",
    domain=Choice(("ce", "focal", "dice", "lovasz", "soft-iou", *STOCK_MIX)),
    field="loss.kind",
    help="what the decoder's pixels minimise: one term, or a mix of two; auxiliary heads keep cross entropy",
    source="002: loss (1 - IoU)*0.4 + CE*0.6, IoU alone hurts; 004: focal alone 0.2548, CE*0.8 + Focal*0.2 LB 0.5779",
    default="ce",
    tasks=("semantic",),
    models=PIXEL_MODELS,
    zoo=False,
)
LOSS_MIX = Knob(
    name="loss_mix",
    domain=Float(0.0, 1.0),
    field="loss.mix",
    help="share of the second term of a mixed loss",
    source="002: loss (1 - IoU)*0.4 + CE*0.6; 004: CE*0.8 + Focal*0.2",
    default_by={"loss": STOCK_MIX},
    tasks=("semantic",),
    models=PIXEL_MODELS,
    zoo=False,
    needs={"loss": tuple(STOCK_MIX)},
)
FOCAL_GAMMA = Knob(
    name="focal_gamma",
    domain=Float(0.0, 10.0),
    field="loss.focal_gamma",
    help="how much the focal term looks away from pixels that are right already; 0 = cross entropy",
    source="004: FocalLoss(gamma 2)",
    default=2.0,
    paths={
        "semantic": ("model.decode_head.loss_decode[type=SoftmaxFocalLoss].gamma",),
        **{name: ("model.decode_head[1].loss_decode[type=SoftmaxFocalLoss].gamma",) for name in LAST_OF_TWO},
    },
    tasks=("semantic",),
    models=PIXEL_MODELS,
    zoo=False,
    needs={"loss": ("focal", "ce+focal")},
)
CLASS_BALANCE = Knob(
    name="class_balance",
    domain=Choice(("none", "inverse", "inverse-sqrt", "median")),
    field="loss.class_balance",
    help="weights of the classes in cross entropy and focal terms, from their shares of the training pixels",
    source="002: strong imbalance (7000 objects to 50); 001: rare classes",
    default="none",
    tasks=("semantic",),
    models=PIXEL_MODELS,
    zoo=False,
    needs={"loss": WITH_CE_OR_FOCAL},
)
CLASS_WEIGHT = Knob(
    name="loss_class_weight",
    domain=Float(0.0, 100.0),
    field="loss.class_weight",
    help="factor of the classification loss (of a detector's second stage, if it has two)",
    source="002: loss weights",
    default=1.0,
    paths={
        "instance": ("model.roi_head.bbox_head[*].loss_cls.loss_weight",),
        **dict.fromkeys(ONE_STAGE_BOXES, ("model.bbox_head.loss_cls.loss_weight",)),
        **dict.fromkeys(SOLOS, ("model.mask_head.loss_cls.loss_weight",)),
        "mask2former": ("model.panoptic_head.loss_cls.loss_weight",),
    },
    default_by={"model": {"queryinst": 2.0, "mask2former": 2.0}},
    tasks=("instance",),
)
BOX_WEIGHT = Knob(
    name="loss_box_weight",
    domain=Float(0.0, 100.0),
    field="loss.box_weight",
    help="factor of the loss of boxes' borders (of a detector's second stage, if it has two)",
    source="002: loss weights",
    default=1.0,
    paths={
        "instance": ("model.roi_head.bbox_head[*].loss_bbox.loss_weight",),
        **dict.fromkeys(ONE_STAGE_BOXES, ("model.bbox_head.loss_bbox.loss_weight",)),
    },
    default_by={"model": {"queryinst": 5.0, "yolact": 1.5, "rtmdet-ins": 2.0}},
    tasks=("instance",),
    models=BOX_LOSS,
)
MASK_WEIGHT = Knob(
    name="loss_mask_weight",
    domain=Float(0.0, 100.0),
    field="loss.mask_weight",
    help="factor of the mask loss",
    source="002: loss weights",
    default=1.0,
    paths={
        "point-rend": (
            "model.roi_head.mask_head.loss_mask.loss_weight",
            "model.roi_head.point_head.loss_point.loss_weight",
        ),
        "instance": ("model.roi_head.mask_head[*].loss_mask.loss_weight",),
        "yolact": ("model.mask_head.loss_mask_weight",),
        **dict.fromkeys((*SOLOS, "condinst"), ("model.mask_head.loss_mask.loss_weight",)),
        "rtmdet-ins": ("model.bbox_head.loss_mask.loss_weight",),
        "mask2former": ("model.panoptic_head.loss_mask.loss_weight", "model.panoptic_head.loss_dice.loss_weight"),
    },
    default_by={
        "model": {"queryinst": 8.0, "yolact": 6.125, "solo": 3.0, "solov2": 3.0, "rtmdet-ins": 2.0, "mask2former": 5.0}
    },
    tasks=("instance",),
)
AUXILIARY_WEIGHT = Knob(
    name="loss_auxiliary_weight",
    domain=Float(0.0, 100.0),
    field="loss.auxiliary_weight",
    help="factor of the auxiliary head's loss, which only helps the encoder to learn",
    source="MMSegmentation: auxiliary heads",
    default=0.4,
    paths={"semantic": ("model.auxiliary_head[*].loss_decode[*].loss_weight",)},
    tasks=("semantic",),
    models=WITH_AUXILIARY_HEAD,
)

LOSS_KNOBS = (
    LOSS,
    LOSS_MIX,
    FOCAL_GAMMA,
    CLASS_BALANCE,
    CLASS_WEIGHT,
    BOX_WEIGHT,
    MASK_WEIGHT,
    AUXILIARY_WEIGHT,
)
