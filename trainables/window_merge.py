"""Objects seen through overlapping windows become the objects of the whole image: each once, and whole.

Two pieces are the same object if they agree where both windows see it. Of the pieces of an object those win that no
window border cuts; where all are cut (an object larger than the overlap), their union is the object.
Imports numpy and segdata. All in pixels of the image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from segdata.predictions import ImageInstances
from segdata.rle import Mask, rle_bbox, rle_decode, rle_of_crop
from trainables.windows import Window

__all__ = ["Piece", "merge", "pieces_of"]

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]

SAME = 0.5  # least IoU of two pieces in what both windows see; for a cut piece: intersection over the smaller one
CUT_PX = 2  # a mask that ends this close to a border inside the image counts as cut by it
NEARLY_WHOLE = 0.9  # of the largest uncut piece's area; the most confident of these is the object


@dataclass(frozen=True, eq=False)
class Piece:
    """An object as one window shows it.

    Attributes:
        window: Number of the window.
        mask: Its pixels, cut to their bounding box.
        x0, y0: Where that box begins in the image.
        cut: Whether a border of the window inside the image may have cut it.
        box_xyxy: As predicted.
        confidence: 0 to 1.
        class_index: Pieces of different classes are different objects.
    """

    window: int
    mask: Mask
    x0: int
    y0: int
    cut: bool
    box_xyxy: tuple[float, float, float, float]
    confidence: float
    class_index: int
    area: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", int(self.mask.sum()))

    def area_in(self, part: Window) -> int:
        """Counts its pixels in a rectangle of the image."""
        if part.x0 <= self.x0 and self.x1 <= part.x1 and part.y0 <= self.y0 and self.y1 <= part.y1:
            return self.area
        x0, y0 = max(part.x0 - self.x0, 0), max(part.y0 - self.y0, 0)
        return int(np.count_nonzero(self.mask[y0 : max(part.y1 - self.y0, 0), x0 : max(part.x1 - self.x0, 0)]))

    @property
    def x1(self) -> int:
        return self.x0 + self.mask.shape[1]

    @property
    def y1(self) -> int:
        return self.y0 + self.mask.shape[0]

    def seen_in(self, part: Window) -> Mask:
        """Returns its pixels in a rectangle of the image, (height, width) of the rectangle."""
        shown = np.zeros((part.height, part.width), dtype=np.bool_)
        x0, y0, x1, y1 = max(part.x0, self.x0), max(part.y0, self.y0), min(part.x1, self.x1), min(part.y1, self.y1)
        if x0 < x1 and y0 < y1:
            inside = self.mask[y0 - self.y0 : y1 - self.y0, x0 - self.x0 : x1 - self.x0]
            shown[y0 - part.y0 : y1 - part.y0, x0 - part.x0 : x1 - part.x0] = inside
        return shown


@dataclass(frozen=True, slots=True)
class Link:
    """Two pieces, by their places in the list, that may be one object: how well they agree."""

    iou: float
    score: float  # IoU, or intersection over the smaller one if either is cut
    first: int
    second: int


def pieces_of(number: int, window: Window, found: ImageInstances, width: int, height: int) -> list[Piece]:
    """Returns the objects of one window, found in its own coordinates, as pieces of an image of width x height.

    Objects without a pixel are left out.
    """
    pieces = []
    for index, rle in enumerate(found.rles):
        x0, y0, w, h = map(int, rle_bbox(rle))
        x1, y1 = x0 + w, y0 + h
        if not w:
            continue
        cut = (
            (window.x0 > 0 and x0 < CUT_PX)
            or (window.y0 > 0 and y0 < CUT_PX)
            or (window.x1 < width and x1 > window.width - CUT_PX)
            or (window.y1 < height and y1 > window.height - CUT_PX)
        )
        left, top, right, bottom = (float(side) for side in found.boxes_xyxy[index])
        box = (left + window.x0, top + window.y0, right + window.x0, bottom + window.y0)
        crop = rle_decode(rle)[y0:y1, x0:x1].copy()
        confidence, class_index = float(found.confidences[index]), int(found.classes[index])
        pieces.append(Piece(number, crop, x0 + window.x0, y0 + window.y0, cut, box, confidence, class_index))
    return pieces


def merge(pieces: Sequence[Piece], windows: Sequence[Window], width: int, height: int) -> ImageInstances:
    """Returns the objects of an image of width x height, the most confident first.

    Pieces are joined best agreement first; an object has at most one piece a window, so that a chain of neighbours
    never becomes one. A cut piece that is left over, though a whole object already covers it, is dropped.

    Args:
        pieces: Of all windows.
        windows: All windows; a piece names its own by number.
        width: Of the image.
        height: Of the image.
    """
    links = sorted(links_between(pieces, windows), key=lambda link: (-link.iou, -link.score, link.first, link.second))
    groups = join(pieces, links)
    dropped = set(left_over(pieces, links, groups))
    kept = {id(group): group for index, group in enumerate(groups) if index not in dropped}
    borders = inner_borders(windows, width, height)
    shown = [(whole_of(members), members) for members in ([pieces[i] for i in sorted(g)] for g in kept.values())]
    objects = [found for found, members in shown if confirmed(found, {piece.window for piece in members}, borders)]
    objects.sort(key=lambda piece: (-piece.confidence, piece.y0, piece.x0, piece.class_index))
    return ImageInstances.of(
        [piece.box_xyxy for piece in objects],
        [piece.confidence for piece in objects],
        [piece.class_index for piece in objects],
        tuple(rle_of_crop(piece.mask, piece.x0, piece.y0, width, height) for piece in objects),
    )


def links_between(pieces: Sequence[Piece], windows: Sequence[Window]) -> Iterator[Link]:
    """Yields the pairs of pieces of different windows and one class that agree well enough."""
    by_window: dict[int, list[int]] = {}
    for index, piece in enumerate(pieces):
        by_window.setdefault(piece.window, []).append(index)
    boxes = np.array([(piece.x0, piece.y0, piece.x1, piece.y1) for piece in pieces], dtype=np.int64).reshape(-1, 4)
    classes = np.array([piece.class_index for piece in pieces])
    for first, second in neighbours(sorted(by_window), windows):
        part = overlap_of(windows[first], windows[second])
        one, other = (reaching(by_window[number], pieces, boxes, part) for number in (first, second))
        for row, column in likely(boxes, classes, one, other, part):
            link = compare(pieces, one[row], other[column], part)
            if link is not None:
                yield link


@dataclass(frozen=True, slots=True)
class Reaching:
    """The pieces of a window that reach into a rectangle, and how many of their pixels lie in it."""

    indices: Longs
    areas: Longs

    def __getitem__(self, place: int) -> tuple[int, int]:
        return int(self.indices[place]), int(self.areas[place])


def reaching(indices: Sequence[int], pieces: Sequence[Piece], boxes: Longs, part: Window) -> Reaching:
    """Returns those of the pieces with a pixel in a rectangle."""
    of = np.array(indices)
    x0, y0, x1, y1 = boxes[of].T
    near = of[(x0 < part.x1) & (part.x0 < x1) & (y0 < part.y1) & (part.y0 < y1)]
    areas = np.array([pieces[index].area_in(part) for index in near], dtype=np.int64)
    return Reaching(near[areas > 0], areas[areas > 0])


def likely(
    boxes: Longs, classes: npt.NDArray[Any], one: Reaching, other: Reaching, part: Window
) -> Iterator[tuple[int, int]]:
    """Yields the pairs of one class whose boxes share enough of `part` for their masks to agree: most pairs do not."""
    low = np.maximum(boxes[one.indices, None, :2], boxes[None, other.indices, :2])
    high = np.minimum(boxes[one.indices, None, 2:], boxes[None, other.indices, 2:])
    sides = np.minimum(high, (part.x1, part.y1)) - np.maximum(low, (part.x0, part.y0))
    most = np.where((sides > 0).all(axis=2), sides.prod(axis=2), 0)
    enough = most >= SAME * np.minimum(one.areas[:, None], other.areas[None])
    alike = classes[one.indices][:, None] == classes[other.indices][None]
    for row, column in np.argwhere(enough & alike & (most > 0)):
        yield int(row), int(column)


def neighbours(numbers: Sequence[int], windows: Sequence[Window]) -> Iterator[tuple[int, int]]:
    """Yields the pairs of windows that overlap."""
    boxes = np.array([(w.x0, w.y0, w.x1, w.y1) for w in (windows[number] for number in numbers)])
    for place, first in enumerate(numbers):
        x0, y0, x1, y1 = boxes[place]
        later = boxes[place + 1 :]
        meets = (later[:, 0] < x1) & (later[:, 2] > x0) & (later[:, 1] < y1) & (later[:, 3] > y0)
        yield from ((first, numbers[place + 1 + int(other)]) for other in np.flatnonzero(meets))


def overlap_of(first: Window, second: Window) -> Window:
    """Returns what two windows both see; without height or width if nothing."""
    x0, y0 = max(first.x0, second.x0), max(first.y0, second.y0)
    return Window(x0, y0, max(x0, min(first.x1, second.x1)), max(y0, min(first.y1, second.y1)))


def compare(pieces: Sequence[Piece], one: tuple[int, int], other: tuple[int, int], part: Window) -> Link | None:
    """Compares two pieces, each given by its place and its pixels in `part`, in what both windows see."""
    (first, area), (second, other_area) = one, other
    shared = shared_px(pieces[first], pieces[second], part)
    iou = shared / (area + other_area - shared)
    cut = pieces[first].cut or pieces[second].cut
    score = shared / min(area, other_area) if cut else iou
    return Link(iou, score, first, second) if score >= SAME else None


def shared_px(one: Piece, other: Piece, part: Window) -> int:
    """Counts the pixels in `part` that two pieces have in common; their boxes meet there."""
    x0, y0 = max(part.x0, one.x0, other.x0), max(part.y0, one.y0, other.y0)
    x1, y1 = min(part.x1, one.x1, other.x1), min(part.y1, one.y1, other.y1)
    seen, other_seen = (
        piece.mask[y0 - piece.y0 : y1 - piece.y0, x0 - piece.x0 : x1 - piece.x0] for piece in (one, other)
    )
    return int(np.count_nonzero(seen & other_seen))


def join(pieces: Sequence[Piece], links: Sequence[Link]) -> list[set[int]]:
    """Returns each piece's group, the same set for all of its members."""
    groups = [{index} for index in range(len(pieces))]
    for link in links:
        first, second = groups[link.first], groups[link.second]
        if first is second or {pieces[i].window for i in first} & {pieces[i].window for i in second}:
            continue
        first |= second
        for index in second:
            groups[index] = first
    return groups


