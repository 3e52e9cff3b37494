"""Whole models that the zoos have published, by our names: model -> encoder -> data set -> config of the zoo.

Only those whose network is ours, tensor by tensor (heads of classes aside), and that know pixels as ours do: weights in
the style of Caffe (blue first, the stride in another convolution) are left out. HTC's and SCNet's files also hold the
semantic branch, which ours does without. Imports nothing.
"""

__all__ = ["WHOLE_MODELS"]

Rows = dict[str, dict[str, str]]


def coco(**stems: str) -> Rows:
    """Returns rows of COCO alone; an encoder's `-` is written `_` here."""
    return {backbone.replace("_", "-"): {"coco": stem} for backbone, stem in stems.items()}


def dilated(name: str, pascal: dict[str, str]) -> Rows:
    """Returns the rows of a model on dilated ResNets, which the zoo trained alike."""
    rows = {
        backbone: {
            "ade20k": f"{name}_{backbone}-d8_4xb4-160k_ade20k-512x512",
            "cityscapes": f"{name}_{backbone}-d8_4xb2-80k_cityscapes-512x1024",
        }
        for backbone in ("r50", "r101")
    }
    for backbone, stem in pascal.items():
        rows[backbone]["pascal-context"] = f"{name}_{backbone}-d8_4xb4-{stem}"
    return rows | {"r18": {"cityscapes": f"{name}_r18-d8_4xb2-80k_cityscapes-512x1024"}}


INSTANCE: dict[str, Rows] = {
    "mask-rcnn": coco(
        r50="mask-rcnn_r50_fpn_ms-poly-3x_coco",
        r101="mask-rcnn_r101_fpn_ms-poly-3x_coco",
        x101_32x4d="mask-rcnn_x101-32x4d_fpn_ms-poly-3x_coco",
        x101_64x4d="mask-rcnn_x101-64x4d_fpn_ms-poly_3x_coco",
        swin_t="mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco",
        swin_s="mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco",
    ),
    "cascade-mask-rcnn": coco(
        r50="cascade-mask-rcnn_r50_fpn_ms-3x_coco",
        r101="cascade-mask-rcnn_r101_fpn_ms-3x_coco",
        x101_32x4d="cascade-mask-rcnn_x101-32x4d_fpn_ms-3x_coco",
        x101_64x4d="cascade-mask-rcnn_x101-64x4d_fpn_ms-3x_coco",
    ),
    "ms-rcnn": coco(
        x101_32x4d="ms-rcnn_x101-32x4d_fpn_1x_coco",
        x101_64x4d="ms-rcnn_x101-64x4d_fpn_2x_coco",
    ),
    "htc": coco(
        r50="htc_r50_fpn_20e_coco",
        r101="htc_r101_fpn_20e_coco",
        x101_32x4d="htc_x101-32x4d_fpn_16xb1-20e_coco",
        x101_64x4d="htc_x101-64x4d_fpn_16xb1-20e_coco",
    ),
    "scnet": coco(
        r50="scnet_r50_fpn_20e_coco",
        r101="scnet_r101_fpn_20e_coco",
        x101_64x4d="scnet_x101-64x4d_fpn_20e_coco",
    ),
    "detectors": coco(r50="detectors_htc-r50_1x_coco"),
    "yolact": coco(r50="yolact_r50_8xb8-55e_coco", r101="yolact_r101_1xb8-55e_coco"),
    "solo": coco(r50="solo_r50_fpn_3x_coco"),
    "solov2": coco(r50="solov2_r50_fpn_ms-3x_coco"),
    "queryinst": coco(r50="queryinst_r50_fpn_ms-480-800-3x_coco", r101="queryinst_r101_fpn_ms-480-800-3x_coco"),
    "mask2former": coco(
        r50="mask2former_r50_8xb2-lsj-50e_coco",
        r101="mask2former_r101_8xb2-lsj-50e_coco",
        swin_t="mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco",
        swin_s="mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco",
    ),
    "rtmdet-ins": coco(
        cspnext_tiny="rtmdet-ins_tiny_8xb32-300e_coco",
        cspnext_s="rtmdet-ins_s_8xb32-300e_coco",
        cspnext_m="rtmdet-ins_m_8xb32-300e_coco",
        cspnext_l="rtmdet-ins_l_8xb32-300e_coco",
        cspnext_x="rtmdet-ins_x_8xb16-300e_coco",
    ),
    "condinst": coco(r50="condinst_r50_fpn_ms-poly-90k_coco_instance"),
}

