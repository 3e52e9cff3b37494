"""Run-length masks: the one place that talks to pycocotools.

Masks are bool arrays (H, W). `Rle.counts` is COCO's compressed string, in column-major order. May import numpy,
pycocotools and `segdata.errors` only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from segdata.errors import DatasetError

__all__ = [
    "Mask",
    "Rle",
    "rle_area",
    "rle_bbox",
    "rle_crop",
    "rle_decode",
    "rle_encode",
    "rle_from_counts",
    "rle_from_polygons",
    "rle_iou",
    "rle_of_crop",
    "rle_runs",
]

Mask = npt.NDArray[np.bool_]

_BITS_PER_CHARACTER = 5
_LONGEST_NUMBER = 7  # characters; 35 bits hold any run of an image below 17 gigapixels


@dataclass(frozen=True, slots=True)
class Rle:
    """A mask of `height` x `width` pixels as COCO's compressed run lengths."""

    height: int
    width: int
    counts: str

    def to_coco(self) -> dict[str, Any]:
        """Returns COCO's JSON form, `{"size": [height, width], "counts": "..."}`."""
        return {"size": [self.height, self.width], "counts": self.counts}


def rle_encode(mask_HW: npt.NDArray[Any]) -> Rle:
    """Encodes a mask of bool or of 0 and 1, shape (H, W)."""
    if mask_HW.ndim != 2:
        raise ValueError(f"expected a mask of shape (H, W), but got {mask_HW.shape}")
    raw = coco_mask.encode(np.asfortranarray(mask_HW != 0, dtype=np.uint8))
    return _from_coco(raw)


def rle_decode(rle: Rle) -> Mask:
    """Decodes to bool (H, W)."""
    return np.ascontiguousarray(coco_mask.decode(rle.to_coco())).view(np.bool_)


def rle_from_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """Draws the union of polygons as COCO does; each is (x0, y0, x1, y1, ...) in pixels, three points or more."""
    parts = coco_mask.frPyObjects([list(polygon) for polygon in polygons], height, width)
    return _from_coco(parts[0] if len(parts) == 1 else coco_mask.merge(parts))


def rle_from_counts(counts: str | Sequence[int], height: int, width: int) -> Rle:
    """Builds an Rle from compressed (str) or uncompressed (list) counts, checked to cover height x width pixels.

    Raises:
        DatasetError: if the counts are not run lengths of a mask of this size.
    """
    if isinstance(counts, str):
        runs = _runs_of(counts)
        rle = Rle(height, width, counts)
    else:
        if max(counts, default=0) > height * width:
            raise DatasetError(
                f"expected run lengths that add up to {height}x{width} = {height * width} pixels, "
                f"but got one of {str(max(counts))[:20]}"
            )
        runs = np.asarray(counts, dtype=np.int64)
        rle = _from_coco(coco_mask.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width))
    if runs.size == 0 or runs.min() < 0 or runs.sum() != height * width:
        raise DatasetError(
            f"expected run lengths that add up to {height}x{width} = {height * width} pixels, "
            f"but got {int(runs.sum())} pixels in {runs.size} runs"
        )
    return rle


def rle_area(rle: Rle) -> int:
    """Counts the mask's pixels."""
    return int(coco_mask.area(rle.to_coco()))


def rle_bbox(rle: Rle) -> tuple[float, float, float, float]:
    """Returns the mask's box as xywh in pixels; (0, 0, 0, 0) for an empty mask."""
    x, y, w, h = (float(value) for value in coco_mask.toBbox(rle.to_coco()))
    return (x, y, w, h)


def rle_crop(rle: Rle) -> tuple[Mask, int, int]:
    """Decodes the mask within its box only; returns it with the box's left column and upper row, in pixels.

    The mask is bool (height of the box, width of the box), empty for a mask without pixels.
    """
    left, top, width, height = (int(value) for value in rle_bbox(rle))
    if not width:
        return np.zeros((0, 0), dtype=np.bool_), 0, 0
    ends = np.cumsum(_runs_of(rle.counts)) - left * rle.height
    within = np.minimum(np.maximum(ends, 0), width * rle.height)  # column-major, so the columns are one stretch
    within[1:] -= within[:-1].copy()
    values = np.arange(len(ends)) % 2 == 1
    columns_WH = np.repeat(values, within).reshape(width, rle.height)
    return np.ascontiguousarray(columns_WH[:, top : top + height].T), left, top


def rle_of_crop(mask: npt.NDArray[np.bool_], x0: int, y0: int, width: int, height: int) -> Rle:
    """Encodes a mask that is cut to a box at (x0, y0) for an image of width x height, without drawing that image."""
    padded = np.pad(mask.astype(np.int8), ((1, 1), (0, 0)))
    edges = np.diff(padded, axis=0).T  # (columns, rows + 1): COCO goes down the columns
    begins, ends = (np.argwhere(edges == step) for step in (1, -1))
    if not len(begins):
        return rle_from_counts([width * height], height, width)
    first, last = ((spots[:, 0] + x0) * height + spots[:, 1] + y0 for spots in (begins, ends))
    apart = first[1:] != last[:-1]  # a run to the foot of a column may go on at the head of the next
    first, last = first[np.r_[True, apart]], last[np.r_[apart, True]]
    bounds = np.stack([first, last], axis=1).ravel()
    counts = np.diff(np.r_[0, bounds, width * height])
    return rle_from_counts(counts.tolist() if counts[-1] else counts[:-1].tolist(), height, width)


def rle_runs(rle: Rle) -> npt.NDArray[np.int64]:
    """Returns the mask's foreground runs, (R, 2): first pixel (column-major, from 0) and length, ascending, none empty.

    Raises:
        DatasetError: if the counts are not run lengths.
    """
    lengths = _runs_of(rle.counts)
    starts = np.cumsum(lengths) - lengths
    runs = np.stack([starts[1::2], lengths[1::2]], axis=1)
    filled: npt.NDArray[np.int64] = runs[runs[:, 1] > 0]
    return filled


def rle_iou(first: Sequence[Rle], second: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """Returns mask IoU, shape (len(first), len(second)); two empty masks have IoU 0."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    crowd = [0] * len(second)
    iou = coco_mask.iou([r.to_coco() for r in first], [r.to_coco() for r in second], crowd)
    return np.nan_to_num(np.asarray(iou, dtype=np.float64))


def _from_coco(raw: dict[str, Any]) -> Rle:
    height, width = raw["size"]
    return Rle(int(height), int(width), raw["counts"].decode("ascii"))


def _runs_of(counts: str) -> npt.NDArray[np.int64]:
    """Decodes COCO's compressed counts to run lengths.

    pycocotools reads past the end of a malformed string, so it is checked here before it gets there. Each number is
    written in groups of five bits (bit 6 of a character: more follow; bit 5 of the last: negative), and from the
    fourth on as the difference to the number two before it.
    """
    codes = np.frombuffer(counts.encode("ascii", errors="replace"), dtype=np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        return np.zeros(0, dtype=np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20:
        raise DatasetError(f"expected compressed RLE counts, but got {_shortened(counts)}")
    ends = np.flatnonzero((codes & 0x20) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST_NUMBER:
        raise DatasetError(f"expected compressed RLE counts, but got a number too large in {_shortened(counts)}")
    position = np.arange(codes.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 0x1F) << (_BITS_PER_CHARACTER * position), starts)
    runs -= np.where(codes[ends] & 0x10, np.int64(1) << (_BITS_PER_CHARACTER * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _shortened(counts: str) -> str:
    return repr(counts if len(counts) <= 24 else counts[:24] + "...")
