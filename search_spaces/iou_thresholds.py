"""The knobs of detectors: which regions count as objects, which overlaps are removed, how many are kept."""

from search_spaces.instance_models import (
    BOX_CASCADES,
    INSTANCE_NAMES,
    ONE_BOX_STAGE,
    ONE_STAGE_BOXES,
    SOLOS,
    TWO_STAGE,
)
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
    default_by={"model": {"yolact": 0.5}},
    paths={
        "*": ("model.train_cfg.rpn.assigner.pos_iou_thr",),
        "yolact": ("model.train_cfg.assigner.pos_iou_thr",),
    },
    tasks=("instance",),
    models=(*TWO_STAGE, "yolact"),
)
RPN_NEGATIVE_IOU = Knob(
    name="rpn_negative_iou",
    domain=Float(0.01, 0.99),
    field="thresholds.rpn_negative_iou",
    help="an anchor below this IoU with every true box is taught as background",
    source="000: IoU thresholds 0.3-0.6 -> 0.2-0.6 (our reading: RPN assigner)",
    default=0.3,
    default_by={"model": {"yolact": 0.4}},
    paths={
        "*": ("model.train_cfg.rpn.assigner.neg_iou_thr",),
        "yolact": ("model.train_cfg.assigner.neg_iou_thr",),
    },
    tasks=("instance",),
    models=(*TWO_STAGE, "yolact"),
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
    models=ONE_BOX_STAGE,
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
    models=BOX_CASCADES,
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
    models=BOX_CASCADES,
    spread=("cascade_iou_low", "cascade_iou_high"),
)
NMS_IOU = Knob(
    name="nms_iou",
    domain=Float(0.05, 1.0),
    field="thresholds.nms_iou",
    help="of two predicted boxes of a class that overlap more than this, the less confident is removed",
    source="000: blurred and overlapping particles",
    default=0.5,
    default_by={"model": {"condinst": 0.6, "rtmdet-ins": 0.6}},
    paths={
        "*": ("model.test_cfg.rcnn.nms.iou_threshold",),
        "yolact": ("model.test_cfg.iou_thr",),
        **dict.fromkeys(("condinst", "rtmdet-ins"), ("model.test_cfg.nms.iou_threshold",)),
    },
    tasks=("instance",),
    models=(*TWO_STAGE, *ONE_STAGE_BOXES),
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
    help="most objects predicted in one image; where queries find them, as many queries",
    source="003: tiny crowded nuclei",
    default=100,
    paths={
        "queryinst": ("model.rpn_head.num_proposals", "model.test_cfg.rcnn.max_per_img"),
        "mask2former": ("model.panoptic_head.num_queries", "model.test_cfg.max_per_image"),
        **dict.fromkeys((*SOLOS, *ONE_STAGE_BOXES), ("model.test_cfg.max_per_img",)),
        "*": ("model.test_cfg.rcnn.max_per_img",),
    },
    tasks=("instance",),
    models=INSTANCE_NAMES,
)
MINIMUM_CONFIDENCE = Knob(
    name="minimum_confidence",
    domain=Float(0.0, 0.99),
    field="thresholds.minimum_confidence",
    help="predictions below this confidence are dropped",
    source="003: score threshold",
    default=0.05,
    default_by={
        "model": {"htc": 0.001, "detectors": 0.001, "scnet": 0.001, "queryinst": 0.0, "mask2former": 0.0},
    },
    paths={
        "*": ("model.test_cfg.rcnn.score_thr",),
        **dict.fromkeys(SOLOS, ("model.test_cfg.score_thr", "model.test_cfg.filter_thr")),
        **dict.fromkeys((*ONE_STAGE_BOXES, "mask2former"), ("model.test_cfg.score_thr",)),
    },
    tasks=("instance",),
    models=INSTANCE_NAMES,
)
ANCHOR_SCALE = Knob(
    name="anchor_scale",
    domain=Float(0.5, 64.0),
    field="thresholds.anchor_scale",
    help="side of an anchor, in strides of its pyramid level",
    source="003: tiny crowded nuclei",
    default=8.0,
    default_by={"model": {"yolact": 3.0}},
    paths={
        "*": ("model.rpn_head.anchor_generator.scales[0]",),
        "yolact": ("model.bbox_head.anchor_generator.octave_base_scale",),
    },
    tasks=("instance",),
    models=(*TWO_STAGE, "yolact"),
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
