"""What a prediction set will take on disk at most, told before it is made. Imports this package."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from segdata.errors import InputError
from segdata.prediction_meta import PredictedImage, PredictionMeta

__all__ = ["WORTH_TELLING", "bytes_needed", "gigabytes", "refuse_too_much"]

WORTH_TELLING = 10**9  # bytes


def bytes_needed(meta: PredictionMeta, images: Sequence[PredictedImage]) -> int:
    """Returns an upper bound: a byte a class and stored pixel; 0 for other codecs than prob8.

    Files are compressed, mostly to a small part of it. Objects as run lengths take kilobytes an image: not counted.
    """
    if meta.codec != "prob8":
        return 0
    pixels = (-(-image.width // meta.stride) * -(-image.height // meta.stride) for image in images)
    return len(meta.classes) * sum(pixels)


def refuse_too_much(meta: PredictionMeta, images: Sequence[PredictedImage], sets: int, where: Path) -> None:
    """Refuses to make so many sets of these images where the disk may not hold them.

    Raises:
        InputError: What they need at most is not free.
    """
    needed, free = sets * bytes_needed(meta, images), shutil.disk_usage(where).free
    if needed > free:
        raise InputError.of(
            f"expected {gigabytes(needed)} of free disk for class probabilities (an upper bound: they are compressed), "
            f"but got {gigabytes(free)}",
            where=where,
            cure=f"Store them coarser, such as by --stride {fitting_stride(meta.stride, needed, free)}, or free some.",
        )


def fitting_stride(stride: int, needed: int, free: int) -> int:
    """Returns the least stride, of doublings of this one, whose need is below what is free; at least 4."""
    coarser = 2 * stride
    while needed * stride**2 > free * coarser**2 and coarser < 64 * stride:
        coarser *= 2
    return max(coarser, 4)


def gigabytes(count: int) -> str:
    """Returns a number of bytes as people read it."""
    return f"{count / 1e9:.3g} GB"
