"""The models for instance segmentation, one row each, and the groups of them that share knobs."""

from search_spaces.backbones import CSPNEXTS, DETECTORS_RESNETS, PYRAMIDS
from search_spaces.model import Model

__all__ = [
    "BOX_CASCADES",
    "BOX_LOSS",
    "INSTANCE_MODELS",
    "INSTANCE_NAMES",
    "ONE_BOX_STAGE",
    "ONE_STAGE_BOXES",
    "QUERIES",
    "SOLOS",
    "TWO_STAGE",
]

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
    Model(
        name="htc",
        task="instance",
        help="cascade whose mask stages pass on what they found (Hybrid Task Cascade without its semantic branch)",
        zoo="htc/htc-without-semantic_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.02,
        source="000: models tried",
    ),
    Model(
        name="yolact",
        task="instance",
        help="one stage: masks are mixtures of prototypes of the whole image",
        zoo="yolact/yolact_r50_1xb8-55e_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.002,  # 0.001 for 8 images
        source="000: models tried",
    ),
    Model(
        name="solo",
        task="instance",
        help="no boxes: each cell of a grid predicts the mask of the object centred in it",
        zoo="solo/solo_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.01,
        source="000: models tried",
    ),
    Model(
        name="solov2",
        task="instance",
        help="SOLO whose grid cells predict filters rather than masks: lighter, finer grids",
        zoo="solov2/solov2_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.01,
        source="000: models tried",
    ),
    Model(
        name="point-rend",
        task="instance",
        help="Mask R-CNN that refines masks point by point along their borders",
        zoo="point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.02,
        source="000: models tried",
    ),
    Model(
        name="detectors",
        task="instance",
        help="HTC on a recursive pyramid with switchable atrous convolutions (DetectoRS)",
        zoo="detectors/detectors_htc-r50_1x_coco.py",
        backbones=DETECTORS_RESNETS,
        optimizer="sgd",
        lr=0.02,
        source="000: models tried",
        needs="GPU",
    ),
    Model(
        name="scnet",
        task="instance",
        help="cascade with global context and features relayed to one deep mask stage (without its semantic branch)",
        zoo="scnet/scnet_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.02,
        source="000: SCNet R50 0.5861",
    ),
    Model(
        name="queryinst",
        task="instance",
        help="learned queries instead of anchors, refined in six stages",
        zoo="queryinst/queryinst_r50_fpn_1x_coco.py",
        backbones=PYRAMIDS,
        optimizer="adamw",
        lr=1e-4,
        source="000: models tried",
    ),
    Model(
        name="mask2former",
        task="instance",
        help="transformer whose queries attend inside the masks that they predict",
        zoo="mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
        backbones=PYRAMIDS,
        optimizer="adamw",
        lr=1e-4,
        source="001: Mask2Former best model",
    ),
    Model(
        name="rtmdet-ins",
        task="instance",
        help="fast one-stage detector with a mask filter per object",
        zoo="rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py",
        backbones=CSPNEXTS,
        optimizer="adamw",
        lr=5e-4,  # 0.004 for 256 images, by the square root of the batch for 4
        source="beyond the reports: RTMDet (arXiv 2212.07784)",
    ),
    Model(
        name="condinst",
        task="instance",
        help="one stage without anchors, a mask filter per object",
        zoo="condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py",
        backbones=PYRAMIDS,
        optimizer="sgd",
        lr=0.01,
        source="beyond the reports: CondInst (arXiv 2003.05664)",
    ),
)

INSTANCE_NAMES = tuple(model.name for model in INSTANCE_MODELS)

ONE_BOX_STAGE = ("mask-rcnn", "ms-rcnn", "point-rend")
BOX_CASCADES = ("cascade-mask-rcnn", "htc", "detectors", "scnet")
TWO_STAGE = (*ONE_BOX_STAGE, *BOX_CASCADES)
"""Those that propose regions by anchors and then look at each."""

SOLOS = ("solo", "solov2")
QUERIES = ("queryinst", "mask2former")
ONE_STAGE_BOXES = ("yolact", "rtmdet-ins", "condinst")
BOX_LOSS = tuple(name for name in INSTANCE_NAMES if name not in (*SOLOS, "mask2former"))
"""Those that learn boxes."""
