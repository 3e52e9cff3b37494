"""Predicting an image larger than what a network should see at once: window by window, then put together.

A window is cut from the image, scaled like a training image and run through the rest of the test pipeline. Imports
trainables' predictor and numpy.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from mmengine.model import BaseModel

from segdata.predictions import ImageInstances
from trainables.fitting import raise_limits
from trainables.outputs import WITH_QUERIES, limits_of
from trainables.prediction_job import WindowChoice
from trainables.prediction_model import Predictor
from trainables.training_scale import training_frame, training_scale, without_resize
from trainables.viewing import turned
from trainables.window_merge import Piece, merge, pieces_of
from trainables.windows import Window, blend, grid

__all__ = ["WindowPredictor"]

Pixels = npt.NDArray[Any]


class WindowPredictor:
    """A predictor and its windows.

    Args:
        predictor: Runs the network.
        choice: Side, overlap and scale of the windows.
        batch: How many windows of an image go through the network together.
    """

    def __init__(self, predictor: Predictor, choice: WindowChoice, batch: int) -> None:
        self.predictor, self.choice, self.batch = predictor, choice, batch
        self.least_scale = self.scale_of_choice()

    def scale_of_choice(self) -> tuple[float, float] | None:
        """Returns the chosen scale, else that of the training images, in both cases times the view's; None = unknown.

        A view that lies on its side sees the training images so.
        """
        view, found = self.predictor.view, None
        if self.choice.scale is not None:
            found = (self.choice.scale, self.choice.scale)
        elif view.lies:
            known = training_scale(self.predictor.config, turned(self.predictor.steps))
            found = known and (known[1], known[0])
        else:
            found = training_scale(self.predictor.config, self.predictor.steps)
        return found and (found[0] * view.scale, found[1] * view.scale)

    def scale(self, width: int, height: int) -> tuple[float, float]:
        """Returns the scale at which the network sees an image, across and down.

        The chosen one; else what the test pipeline would make of the image, but at least the training images' scale:
        an image is not shrunk for being larger than they are. Both times the view's scale.
        """
        if self.choice.scale is not None and self.least_scale is not None:
            return self.least_scale
        own = self.predictor.scale(width, height)
        least = self.least_scale or own
        return max(own[0], least[0]), max(own[1], least[1])

    def grid(self, width: int, height: int) -> tuple[Window, ...]:
        """Returns the windows of an image of this size, in the image's pixels."""
        across, down = self.scale(width, height)
        side_x, side_y = max(1, round(self.choice.side_px / across)), max(1, round(self.choice.side_px / down))
        return grid(width, height, side_x, side_y, self.choice.overlap)

    def needed(self, width: int, height: int) -> bool:
        """Tells whether windows would show an image differently from the test pipeline as it is."""
        differs = not np.allclose(self.scale(width, height), self.predictor.scale(width, height), rtol=1e-3)
        return differs or len(self.grid(width, height)) > 1

    def instances(self, pixels: Pixels, read: Callable[[dict[str, Any]], ImageInstances]) -> ImageInstances:
        """Returns the objects of an image; `read` takes those of a window from what the network returns."""
        height, width = pixels.shape[:2]
        windows = self.grid(width, height)
        pieces: list[Piece] = []
        with raised(self.predictor.model, self.detections(windows[0], width, height)):
            for number, (window, seen) in enumerate(self.views(pixels, windows)):
                pieces += pieces_of(number, window, read(seen), width, height)
        return merge(pieces, windows, width, height)

    def detections(self, window: Window, width: int, height: int) -> int | None:
        """Returns how many objects a window may show, if it is larger than the frame that the limits were made for.

        That limit grows with the area, so that a window is no sparser than a training image. None = it stays.
        """
        frame, model = training_frame(self.predictor.steps), self.predictor.config.model
        limit = limits_of(model).detections
        if frame is None or limit is None or model["type"] in WITH_QUERIES:  # queries are trained, and so many
            return None
        across, down = self.scale(width, height)
        times = window.width * across * window.height * down / (frame[0] * frame[1])
        return math.ceil(limit * times) if times > 1 else None

    def bands(
        self, pixels: Pixels, read: Callable[[dict[str, Any]], npt.NDArray[np.float32]]
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yields the class probabilities of an image from its top, see `blend`; `read` takes those of a window."""
        height, width = pixels.shape[:2]
        windows = self.grid(width, height)
        views = ((window, read(seen)) for window, seen in self.views(pixels, windows))
        yield from blend(views, width, windows)

    def views(self, pixels: Pixels, windows: tuple[Window, ...]) -> Iterator[tuple[Window, dict[str, Any]]]:
        """Yields each window with what the network finds in it."""
        height, width = pixels.shape[:2]
        across, down = self.scale(width, height)
        for start in range(0, len(windows), self.batch):
            chunk = windows[start : start + self.batch]
            inputs = []
            for window in chunk:
                size = (max(1, round(window.width * across)), max(1, round(window.height * down)))
                steps = without_resize(self.predictor.steps[1:], size)
                view = np.ascontiguousarray(pixels[window.y0 : window.y1, window.x0 : window.x1])
                inputs.append(self.predictor.prepare(view, steps, "window", 0))
            yield from zip(chunk, self.predictor.predict(inputs), strict=True)


@contextmanager
def raised(model: BaseModel, detections: int | None) -> Iterator[None]:
    """Lets a built detector find so many objects, and as many candidates as they need, inside the block."""
    modules = dict(model.named_modules()).items() if detections is not None else ()
    tested = [(name, module.test_cfg) for name, module in modules if getattr(module, "test_cfg", None)]
    changed = [part for _, limits in tested for part in (limits, limits.get("rcnn"), limits.get("rpn")) if part]
    before = [dict(part) for part in changed]
    for name, limits in tested:
        assert detections is not None
        raise_limits({"test_cfg": {"rpn": limits} if name.endswith("rpn_head") else limits}, detections)
    try:
        yield
    finally:
        for part, values in zip(changed, before, strict=True):
            part.update(values)
