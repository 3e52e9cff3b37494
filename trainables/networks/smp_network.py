"""A whole network of segmentation-models-pytorch, from which our segmentor takes its parts. Never downloads weights.

Imports segmentation-models-pytorch and timm.
"""

import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import segmentation_models_pytorch as smp
import timm

from segdata.errors import InputError
from trainables.networks.smp_decoders import DECODERS, decoder_arguments

__all__ = ["build_network", "encoder_arguments"]

# timm's families that are built for one input size unless they are told otherwise: start of the name -> how to tell.
FREE_SIZE: dict[str, dict[str, bool]] = {
    "swin": {"strict_img_size": False},
    "vit_": {"dynamic_img_size": True},
    "deit": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
}


def build_network(decoder: str, encoder: str, classes: int, width: float = 1.0) -> Any:
    """Builds a network with the parts `encoder`, `decoder` and `segmentation_head`, its weights at random.

    Raises:
        InputError: The two don't go together, or there is no such encoder.
    """
    arguments = decoder_arguments(decoder, width) | encoder_arguments(encoder)
    try:
        with warnings.catch_warnings():  # `timm-*` names are deprecated there, and weights of them exist nowhere else
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            network = smp.create_model(
                decoder, encoder_name=encoder, encoder_weights=None, classes=classes, **arguments
            )
    except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError, AssertionError) as error:
        raise refusal(decoder, encoder, str(error) or "it has layers that can't be dilated") from error
    stride = network.encoder.output_stride
    if 32 % stride:
        raise refusal(decoder, encoder, f"its patches of {stride} px do not divide 32 px")
    return network


def encoder_arguments(encoder: str) -> dict[str, Any]:
    """Returns what timm must be told so that an encoder takes any input size.

    Raises:
        InputError: There is no such encoder, or it takes one input size only.
    """
    if not encoder.startswith("tu-"):
        if encoder not in smp.encoders.get_encoder_names():
            raise unknown("segmentation-models-pytorch", encoder, smp.encoders.get_encoder_names())
        return {}
    name = encoder.removeprefix("tu-")
    if not timm.is_model(name):
        raise unknown("timm", name, timm.list_models())
    for start, arguments in FREE_SIZE.items():
        if name.startswith(start):
            return arguments
    settings = timm.get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:
        raise InputError.of(
            f"expected an encoder that takes any input size, but {name} takes {settings.input_size[1:]} only",
            where="space.backbone",
            cure="Choose a convolutional encoder, or one of timm's swin or (for smp-dpt) vit families.",
        )
    return {}


def unknown(library: str, name: str, known: Sequence[str]) -> InputError:
    """The error for a name that a library does not have; says the nearest that it has."""
    near = get_close_matches(name, known, 3)
    return InputError.of(
        f"expected an encoder that {library} has, but got {name!r}",
        where="space.backbone",
        cure=f"Did you mean {' or '.join(near)}?" if near else "`segsweep spaces models` lists them.",
    )


def refusal(decoder: str, encoder: str, reason: str) -> InputError:
    """The error for a pair that segmentation-models-pytorch can't build; says which kinds fit."""
    kinds = "a plain vision transformer (tu-vit_...)" if DECODERS[decoder].plain_vit else "a pyramid of feature maps"
    return InputError.of(
        f"expected an encoder that fits smp-{decoder} ({kinds}), but got {encoder}: {reason}",
        where="space.backbone",
        cure="`segsweep spaces models` lists the encoders of each decoder.",
    )
