"""The decoders of segmentation-models-pytorch by name: what makes each wider or narrower, and what input it needs.

Literal rows; imports nothing of torch. Defaults are those of segmentation-models-pytorch.
"""

from dataclasses import dataclass

from segdata.errors import InputError

__all__ = ["DECODERS", "SmpDecoder", "decoder_arguments"]


@dataclass(frozen=True, slots=True)
class SmpDecoder:
    """One decoder.

    Attributes:
        widths: Its channel counts, as keyword arguments of `segmentation_models_pytorch.create_model`; none where the
            channels follow from the encoder.
        multiple: Scaled channels are multiples of this.
        step_px: Input sides are padded to multiples of this, and of the encoder's own stride.
        least_px: The smallest side, in pixels, at which every pooling inside still leaves a position.
        plain_vit: Takes timm's plain vision transformers, and only those.
    """

    widths: tuple[tuple[str, int | tuple[int, ...]], ...] = ()
    multiple: int = 8
    step_px: int = 1
    least_px: int = 1
    plain_vit: bool = False


PYRAMID = ("decoder_channels", (256, 128, 64, 32, 16))

DECODERS: dict[str, SmpDecoder] = {
    "unet": SmpDecoder((PYRAMID,)),
    "unetplusplus": SmpDecoder((PYRAMID,)),
    "manet": SmpDecoder((PYRAMID, ("decoder_pab_channels", 64))),
    "linknet": SmpDecoder(),
    "fpn": SmpDecoder(  # its group norms have 32 groups
        (("decoder_pyramid_channels", 256), ("decoder_segmentation_channels", 128)), multiple=32
    ),
    "pspnet": SmpDecoder((("psp_out_channels", 512),)),
    "pan": SmpDecoder((("decoder_channels", 32),), least_px=128),
    "deeplabv3": SmpDecoder((("decoder_channels", 256),)),
    "deeplabv3plus": SmpDecoder((("decoder_channels", 256),)),
    "upernet": SmpDecoder((("decoder_channels", 256),)),
    "segformer": SmpDecoder((("decoder_segmentation_channels", 256),)),
    "dpt": SmpDecoder(
        (("decoder_intermediate_channels", (256, 512, 1024, 1024)), ("decoder_fusion_channels", 256)),
        step_px=32,
        plain_vit=True,
    ),
}


def decoder_arguments(name: str, width: float = 1.0) -> dict[str, int | tuple[int, ...]]:
    """Returns the channel counts of a decoder, scaled.

    Raises:
        InputError: There is no such decoder, or its channels can't be scaled.
    """
    if name not in DECODERS:
        raise InputError.of(
            f"expected a decoder of segmentation-models-pytorch, but got {name!r}",
            where="decode_head.decoder",
            cure=f"Choose one of {', '.join(DECODERS)}.",
        )
    row = DECODERS[name]
    if width != 1.0 and not row.widths:
        raise InputError.of(
            f"expected width 1, since the encoder alone sets the channels of {name}, but got {width}",
            where="decode_head.width",
            cure="Leave the width out, or choose a smaller encoder.",
        )
    if width == 1.0:
        return dict(row.widths)
    return {
        key: tuple(scaled(part, width, row.multiple) for part in count)
        if isinstance(count, tuple)
        else scaled(count, width, row.multiple)
        for key, count in row.widths
    }


def scaled(channels: int, factor: float, multiple: int) -> int:
    """Returns `channels * factor`, a multiple of `multiple` and at least that."""
    return max(multiple, round(channels * factor / multiple) * multiple)
