"""Image files: which they are, their size, their pixels.

Sizes and pixels are as displayed: an EXIF orientation is applied, as OpenCV does when models read the file.
May import Pillow, numpy and `segdata.errors` only.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from segdata.errors import DatasetError

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageArray",
    "content_hash",
    "exif_turn",
    "image_size",
    "images_by_stem",
    "list_images",
    "open_image",
    "read_image",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
ImageArray = npt.NDArray[np.uint8]

_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)
_EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr")


def list_images(folder: Path) -> tuple[Path, ...]:
    """Lists the image files directly in a folder, by name.

    Raises:
        DatasetError: if the folder does not exist.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise DatasetError.of(f"expected a folder of images, but got {found}", where=folder, cure="Check the path.")
    return tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."))


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Maps file stem to image file.

    Raises:
        DatasetError: if two images share a stem.
    """
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in found:
            raise DatasetError.of(
                f"expected one image a stem, but got {found[path.stem].name} and {path.name}",
                where=folder,
                cure="Rename or remove one.",
            )
        found[path.stem] = path
    return found


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image file; decoding errors inside the block are named too.

    Raises:
        DatasetError: if the file is missing or can't be decoded.
    """
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DatasetError.of("expected an image, but got nothing there", where=path, cure="Check the path.") from error
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        raise _undecodable(path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """Returns (width, height) from the file's header.

    Raises:
        DatasetError: if the file is missing or no image.
    """
    with open_image(path) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _QUARTER_TURNS else (width, height)


def content_hash(path: Path) -> str:
    """Hashes a file's bytes; equal pictures saved differently differ.

    Raises:
        DatasetError: if the file can't be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DatasetError.of(
            f"expected an image, but got: {error.strerror}", where=path, cure="Run `segsweep data check`."
        ) from error


def exif_turn(path: Path) -> bool:
    """Tells whether the file asks to be turned or mirrored when shown."""
    with open_image(path) as image:
        return _orientation(image) != 1


def read_image(path: Path) -> ImageArray:
    """Reads an 8-bit image as (H, W, 3) RGB; transparency is dropped.

    Raises:
        DatasetError: if the file is missing, can't be decoded, or is not 8-bit.
    """
    with open_image(path) as image:
        if image.mode not in _EIGHT_BIT_MODES:
            raise DatasetError.of(
                f"expected an 8-bit image, but got mode {image.mode}",
                where=path,
                cure="Convert it to 8 bits with the contrast that you want.",
            )
        upright = ImageOps.exif_transpose(image)
        colour = upright if upright.mode != "P" else upright.convert("RGBA")
        return np.asarray(colour.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    value: Any = image.getexif().get(_EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _undecodable(path: Path, error: Exception) -> DatasetError:
    reason = str(error).replace(f" {str(path)!r}", "")
    return DatasetError.of(
        f"expected an image, but it can't be decoded ({reason})", where=path, cure="Replace or remove the file."
    )
