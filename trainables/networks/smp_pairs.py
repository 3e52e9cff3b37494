"""Refuses, before any training, an encoder of timm that a decoder of segmentation-models-pytorch can't read.

Which of the library's own encoders fit is written down in `search_spaces.smp_models`; timm's are too many for that, so
the network is built without memory (torch's meta device). Imports nothing heavy until there is such a pair.
"""

from functools import cache
from typing import Any

from segdata.errors import InputError

__all__ = ["check_pair"]


def check_pair(model: dict[str, Any]) -> None:
    """Checks encoder and decoder of a model's config, if they are segmentation-models-pytorch's on an encoder of timm.

    Raises:
        InputError: They don't go together, or timm has no such encoder.
    """
    if model["type"] == "SmpSegmentor" and model["backbone"]["encoder"].startswith("tu-"):
        build_without_memory(model["decode_head"]["decoder"], model["backbone"]["encoder"])


@cache
def build_without_memory(decoder: str, encoder: str) -> None:
    """Builds the network of a pair, once: on the meta device, or on the CPU where that one lacks a value."""
    import torch

    from trainables.networks.smp_network import build_network  # seconds to import

    try:
        with torch.device("meta"):
            build_network(decoder, encoder, classes=2)
    except InputError as error:
        if "meta tensor" not in str(error.__cause__):
            raise
        build_network(decoder, encoder, classes=2)
