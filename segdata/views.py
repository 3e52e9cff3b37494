"""Views: how a network sees an image, and the way of what it found back into the image's own frame.

A view is text of words joined by `+`, which act from left to right: `plain`, `hflip`, `vflip`, `rot90`, `rot180`,
`rot270` (clockwise), `scaleX` (times the size of the network's input) and `windowN` (windows of N pixels of its input).
Flips and turns are whole pixels, so the way there and back is exact. May import numpy and this package.

Letters: H height, W width, C channels or classes, of the image or, in lower case, of a coarser grid; all in pixels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from segdata.prediction_meta import ImageInstances
from segdata.rle import Rle, rle_crop, rle_of_crop

__all__ = ["PLAIN", "SMALLEST_WINDOW_PX", "View"]

SMALLEST_SCALE, LARGEST_SCALE = 0.125, 8.0
SMALLEST_WINDOW_PX = 32
_WORDS = "hflip, vflip, rot90, rot180, rot270, scaleX, windowN"
_NUMBERED = re.compile(r"(scale)(\d+(?:\.\d+)?)|(window)(\d{1,6})")
# Word -> whether it exchanges left and right, and the quarter turns clockwise after that.
_MOVES: Mapping[str, tuple[bool, int]] = {
    "hflip": (True, 0),
    "vflip": (True, 2),
    "rot90": (False, 1),
    "rot180": (False, 2),
    "rot270": (False, 3),
}
_MOVE_NAMES: Mapping[tuple[bool, int], str] = {
    **{move: word for word, move in _MOVES.items()},
    (True, 1): "hflip+rot90",
    (True, 3): "hflip+rot270",
}


@dataclass(frozen=True, slots=True)
class View:
    """How a network sees an image; equal views are equal values, however they were written.

    Attributes:
        flipped: Whether left and right are exchanged, before the turns.
        quarter_turns: 0 to 3, clockwise.
        scale: Of the network's input, times its size as the test pipeline has it; 0.125 to 8.
        window_px: Side of sliding windows in pixels of the network's input; None = no windows of the view's own.
    """

    flipped: bool = False
    quarter_turns: int = 0
    scale: float = 1.0
    window_px: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a view, such as `plain`, `hflip` or `rot90+scale1.25`.

        Raises:
            ValueError: A word is not known, out of range, or there twice.
        """
        if text == "plain":
            return cls()
        view, seen = cls(), set()
        for word in text.split("+"):
            kind = "rot" if word.startswith("rot") else word.rstrip("0123456789.")
            if kind in seen:
                raise ValueError(f"expected each of flips, turn, scale and window once in a view, but got {text!r}")
            seen.add(kind)
            view = view._then(word, text)
        return view

    def _then(self, word: str, text: str) -> Self:
        if word in _MOVES:
            flip, turns = _MOVES[word]
            # A flip after turns is the flip before as many turns the other way.
            before = -self.quarter_turns if flip else self.quarter_turns
            return replace(self, flipped=self.flipped != flip, quarter_turns=(before + turns) % 4)
        match = _NUMBERED.fullmatch(word)
        if match is None:
            known = f"plain, or words of {_WORDS} joined by +"
            raise ValueError(f"expected {known}, but got {word!r}{'' if word == text else f' in {text!r}'}")
        if match[1]:
            scale = float(match[2])
            if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
                raise ValueError(f"expected a scale from {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}, but got {word!r}")
            return replace(self, scale=scale)
        side_px = int(match[4])
        if side_px < SMALLEST_WINDOW_PX:
            raise ValueError(f"expected windows of at least {SMALLEST_WINDOW_PX} px, but got {word!r}")
        return replace(self, window_px=side_px)

    def __str__(self) -> str:
        """The view in its one canonical form."""
        words = []
        if self.flipped or self.quarter_turns:
            words.append(_MOVE_NAMES[self.flipped, self.quarter_turns])
        if self.scale != 1:
            words.append(f"scale{np.format_float_positional(self.scale, trim='-')}")
        if self.window_px is not None:
            words.append(f"window{self.window_px}")
        return "+".join(words) or "plain"

    @property
    def lies(self) -> bool:
        """Whether width and height are exchanged."""
        return self.quarter_turns % 2 == 1

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Returns (width, height) of the view of an image of that size."""
        return (height, width) if self.lies else (width, height)

    def of_image(self, pixels_HWC: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the pixels in the view's frame, contiguous; flips and turns only."""
        return np.ascontiguousarray(_moved(pixels_HWC, self.flipped, self.quarter_turns))

    def back_planes(self, planes_CHW: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns class probabilities, or any planes (C, H, W) of the view's frame, in the image's frame."""
        turned = np.rot90(planes_CHW, self.quarter_turns, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if self.flipped else turned)

    def back_instances(self, found: ImageInstances, width: int, height: int) -> ImageInstances:
        """Returns objects of the view's frame in the frame of the image of width x height; one mask at a time.

        Masks come back exactly, boxes to the rounding of float32.
        """
        if not self.flipped and not self.quarter_turns:
            return found
        rles = tuple(self._back_mask(rle, width, height) for rle in found.rles)
        return replace(found, boxes_xyxy=self._back_boxes(found.boxes_xyxy, width, height), rles=rles)

    def _back_mask(self, rle: Rle, width: int, height: int) -> Rle:
        """Brings a mask back within its own box only."""
        crop, x0, y0 = rle_crop(rle)
        box = np.array([[x0, y0, x0 + crop.shape[1], y0 + crop.shape[0]]], dtype=np.int64)
        left, top = (int(side) for side in self._back_boxes(box, width, height)[0, :2])
        mask = self.back_planes(crop[None])[0]
        return rle_of_crop(mask, left, top, width, height)

    def _back_boxes(self, boxes_xyxy: npt.NDArray[Any], width: int, height: int) -> npt.NDArray[Any]:
        """Brings boxes (N, 4) back: the turns one by one counter-clockwise, then the flip."""
        x0, y0, x1, y1 = boxes_xyxy.T
        across, down = self.size(width, height)
        for _ in range(self.quarter_turns):
            x0, y0, x1, y1 = y0, across - x1, y1, across - x0
            across, down = down, across
        if self.flipped:
            x0, x1 = across - x1, across - x0
        return np.stack([x0, y0, x1, y1], axis=1).astype(boxes_xyxy.dtype)


PLAIN = View()


def _moved(pixels_HWC: npt.NDArray[Any], flipped: bool, quarter_turns: int) -> npt.NDArray[Any]:
    """Flips, then turns clockwise."""
    return np.rot90(pixels_HWC[:, ::-1] if flipped else pixels_HWC, -quarter_turns)
