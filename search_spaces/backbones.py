"""The encoders that models stand on, by family. How each is configured is known by `trainables.encoders`."""

__all__ = ["MIX_TRANSFORMERS", "PYRAMIDS", "RESNETS", "RESNEXTS"]

RESNETS = ("r50", "r18", "r101")
RESNEXTS = ("x50-32x4d", "x101-32x4d", "x101-64x4d")
MIX_TRANSFORMERS = ("mit-b0", "mit-b1", "mit-b2", "mit-b3", "mit-b4", "mit-b5")

PYRAMIDS = (*RESNETS, *RESNEXTS)
"""Those whose four stages have strides 4, 8, 16 and 32: what a feature pyramid can stand on."""
