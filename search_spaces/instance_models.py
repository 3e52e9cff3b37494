"""The models for instance segmentation, one row each, and the groups of them that share knobs."""

from search_spaces.backbones import PYRAMIDS
from search_spaces.model import Model

__all__ = ["INSTANCE_MODELS", "TWO_STAGE"]

INSTANCE_MODELS = (
    Model(
        name="mask-rcnn",
        task="instance",
        help="two stages: regions, then class, box and mask (FPN)",
        zoo="mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.02,
        source="000: baseline Mask R-CNN R50; 003: Mask R-CNN R101-FPN then X101-FPN",
    ),
    Model(
        name="cascade-mask-rcnn",
        task="instance",
        help="three box stages with rising IoU thresholds (FPN)",
        zoo="cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.02,
        source="000: Cascade R101 0.5965, with RSB weights the winner (0.6235)",
    ),
    Model(
        name="ms-rcnn",
        task="instance",
        help="Mask R-CNN that also predicts how good its masks are (FPN)",
        zoo="ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.02,
        source="000: MS R-CNN R50 0.5752, X101-64x4d 0.6139",
    ),
)

TWO_STAGE = ("mask-rcnn", "cascade-mask-rcnn", "ms-rcnn")
