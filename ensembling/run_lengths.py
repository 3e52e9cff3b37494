"""Run lengths of many COCO masks at once, as flat arrays: where does each mask switch on and off?

Fusion counts votes on runs instead of pixels, so no mask is ever decoded. A compressed COCO string holds, for each
mask, the lengths of its alternating background and foreground runs in column-major order; from the fourth length on
it stores the difference to the length two before, each number in groups of five bits, lowest first, as characters
from "0", with bit 5 telling that another group follows and the last group's bit 4 telling the sign.

Legend: N masks, B boundaries of all masks together. Imports numpy and `segdata` only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from segdata.rle import Rle

__all__ = ["Boundaries", "boundaries_of", "rles_of"]

Ints = npt.NDArray[np.int64]
_FIRST_CHARACTER = 48
_BITS, _GROUP, _MORE, _SIGN = 5, 0x1F, 0x20, 0x10


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Where masks switch between background and foreground.

    Attributes:
        positions: (B,) pixel index in column-major order, 0..height*width, where a run starts; ascending in a mask.
        masks: (B,) index of the mask that each boundary belongs to, ascending.
        rises: (B,) True where a foreground run starts, False where one ends.
    """

    positions: Ints
    masks: Ints
    rises: npt.NDArray[np.bool_]


def boundaries_of(rles: Sequence[Rle]) -> Boundaries:
    """Reads the run boundaries of compressed masks.

    The end of the last run is among them: a mask that ends in background has a rise at height*width, which opens no
    pixel.
    """
    lengths_N = np.array([len(rle.counts) for rle in rles], dtype=np.int64)
    numbers_B, count_N = _parse("".join(rle.counts for rle in rles), lengths_N)
    index_B = _index_within(count_N)
    runs_B = numbers_B.copy()
    odd_B, even_B = index_B % 2 == 1, (index_B % 2 == 0) & (index_B > 0)
    runs_B[odd_B] = _cumsum_within(numbers_B[odd_B], count_N // 2)
    runs_B[even_B] = _cumsum_within(numbers_B[even_B], np.maximum(count_N - 1, 0) // 2)
    mask_B = np.repeat(np.arange(len(rles)), count_N)
    return Boundaries(_cumsum_within(runs_B, count_N), mask_B, ~odd_B)


def rles_of(position_B: Ints, mask_B: Ints, masks: int, *, height: int, width: int) -> list[Rle]:
    """Writes masks from their boundaries, byte for byte as pycocotools does.

    Args:
        position_B: Strictly ascending boundaries of each mask, in turns a foreground start and its end, in pixels.
        mask_B: Mask index of each boundary, ascending.
        masks: How many masks there are; one without boundaries is empty.
        height: Image height in pixels.
        width: Image width in pixels.
    """
    pixels = height * width
    mask_R = np.concatenate([mask_B, np.arange(masks)])
    position_R = np.concatenate([position_B, np.full(masks, pixels)])
    order = np.argsort(mask_R, kind="stable")
    mask_R, position_R = mask_R[order], position_R[order]
    previous_R = np.concatenate([[0], position_R[:-1]])
    previous_R[np.flatnonzero(np.diff(mask_R, prepend=-1))] = 0
    run_R = position_R - previous_R
    # A mask whose foreground reaches the last pixel has no run after it; only that run can be the sentinel's zero.
    kept = (run_R > 0) | (position_R < pixels)
    run_R, count_N = run_R[kept], np.bincount(mask_R[kept], minlength=masks)
    texts = _write(run_R, count_N)
    return [Rle(height=height, width=width, counts=text) for text in texts]


def _parse(text: str, lengths_N: Ints) -> tuple[Ints, Ints]:
    """Reads the signed numbers in concatenated strings; returns them and how many each string holds."""
    if not text:
        return np.zeros(0, np.int64), np.zeros(len(lengths_N), np.int64)
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _FIRST_CHARACTER
    last = np.flatnonzero((codes & _MORE) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    groups = last - first + 1
    place = np.arange(len(codes)) - np.repeat(first, groups)
    numbers = np.add.reduceat((codes & _GROUP) << (_BITS * place), first)
    numbers -= ((codes[last] & _SIGN) > 0).astype(np.int64) << (_BITS * groups)
    ends = np.searchsorted(last, np.cumsum(lengths_N))
    return numbers, np.diff(ends, prepend=0)


def _write(run_R: Ints, count_N: Ints) -> list[str]:
    """Compresses run lengths; `count_N` tells how many belong to each mask."""
    index_R = _index_within(count_N)
    numbers_R = run_R.copy()
    later = np.flatnonzero(index_R > 2)
    numbers_R[later] -= run_R[later - 2]
    groups_R = np.ones(len(run_R), dtype=np.int64)
    reach = 1 << (_BITS - 1)
    while (further := (numbers_R < -reach) | (numbers_R >= reach)).any():
        groups_R += further
        reach <<= _BITS
    ends_R = np.cumsum(groups_R)
    codes = np.empty(ends_R[-1] if len(ends_R) else 0, dtype=np.uint8)
    for place in range(int(groups_R.max(initial=0))):
        has = groups_R > place
        more = (groups_R[has] > place + 1) * _MORE
        at = ends_R[has] - groups_R[has] + place
        codes[at] = ((numbers_R[has] >> (_BITS * place)) & _GROUP) + more + _FIRST_CHARACTER
    text = codes.tobytes().decode("ascii")
    stops = np.concatenate([[0], ends_R])[np.cumsum(count_N)].tolist()
    return [text[start:stop] for start, stop in pairwise([0, *stops])]


def _index_within(count_N: Ints) -> Ints:
    """Counts 0, 1, 2... within each group of the given sizes."""
    starts = np.cumsum(count_N) - count_N
    return np.arange(int(count_N.sum())) - np.repeat(starts, count_N)


def _cumsum_within(values: Ints, count_N: Ints) -> Ints:
    """Running sum that starts again in each group of the given sizes."""
    total = np.concatenate([[0], np.cumsum(values)])
    starts = np.cumsum(count_N) - count_N
    result: Ints = total[1:] - np.repeat(total[starts], count_N)
    return result
