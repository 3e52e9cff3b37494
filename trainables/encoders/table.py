"""All encoders, name -> row."""

from collections.abc import Mapping

from trainables.encoders.convolutional import CONVOLUTIONAL
from trainables.encoders.rows import Encoder, Weights
from trainables.encoders.transformers import TRANSFORMERS

__all__ = ["ENCODERS", "weights_of"]

ENCODERS: dict[str, Encoder] = {**CONVOLUTIONAL, **TRANSFORMERS}


def weights_of(backbone: str, backbone_type: str = "") -> Mapping[str, Weights]:
    """Returns the published weights of an encoder: value of the knob `init` -> weights.

    Args:
        backbone: Its short name; one without a row has none.
        backbone_type: The type in the built config; a ResNet with a deep stem has other weights.
    """
    if backbone not in ENCODERS:
        return {}
    encoder = ENCODERS[backbone]
    return encoder.deep_stem_weights if backbone_type == "ResNetV1c" else encoder.weights
