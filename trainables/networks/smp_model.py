"""segmentation-models-pytorch's networks as one MMSegmentation segmentor: encoder as backbone, decoder as decode head.

So losses, sampler, learning rates by part, whole and sliding prediction work as with every model. Imports torch, mmseg
and our builder of whole networks. Shapes: N images, C channels, H x W pixels; K classes.
"""

from typing import Any

from mmengine.model import BaseModule
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor
from torch.nn import functional

from trainables.networks.smp_decoders import DECODERS
from trainables.networks.smp_network import build_network

__all__ = ["SmpEncoder", "SmpFeatures", "SmpHead", "SmpSegmentor"]


# What the encoder hands to the decoder: its arguments (the pyramid of maps; from a plain vision transformer its prefix
# tokens as well), and height and width of the images before they were padded.
SmpFeatures = tuple[tuple[Any, ...], int, int]


class SmpEncoder(BaseModule):
    """An encoder of segmentation-models-pytorch or timm (`tu-NAME`) as a backbone; SmpSegmentor builds it.

    Args:
        encoder: Its name there.
        network: The whole network that it is a part of.
        step_px: Images are padded with zeros, right and below, to multiples of this ...
        least_px: ... and to at least this.
    """

    def __init__(self, encoder: str, network: Any, step_px: int, least_px: int) -> None:
        super().__init__()
        self.name, self.step_px, self.least_px = encoder, max(step_px, network.encoder.output_stride), least_px
        self.encoder = network.encoder

    def forward(self, images_NCHW: Tensor) -> SmpFeatures:
        """Returns the features of the padded images."""
        height, width = images_NCHW.shape[-2:]
        below, right = (-max(side, self.least_px) % self.step_px for side in (height, width))
        below, right = below + max(0, self.least_px - height), right + max(0, self.least_px - width)
        features = self.encoder(functional.pad(images_NCHW, (0, right, 0, below)))
        return (features if isinstance(features, tuple) else (features,)), height, width


class SmpHead(BaseDecodeHead):
    """A decoder of segmentation-models-pytorch and its segmentation head; SmpSegmentor builds it.

    Args:
        decoder: Its name, a key of `DECODERS`.
        network: The whole network that it is a part of.
        width: Scales the decoder's channels.
        num_classes: K.
        **others: Of MMSegmentation's BaseDecodeHead. `align_corners` is true and `dropout_ratio` 0 as there.
    """

    def __init__(
        self,
        decoder: str,
        network: Any,
        num_classes: int,
        width: float = 1.0,
        align_corners: bool = True,
        dropout_ratio: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(
            in_channels=1,  # read by nothing: the decoder knows its encoder
            channels=1,
            num_classes=num_classes,
            align_corners=align_corners,
            dropout_ratio=dropout_ratio,
            init_cfg=None,  # the network has been initialised as its authors do
            **others,
        )
        self.name, self.width = decoder, width
        self.decoder = network.decoder
        self.conv_seg = network.segmentation_head

    def forward(self, inputs: SmpFeatures) -> Tensor:
        """Returns the logits `NKHW` at the images' own size."""
        arguments, height, width = inputs
        logits: Tensor = self.cls_seg(self.decoder(*arguments))
        return logits[..., :height, :width]


class SmpSegmentor(EncoderDecoder):
    """Builds a network once and shares it out, so that no channel count stands in a config.

    Args:
        backbone: `{"type": "SmpEncoder", "encoder": NAME}`.
        decode_head: `{"type": "SmpHead", "decoder": NAME, "width": 1.0, "num_classes": K, ...}`.
        **others: Of MMSegmentation's EncoderDecoder.

    Raises:
        InputError: Encoder and decoder don't go together.
    """

    def __init__(self, backbone: dict[str, Any], decode_head: dict[str, Any], **others: Any) -> None:
        row = DECODERS.get(decode_head["decoder"])
        outputs = decode_head.get("out_channels") or decode_head["num_classes"]
        network = build_network(
            decode_head["decoder"], backbone["encoder"], outputs, width=decode_head.get("width") or 1.0
        )
        assert row is not None  # build_network refuses unknown decoders
        super().__init__(
            backbone={**backbone, "network": network, "step_px": row.step_px, "least_px": row.least_px},
            decode_head={**decode_head, "network": network},
            **others,
        )
