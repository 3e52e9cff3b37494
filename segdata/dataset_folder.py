"""A dataset folder: `images/` with `annotations.json` (instance), with `labels/` (semantic), or with both."""

from dataclasses import dataclass
from pathlib import Path

from segdata.errors import DatasetError

__all__ = ["ANNOTATIONS", "IMAGES", "LABELS", "DatasetFolder", "open_dataset_folder"]

IMAGES = "images"
ANNOTATIONS = "annotations.json"
LABELS = "labels"


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """Where the parts of a data set lie; at least one of `annotations` and `labels` is there."""

    images: Path
    annotations: Path | None
    labels: Path | None


def open_dataset_folder(path: Path) -> DatasetFolder:
    """Finds the parts of a dataset folder; nothing is read.

    Raises:
        DatasetError: if it is no folder, or has no labels of either kind.
    """
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise DatasetError.of(f"expected a dataset folder, but got {found}", where=path, cure="Check the path.")
    annotations, labels = path / ANNOTATIONS, path / LABELS
    has_annotations, has_labels = annotations.is_file(), labels.is_dir()
    if not has_annotations and not has_labels:
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:3]) or "an empty folder"
        raise DatasetError.of(
            f"expected {IMAGES}/ with {ANNOTATIONS} or {LABELS}/, but got {found}",
            where=path,
            cure="Import your labels with `segsweep data import-masks` or `import-labels`.",
        )
    return DatasetFolder(path / IMAGES, annotations if has_annotations else None, labels if has_labels else None)
