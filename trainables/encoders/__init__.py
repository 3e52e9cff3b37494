"""The encoders by short name: how each is configured, the channels that it gives, and its published weights.

`rows` says what a row is; `convolutional` and `transformers` hold the rows, `table` gathers them; `shapes` reads a
backbone's channels from its config and scales them; `placing` puts an encoder into a model and connects what follows.
Pure functions on plain nested dicts.
"""

from trainables.encoders.placing import connect, put_encoder
from trainables.encoders.rows import Encoder, Weights
from trainables.encoders.shapes import channels_of, scale_encoder
from trainables.encoders.table import ENCODERS, weights_of

__all__ = ["ENCODERS", "Encoder", "Weights", "channels_of", "connect", "put_encoder", "scale_encoder", "weights_of"]