SEMANTIC: dict[str, Rows] = {
    "fcn": dilated("fcn", {"r101": "80k_pascal-context-59-480x480"}),
    "pspnet": dilated("pspnet", {"r101": "80k_pascal-context-59-480x480"}),
    "deeplabv3": dilated("deeplabv3", {"r101": "80k_pascal-context-59-480x480"}),
    "deeplabv3plus": dilated(
        "deeplabv3plus", {"r50": "80k_pascal-context-480x480", "r101": "80k_pascal-context-59-480x480"}
    ),
    "hrnet": {
        "hr18": {
            "ade20k": "fcn_hr18_4xb4-160k_ade20k-512x512",
            "cityscapes": "fcn_hr18_4xb2-160k_cityscapes-512x1024",
        },
        "hr48": {
            "ade20k": "fcn_hr48_4xb4-160k_ade20k-512x512",
            "cityscapes": "fcn_hr48_4xb2-160k_cityscapes-512x1024",
            "pascal-context": "fcn_hr48_4xb4-80k_pascal-context-59-480x480",
        },
    },
    "ocrnet": {
        "hr18": {"ade20k": "ocrnet_hr18_4xb4-80k_ade20k-512x512"},
        "hr48": {"ade20k": "ocrnet_hr48_4xb4-160k_ade20k-512x512"},
    },
    "upernet": {
        "r50": {
            "ade20k": "upernet_r50_4xb4-160k_ade20k-512x512",
            "cityscapes": "upernet_r50_4xb2-80k_cityscapes-512x1024",
        },
        "r101": {
            "ade20k": "upernet_r101_4xb4-160k_ade20k-512x512",
            "cityscapes": "upernet_r101_4xb2-80k_cityscapes-512x1024",
        },
    },
    "semantic-fpn": {
        "r50": {"ade20k": "fpn_r50_4xb4-160k_ade20k-512x512", "cityscapes": "fpn_r50_4xb2-80k_cityscapes-512x1024"},
        "r101": {"cityscapes": "fpn_r101_4xb2-80k_cityscapes-512x1024"},
    },
    "mask2former-semantic": {
        backbone: {
            "ade20k": f"mask2former_{backbone}_8xb2-160k_ade20k-512x512",
            "cityscapes": f"mask2former_{backbone}_8xb2-90k_cityscapes-512x1024",
        }
        for backbone in ("r50", "r101", "swin-t", "swin-s")
    },
    "segformer": {
        backbone: {"ade20k": f"segformer_{backbone}_8xb2-160k_ade20k-512x512"}
        for backbone in ("mit-b0", "mit-b1", "mit-b2", "mit-b3", "mit-b4")
    },
    "segmenter": {
        "vit-t": {"ade20k": "segmenter_vit-t_mask_8xb1-160k_ade20k-512x512"},
        "vit-s": {"ade20k": "segmenter_vit-s_mask_8xb1-160k_ade20k-512x512"},
        "vit-b": {"ade20k": "segmenter_vit-b_mask_8xb1-160k_ade20k-512x512"},
        "vit-l": {"ade20k": "segmenter_vit-l_mask_8xb1-160k_ade20k-512x512"},
    },
}

WHOLE_MODELS: dict[str, dict[str, dict[str, str]]] = INSTANCE | SEMANTIC
