"""Objects' masks as a few label images instead of one mask each.

A step then changes two or three images however many objects there are: 150 masks of 924 x 711 px would be 100 MB.
Letters: N objects, L layers, H, W pixels.
"""

from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["Labels", "ObjectLayers"]

Labels = npt.NDArray[Any]

FLIPS = {"horizontal": (2,), "vertical": (1,), "diagonal": (1, 2)}


@dataclass(frozen=True)
class ObjectLayers:
    """Masks of N objects.

    Attributes:
        labels: uint16 (L, H, W); in a layer the value n + 1 marks the pixels of object n, 0 none. Each object lies in
            one layer; objects that overlap lie in different ones.
        count: N, objects without a pixel included.
    """

    labels: Labels
    count: int

    @classmethod
    def of(cls, masks_NHW: Labels) -> Self:
        """Puts each mask into the first layer in which it overlaps no other."""
        count, height, width = masks_NHW.shape
        layers = [np.zeros((height, width), dtype=np.uint16)]
        for number, mask_HW in enumerate(masks_NHW, start=1):
            x, y, w, h = cv2.boundingRect(mask_HW.astype(np.uint8, copy=False))
            window = np.s_[y : y + h, x : x + w]
            inside = mask_HW[window].astype(bool)
            free = next((layer for layer in layers if not layer[window][inside].any()), None)
            if free is None:
                free = np.zeros((height, width), dtype=np.uint16)
                layers.append(free)
            free[window][inside] = number
        return cls(np.stack(layers), count)

    def masks(self) -> Labels:
        """Returns one uint8 mask of 0 and 1 an object."""
        masks = np.zeros((self.count, *self.labels.shape[1:]), dtype=np.uint8)
        for layer in self.labels:
            for index, window in enumerate(ndimage.find_objects(layer)):
                if window is not None:
                    masks[index][window] = layer[window] == index + 1
        return masks

    def areas(self) -> npt.NDArray[np.int64]:
        """Returns the pixels of each object."""
        found = np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:]
        return np.asarray(found, dtype=np.int64)

    def boxes_xyxy(self) -> npt.NDArray[np.float32]:
        """Returns the tight box of each object in pixels, right and bottom edges excluded; zeros without a pixel."""
        boxes = np.zeros((self.count, 4), dtype=np.float32)
        for layer in self.labels:
            for index, window in enumerate(ndimage.find_objects(layer)):
                if window is not None:
                    rows, columns = window
                    boxes[index] = columns.start, rows.start, columns.stop, rows.stop
        return boxes

    def keep(self, chosen_N: npt.NDArray[np.bool_]) -> "ObjectLayers":
        """Returns the chosen objects only, renumbered in their order."""
        renumbered = np.zeros(self.count + 1, dtype=np.uint16)
        renumbered[1:][chosen_N] = np.arange(1, int(chosen_N.sum()) + 1)
        layers = renumbered[self.labels]
        used = [layer for layer in layers if layer.any()]
        return ObjectLayers(np.stack(used or [layers[0]]), int(chosen_N.sum()))

    def flip(self, flip_direction: str = "horizontal") -> "ObjectLayers":
        """Returns the masks mirrored, as the stock RandomFlip asks of masks."""
        return ObjectLayers(np.ascontiguousarray(np.flip(self.labels, FLIPS[flip_direction])), self.count)
