"""The torch modules that no zoo has, as parts of MMSegmentation configs. `register()` makes them known to MM*.

Below here stand torch, mm*, segmentation-models-pytorch and timm; nothing is registered by an import.
"""

from trainables.networks.register import register

__all__ = ["register"]