def left_over(pieces: Sequence[Piece], links: Sequence[Link], groups: Sequence[set[int]]) -> Iterator[int]:
    """Yields cut pieces that stayed alone, though they agree with an object that some window shows whole."""
    for link in links:
        for index, other in ((link.first, link.second), (link.second, link.first)):
            alone = len(groups[index]) == 1 and pieces[index].cut
            if alone and any(not pieces[member].cut for member in groups[other]):
                yield index


def whole_of(group: Sequence[Piece]) -> Piece:
    """Returns the object that a group of pieces shows.

    Uncut pieces win; of those nearly as large as the largest the most confident one, then the larger. If all are cut,
    the object is their union with the highest confidence, and its box is tight.
    """
    uncut = [piece for piece in group if not piece.cut]
    if uncut:
        least = NEARLY_WHOLE * max(piece.area for piece in uncut)
        return max((piece for piece in uncut if piece.area >= least), key=lambda piece: (piece.confidence, piece.area))
    if len(group) == 1:
        return group[0]
    best = max(group, key=lambda piece: (piece.confidence, piece.area))
    frame = Window(
        min(piece.x0 for piece in group),
        min(piece.y0 for piece in group),
        max(piece.x1 for piece in group),
        max(piece.y1 for piece in group),
    )
    mask = np.logical_or.reduce([piece.seen_in(frame) for piece in group])
    box = (float(frame.x0), float(frame.y0), float(frame.x1), float(frame.y1))
    return Piece(best.window, mask, frame.x0, frame.y0, True, box, best.confidence, best.class_index)


def inner_borders(windows: Sequence[Window], width: int, height: int) -> Floats:
    """Returns each window's x0, y0, x1, y1, negative or positive infinity where that is the image's own border."""
    boxes = np.array([(w.x0, w.y0, w.x1, w.y1) for w in windows], dtype=np.float64)
    outer = boxes == (0, 0, width, height)
    return np.where(outer, np.array([-np.inf, -np.inf, np.inf, np.inf]), boxes)


def confirmed(found: Piece, seen_by: set[int], borders: Floats) -> bool:
    """Tells whether, of all windows that hold an object whole, one that sees it deepest inside shows it.

    Otherwise what a window wrongly sees in an overlap would add to what its neighbours do, and large parts of the image
    are seen by several: a network's second thoughts about an object would be counted once a window.
    """
    depth = np.minimum(
        np.minimum(found.x0 - borders[:, 0], found.y0 - borders[:, 1]),
        np.minimum(borders[:, 2] - found.x1, borders[:, 3] - found.y1),
    )
    deepest = float(depth.max())
    return deepest < CUT_PX or any(depth[number] == deepest for number in seen_by)
