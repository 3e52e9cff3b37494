"""The knobs of how much each term of the loss counts."""

from search_spaces.instance_models import TWO_STAGE
from search_spaces.knob import Knob
from search_spaces.parameters import Float

__all__ = ["LOSS_KNOBS"]


CLASS_WEIGHT = Knob(
    name="loss_class_weight",
    domain=Float(0.0, 100.0),
    field="loss.class_weight",
    help="factor of the classification loss (of a detector's second stage, of a decoder's pixels)",
    source="002: loss (1 - IoU)*0.4 + CE*0.6; 004: CE*0.8 + Focal*0.2",
    default=1.0,
    paths={
        "instance": ("model.roi_head.bbox_head[*].loss_cls.loss_weight",),
        "semantic": ("model.decode_head[*].loss_decode[*].loss_weight",),
    },
)
BOX_WEIGHT = Knob(
    name="loss_box_weight",
    domain=Float(0.0, 100.0),
    field="loss.box_weight",
    help="factor of the second stage's box loss",
    source="002: loss weights",
    default=1.0,
    paths={"instance": ("model.roi_head.bbox_head[*].loss_bbox.loss_weight",)},
    tasks=("instance",),
    models=TWO_STAGE,
)
MASK_WEIGHT = Knob(
    name="loss_mask_weight",
    domain=Float(0.0, 100.0),
    field="loss.mask_weight",
    help="factor of the mask loss",
    source="002: loss weights",
    default=1.0,
    paths={"instance": ("model.roi_head.mask_head[*].loss_mask.loss_weight",)},
    tasks=("instance",),
    models=TWO_STAGE,
)
AUXILIARY_WEIGHT = Knob(
    name="loss_auxiliary_weight",
    domain=Float(0.0, 100.0),
    field="loss.auxiliary_weight",
    help="factor of the auxiliary head's loss, which only helps the encoder to learn",
    source="MMSegmentation: deeplabv3plus auxiliary head",
    default=0.4,
    paths={"semantic": ("model.auxiliary_head[*].loss_decode[*].loss_weight",)},
    tasks=("semantic",),
    models=("deeplabv3plus",),
)

LOSS_KNOBS = (CLASS_WEIGHT, BOX_WEIGHT, MASK_WEIGHT, AUXILIARY_WEIGHT)
