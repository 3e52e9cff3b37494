"""Run lengths of many COCO masks at once, as flat arrays: overlaps and votes are counted on runs, no mask is decoded.

Legend: N masks, R foreground runs of all masks together. Imports `segdata` and the compiled loops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ensembling.run_kernels import outline, parse, write
from segdata.errors import InputError
from segdata.rle import Rle

__all__ = ["Runs", "rles_of", "runs_of"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Runs:
    """The foreground runs of masks of one size.

    Attributes:
        starts: (R,) column-major pixel index, 0..height*width, where a run starts; ascending in a mask.
        ends: (R,) the index after its last pixel.
        offsets: (N + 1,) where the runs of each mask start, and the last ends.
        height: Of all masks, pixels.
        width: Of all masks, pixels.
    """

    starts: Ints
    ends: Ints
    offsets: Ints
    height: int
    width: int

    def outlines(self) -> tuple[Floats, Floats]:
        """Returns the areas (N,) and boxes xyxy (N, 4) of the masks in pixels; zeros for one without a pixel."""
        return outline(self.starts, self.ends, self.offsets, max(self.height, 1))


def runs_of(rles: Sequence[Rle]) -> Runs:
    """Reads the runs of compressed masks.

    Raises:
        InputError: If the masks are not all of the same size.
    """
    sizes = {(rle.height, rle.width) for rle in rles}
    if len(sizes) > 1:
        raise InputError.of(
            f"expected masks of one size in an image, but got height x width of {sorted(sizes)}",
            where="masks to fuse",
            cure="Predict all members on the same images.",
        )
    height, width = sizes.pop() if sizes else (0, 0)
    text = np.frombuffer("".join([rle.counts for rle in rles]).encode("ascii"), np.uint8)
    lengths_N = np.array([len(rle.counts) for rle in rles], dtype=np.int64)
    return Runs(*parse(text, lengths_N), height=height, width=width)


def rles_of(runs: Runs) -> list[Rle]:
    """Writes masks, byte for byte as pycocotools does."""
    codes, stops = write(runs.starts, runs.ends, runs.offsets, runs.height * runs.width)
    text = codes.tobytes().decode("ascii")
    return [Rle(runs.height, runs.width, text[start:stop]) for start, stop in pairwise([0, *stops.tolist()])]
