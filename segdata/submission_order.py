"""The order of a submission, as a contest's sample file has it: a CSV file that names an image in each row.

May import this package.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segdata.errors import InputError
from segdata.prediction_meta import PredictedImage

__all__ = ["Order", "read_order"]

_SHOWN = 3  # names in a message


@dataclass(frozen=True, slots=True)
class Order:
    """What a file calls the images, and the images meant.

    Attributes:
        header: The file's first row.
        names: What it calls the images.
        images: Parallel to `names`.
        path: Of the file.
    """

    header: tuple[str, ...]
    names: tuple[str, ...]
    images: tuple[PredictedImage, ...]
    path: Path


def read_order(path: Path, images: Sequence[PredictedImage]) -> Order:
    """Reads a CSV file whose first column names the images; its first row is the header, all else is passed over.

    A row means the image whose file name it is; else the one image whose file name is the same without folders and
    without the ending.

    Raises:
        InputError: The file can't be read, a row names no predicted image or one again, or predicted images have none.
    """
    header, rows = _read(path)
    exact = {image.file_name: image for image in images}
    by_stem: dict[str, list[PredictedImage]] = {}
    for image in images:
        by_stem.setdefault(Path(image.file_name).stem, []).append(image)
    line_of: dict[str, int] = {}
    listed = []
    for line, name in rows:
        image = _meant(name, exact, by_stem, f"{path}:{line}")
        first = line_of.setdefault(image.file_name, line)
        if first != line:
            raise InputError.of(
                f"expected each image once, but got {name!r}, which line {first} names",
                where=f"{path}:{line}",
                cure="Remove a row.",
            )
        listed.append(image)
    missing = [image.file_name for image in images if image.file_name not in line_of]
    if missing:
        raise InputError.of(
            f"expected a row for each of {len(images)} predicted images, but got none for {len(missing)} of them "
            f"({', '.join(missing[:_SHOWN])}{' ...' if len(missing) > _SHOWN else ''})",
            where=path,
            cure="Add them, or predict only what it lists.",
        )
    return Order(header, tuple(name for _, name in rows), tuple(listed), path)


def _read(path: Path) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    """Returns the header, and the first field of each other row with its line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = tuple(next(reader, ()))
            return header, [(reader.line_num, row[0]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError.of(
            f"expected a CSV file that names images, but got: {found}", where=path, cure="Check the path."
        ) from error


def _meant(
    name: str, exact: Mapping[str, PredictedImage], by_stem: Mapping[str, Sequence[PredictedImage]], where: str
) -> PredictedImage:
    last = Path(name).name  # without an ending, what follows a dot may be part of the name
    found = [exact[name]] if name in exact else by_stem.get(Path(last).stem) or by_stem.get(last) or []
    if len(found) != 1:
        problem = f"{len(found)} images may be" if found else f"none of {len(exact)} is"
        raise InputError.of(
            f"expected the name of a predicted image, but got {name!r}, which {problem}",
            where=where,
            cure="Predict this image too, or correct the row.",
        )
    return found[0]
