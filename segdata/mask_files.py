"""Reads what people save as labels: one mask file an object, or one label map an image.

mask_HW is bool (H, W); number_HW is int64 (H, W), 0 = background, each other number one object.
Nothing is thresholded: a file that is not clearly a mask or a label map is refused.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segdata.errors import DatasetError
from segdata.images import open_image
from segdata.rle import Mask

__all__ = ["read_number_map", "read_object_mask"]

_MASK_MODES = ("1", "L", "P", "PA", "LA", "RGB", "RGBA", "I;16", "I;16B", "I")
_NUMBER_MODES = ("L", "P", "I;16", "I;16B", "I", "1")
_SHOWN_VALUES = 6


def read_object_mask(path: Path) -> Mask:
    """Reads the mask of one object: two values, of which black (or transparent) is the background.

    An all-black file gives an all-False mask.

    Raises:
        DatasetError: if the file can't be decoded or holds other than two values.
    """
    with open_image(path) as image:
        if image.mode not in _MASK_MODES:
            raise _wrong_mode(path, "a grey, black-and-white, palette or RGB(A) mask", image.mode)
        grey_HW, alpha_HW = _grey_and_alpha(image)
    colour = _two_valued(grey_HW, path)
    if alpha_HW is None or int(alpha_HW.min()) == int(alpha_HW.max()):
        return colour
    opaque = _two_valued(alpha_HW, path)
    if colour.any() and not colour.all() and not np.array_equal(colour, opaque):
        raise DatasetError.of(
            "expected transparency and colour to show the same object, but they differ",
            where=path,
            cure="Save the mask without transparency.",
        )
    return opaque


def read_number_map(path: Path) -> npt.NDArray[np.int64]:
    """Reads a label map of 1 to 32 bits: 0 = background, each other number one object.

    Raises:
        DatasetError: if the file can't be decoded, has colours or fractions, or a negative number.
    """
    with open_image(path) as image:
        if image.mode not in _NUMBER_MODES:
            raise _wrong_mode(path, "an 8- or 16-bit label map with one channel", image.mode)
        number_HW = np.asarray(image).astype(np.int64)
    if number_HW.min() < 0:
        raise DatasetError.of(
            f"expected numbers from 0 on, but got {number_HW.min()}", where=path, cure="Export the label map again."
        )
    return number_HW


def _grey_and_alpha(image: Image.Image) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.uint8], Mask | None]:
    """Returns one number a pixel that tells its colours apart (0 = black), and the alpha channel if there is one."""
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L")), None
    if image.mode in ("I;16", "I;16B", "I"):
        return np.asarray(image).astype(np.int64), None
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    rgba_HWC = np.asarray(image.convert("RGBA"))
    colour_HW = rgba_HWC[..., :3].astype(np.int64) @ np.array([65536, 256, 1])
    return colour_HW, rgba_HWC[..., 3] if has_alpha else None


def _two_valued(value_HW: npt.NDArray[np.generic], path: Path) -> Mask:
    low, high = int(value_HW.min()), int(value_HW.max())
    foreground: Mask = value_HW == high
    if (low == 0 == high) or (low == 0 and bool((foreground | (value_HW == 0)).all())):
        return foreground if high else np.zeros(value_HW.shape, dtype=np.bool_)
    values = [f"#{value:06x}" if high > 65535 else str(value) for value in np.unique(value_HW)]
    shown = ", ".join(values[:_SHOWN_VALUES]) + (f", ... ({len(values)} values)" if len(values) > _SHOWN_VALUES else "")
    raise DatasetError.of(
        f"expected a mask of two values, 0 and 1 or 0 and 255, but got {shown}",
        where=path,
        cure="Save one object as a black-and-white PNG; nothing is thresholded here.",
    )


def _wrong_mode(path: Path, expected: str, mode: str) -> DatasetError:
    return DatasetError.of(f"expected {expected}, but got mode {mode}", where=path, cure="Export it again.")
