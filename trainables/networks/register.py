"""The one place where our networks and losses enter MMSegmentation's registry."""

from mmdet.registry import MODELS as DETECTION_MODELS
from mmseg.registry import MODELS

__all__ = ["register"]


def register() -> None:
    """Registers our networks and losses; a second call changes nothing."""
    # Imported here, since segmentation-models-pytorch and timm take seconds.
    from trainables.losses import register_losses
    from trainables.networks.beit import AnySizeBEiT
    from trainables.networks.bifpn import BiFPN
    from trainables.networks.fcn_skip_head import FCNSkipHead
    from trainables.networks.objectless_heads import ObjectlessDIIHead, ObjectlessPointRendRoIHead
    from trainables.networks.pyramid_densenet import PyramidDenseNet
    from trainables.networks.scaled_encoders import ScaledEfficientNet, ScaledVGG
    from trainables.networks.segnet import SegNet
    from trainables.networks.smp_model import SmpEncoder, SmpHead, SmpSegmentor
    from trainables.networks.vit_adapter import BEiTAdapter

    for part in (
        AnySizeBEiT,
        BEiTAdapter,
        BiFPN,
        FCNSkipHead,
        PyramidDenseNet,
        ScaledEfficientNet,
        ScaledVGG,
        SegNet,
        SmpEncoder,
        SmpHead,
        SmpSegmentor,
    ):
        MODELS.register_module(module=part, force=True)
    for head in (ObjectlessDIIHead, ObjectlessPointRendRoIHead):
        DETECTION_MODELS.register_module(module=head, force=True)
    register_losses()
