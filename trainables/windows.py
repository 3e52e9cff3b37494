"""Windows over an image: where they lie, and how class probabilities seen through them become one image's.

Imports numpy only. Letters: C classes, H height, W width of the image; h height, w width of a window; all in pixels of
the image, whatever size the network sees a window at.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Window", "blend", "grid", "starts"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of whole pixels: x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0


def starts(length: int, side: int, overlap: int) -> tuple[int, ...]:
    """Returns where the fewest windows of `side` pixels start that cover `length` and share `overlap` or more.

    They are spread evenly, so that the first begins and the last ends with the image: every stretch of at most
    `overlap` pixels lies whole in one of them. An image no longer than a window has the one that starts at 0.
    """
    if length <= side:
        return (0,)
    count = -(-(length - overlap) // (side - overlap))
    return tuple((length - side) * index // (count - 1) for index in range(count))


def grid(width: int, height: int, side_x: int, side_y: int, overlap: float) -> tuple[Window, ...]:
    """Returns the windows of an image, row by row; all of one size, cut to the image where that is smaller.

    Args:
        width: Of the image.
        height: Of the image.
        side_x: Of a window.
        side_y: Of a window.
        overlap: Least share of a window's side that neighbours have in common, 0 to 0.9; rounded up to whole pixels.
    """
    columns = starts(width, side_x, shared(side_x, overlap))
    rows = starts(height, side_y, shared(side_y, overlap))
    return tuple(Window(x, y, min(x + side_x, width), min(y + side_y, height)) for y in rows for x in columns)


def shared(side: int, overlap: float) -> int:
    """Returns the overlap in pixels, below the side; a float's last digit adds no pixel."""
    return min(side - 1, int(np.ceil(round(side * overlap, 6))))


def blend(views: Iterable[tuple[Window, npt.NDArray[Any]]], width: int, windows: Sequence[Window]) -> Iterator[Floats]:
    """Averages the windows' class probabilities and yields the image's, in bands of rows from the top.

    The weight of a pixel falls linearly to the edges of its window, so that no seam shows; where one window sees a
    pixel, its value stays as it is. Besides what `views` hands out, two float32 arrays of C x h x W are held: memory
    grows with the image's width, not with its area.

    Args:
        views: Each of `windows` in that order, with (C, h, w) probabilities.
        width: W.
        windows: What `grid` returned.

    Yields:
        float32 (C, rows, W); the bands together have H rows.
    """
    rows = [list(group) for _, group in groupby(windows, key=lambda window: window.y0)]
    source = iter(views)
    ends = [below[0].y0 for below in rows[1:]] + [rows[-1][0].y1]
    open_CHW: Floats | None = None  # weighted sums of the rows that a window further down still sees
    weight_H: Floats = np.zeros(0, dtype=np.float32)
    for row, end in zip(rows, ends, strict=True):
        strip_CHW = blend_row(source, row, width)
        if len(rows) == 1:
            yield strip_CHW
            return
        ramp_H = ramp(row[0].height)
        strip_CHW *= ramp_H[None, :, None]
        if open_CHW is not None:
            seen = open_CHW.shape[1]
            strip_CHW[:, :seen] += open_CHW
            ramp_H[:seen] += weight_H
        done = end - row[0].y0
        yield strip_CHW[:, :done] / ramp_H[None, :done, None]
        open_CHW, weight_H = strip_CHW[:, done:].copy(), ramp_H[done:].copy()


def blend_row(source: Iterator[tuple[Window, npt.NDArray[Any]]], row: Sequence[Window], width: int) -> Floats:
    """Takes one row of windows from `source` and averages it, float32 (C, h, W)."""
    if len(row) == 1:
        return np.array(next(source)[1], dtype=np.float32)
    ramp_w = ramp(row[0].width)
    weight_W = np.zeros(width, dtype=np.float32)
    strip_CHW: Floats | None = None
    for window in row:
        seen, prob_Chw = next(source)
        assert seen == window, "views come in the order of the windows"
        if strip_CHW is None:
            strip_CHW = np.zeros((prob_Chw.shape[0], window.height, width), dtype=np.float32)
        strip_CHW[:, :, window.x0 : window.x1] += prob_Chw * ramp_w
        weight_W[window.x0 : window.x1] += ramp_w
    assert strip_CHW is not None
    strip_CHW /= weight_W
    return strip_CHW


def ramp(side: int) -> Floats:
    """Returns weights that rise linearly from the edges of a window to its middle, above 0 and at most 1."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]).astype(np.float32) + np.float32(0.5)
    weights: Floats = distance / distance.max()
    return weights
