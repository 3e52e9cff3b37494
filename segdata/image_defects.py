"""Defects of image files: missing, undecodable, of another size than stated, turned by EXIF, twice."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from segdata.defect import Defect
from segdata.errors import DatasetError
from segdata.images import content_hash, exif_turn, image_size, list_images, open_image

__all__ = ["duplicate_images", "file_defects", "unlisted_images"]

_SHOWN_NAMES = 5


def file_defects(path: Path, name: str, stated_size: tuple[int, int] | None) -> list[Defect]:
    """Decodes one image and compares it with the stated (width, height), if any."""
    if not path.is_file():
        return [Defect("missing-image", "error", name, None, f"no file {path}")]
    try:
        with open_image(path) as image:
            image.load()
        size, turned = image_size(path), exif_turn(path)
    except DatasetError as error:
        return [Defect("undecodable-image", "error", name, None, str(error))]
    found: list[Defect] = []
    if turned:
        found.append(
            Defect("turned-image", "warning", name, None, "EXIF orientation turns it when shown; labels must fit that")
        )
    if stated_size is not None and size != stated_size:
        detail = f"labels say {stated_size[0]}x{stated_size[1]}, the file is {size[0]}x{size[1]}"
        found.append(Defect("size-mismatch", "error", name, None, detail))
    return found


def duplicate_images(paths: Mapping[str, Path]) -> list[Defect]:
    """Lists files with the same content as an earlier one; missing files are not its business."""
    first: dict[tuple[int, str], str] = {}
    present = {name: path for name, path in sorted(paths.items()) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in present.items()}
    shared = {size for size, count in _counts(sizes.values()).items() if count > 1}
    found: list[Defect] = []
    for name, path in present.items():
        if sizes[name] in shared:
            original = first.setdefault((sizes[name], content_hash(path)), name)
            if original != name:
                found.append(Defect("duplicate-image", "warning", name, None, f"same picture as {original}"))
    return found


def unlisted_images(folder: Path, listed: Iterable[str], what: str) -> list[Defect]:
    """Says in one row which image files directly in the folder have no labels."""
    known = set(listed)
    names = [path.name for path in list_images(folder) if path.name not in known]
    if not names:
        return []
    shown = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
    return [Defect("unlisted-images", "warning", None, None, f"{len(names)} image files have no {what}: {shown}")]


def _counts(values: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
