"""The knobs of two-stage detectors: which regions count as objects, which overlaps are removed, how many are kept."""

from search_spaces.instance_models import TWO_STAGE
from search_spaces.knob import Knob
from search_spaces.parameters import Float, Int

__all__ = ["IOU_THRESHOLD_KNOBS"]

_RCNN_ASSIGNER = tuple(
    f"model.train_cfg.rcnn[*].assigner.{name}" for name in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")
)

RPN_POSITIVE_IOU = Knob(
    name="rpn_positive_iou",
    domain=Float(0.01, 0.99),
    field="thresholds.rpn_positive_iou",
    help="an anchor with at least this IoU with a true box is taught as an object",
    source="000: IoU thresholds 0.3-0.6 -> 0.2-0.6 (our reading: RPN assigner)",
    default=0.7,
    paths={"*": ("model.train_cfg.rpn.assigner.pos_iou_thr",)},
    tasks=("instance",),
    models=TWO_STAGE,
)
RPN_NEGATIVE_IOU = Knob(
    name="rpn_negative_iou",
    domain=Float(0.01, 0.99),
    field="thresholds.rpn_negative_iou",
    help="an anchor below this IoU with every true box is taught as background",
    source="000: IoU thresholds 0.3-0.6 -> 0.2-0.6 (our reading: RPN assigner)",
    default=0.3,
    paths={"*": ("model.train_cfg.rpn.assigner.neg_iou_thr",)},
    tasks=("instance",),
    models=TWO_STAGE,
    at_most="rpn_positive_iou",
)
RCNN_POSITIVE_IOU = Knob(
    name="rcnn_positive_iou",
    domain=Float(0.01, 0.99),
    field="thresholds.rcnn_positive_iou",
    help="a region with at least this IoU with a true box is taught as that object, one below as background",
    source="000: IoU thresholds 0.3-0.6 -> 0.2-0.6",
    default=0.5,
    paths={"*": _RCNN_ASSIGNER},
    tasks=("instance",),
    models=("mask-rcnn", "ms-rcnn"),
)
CASCADE_IOU_LOW = Knob(
    name="cascade_iou_low",
    domain=Float(0.01, 0.99),
    field="thresholds.cascade_iou_low",
    help="IoU threshold of the first cascade stage; the stages between are spaced evenly",
    source="000: IoU thresholds 0.3-0.6 -> 0.2-0.6 (our reading: cascade stages)",
    default=0.5,
    paths={"*": _RCNN_ASSIGNER},
    tasks=("instance",),
    models=("cascade-mask-rcnn",),
    at_most="cascade_iou_high",
    spread=("cascade_iou_low", "cascade_iou_high"),
)
CASCADE_IOU_HIGH = Knob(
    name="cascade_iou_high",
    domain=Float(0.01, 0.99),
    field="thresholds.cascade_iou_high",
    help="IoU threshold of the last cascade stage",
    source="000: IoU thresholds 0.3-0.6 -> 0.2-0.6 (our reading: cascade stages)",
    default=0.7,
    paths={"*": _RCNN_ASSIGNER},
    tasks=("instance",),
    models=("cascade-mask-rcnn",),
    spread=("cascade_iou_low", "cascade_iou_high"),
)
NMS_IOU = Knob(
    name="nms_iou",
    domain=Float(0.05, 1.0),
    field="thresholds.nms_iou",
    help="of two predicted boxes of a class that overlap more than this, the less confident is removed",
    source="000: blurred and overlapping particles",
    default=0.5,
    paths={"*": ("model.test_cfg.rcnn.nms.iou_threshold",)},
    tasks=("instance",),
    models=TWO_STAGE,
)
RPN_NMS_IOU = Knob(
    name="rpn_nms_iou",
    domain=Float(0.05, 1.0),
    field="thresholds.rpn_nms_iou",
    help="of two proposed regions that overlap more than this, one is removed, in training and prediction",
    source="000: blurred and overlapping particles",
    default=0.7,
    paths={"*": ("model.train_cfg.rpn_proposal.nms.iou_threshold", "model.test_cfg.rpn.nms.iou_threshold")},
    tasks=("instance",),
    models=TWO_STAGE,
)
DETECTIONS_PER_IMAGE = Knob(
    name="detections_per_image",
    domain=Int(1, 10_000),
    field="thresholds.detections_per_image",
    help="most objects predicted in one image",
    source="003: tiny crowded nuclei",
    default=100,
    paths={"*": ("model.test_cfg.rcnn.max_per_img",)},
    tasks=("instance",),
    models=TWO_STAGE,
)
MINIMUM_CONFIDENCE = Knob(
    name="minimum_confidence",
    domain=Float(0.0, 0.99),
    field="thresholds.minimum_confidence",
    help="predictions below this confidence are dropped",
    source="003: score threshold",
    default=0.05,
    paths={"*": ("model.test_cfg.rcnn.score_thr",)},
    tasks=("instance",),
    models=TWO_STAGE,
)
ANCHOR_SCALE = Knob(
    name="anchor_scale",
    domain=Float(0.5, 64.0),
    field="thresholds.anchor_scale",
    help="side of an anchor, in strides of its pyramid level",
    source="003: tiny crowded nuclei",
    default=8.0,
    paths={"*": ("model.rpn_head.anchor_generator.scales[0]",)},
    tasks=("instance",),
    models=TWO_STAGE,
)
ROIS_PER_IMAGE = Knob(
    name="rois_per_image",
    domain=Int(1, 4096),
    field="thresholds.rois_per_image",
    help="regions of an image that one training step of the second stage sees",
    source="003: 256 RoIs an image, then a larger RoI batch",
    default=512,
    paths={"*": ("model.train_cfg.rcnn[*].sampler.num",)},
    tasks=("instance",),
    models=TWO_STAGE,
)

IOU_THRESHOLD_KNOBS = (
    RPN_POSITIVE_IOU,
    RPN_NEGATIVE_IOU,
    RCNN_POSITIVE_IOU,
    CASCADE_IOU_LOW,
    CASCADE_IOU_HIGH,
    NMS_IOU,
    RPN_NMS_IOU,
    DETECTIONS_PER_IMAGE,
    MINIMUM_CONFIDENCE,
    ANCHOR_SCALE,
    ROIS_PER_IMAGE,
)
