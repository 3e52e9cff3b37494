"""What a split keeps in proportion, and which images it must keep together."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segdata.errors import DatasetError
from segdata.images import content_hash
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset, read_label_map

__all__ = ["instance_strata", "same_content_groups", "semantic_strata"]

_COUNT_BINS = ("few", "some", "many")


def instance_strata(dataset: InstanceDataset) -> dict[str, str]:
    """Maps file name to "<few|some|many> <rarest class present>".

    The bins are the thirds of the object count over all images; rarity counts the class's objects; of equally rare
    classes the lower category id. An image without objects is "none".
    """
    counts = [len(dataset.objects_of(image.id)) for image in dataset.images]
    edges = np.quantile(counts, (1 / 3, 2 / 3)) if counts else np.zeros(2)
    rarity = Counter(obj.category_id for obj in dataset.objects)
    name_of = {category.id: category.name for category in dataset.categories}
    strata: dict[str, str] = {}
    for image, count in zip(dataset.images, counts, strict=True):
        present = {obj.category_id for obj in dataset.objects_of(image.id)}
        rarest = min(present, key=lambda category_id: (rarity[category_id], category_id), default=None)
        size = _COUNT_BINS[int(np.searchsorted(edges, count, side="left"))]
        strata[image.file_name] = "none" if rarest is None else f"{size} {name_of[rarest]}"
    return strata


def semantic_strata(dataset: SemanticDataset) -> dict[str, str]:
    """Maps file name to the rarest class present, by pixels over the data set; "none" if all pixels are ignored.

    Raises:
        DatasetError: if a pixel is neither a class index nor the ignore index.
    """
    counts = np.zeros(256, dtype=np.int64)
    present: dict[str, list[int]] = {}
    for image in dataset.images:
        found = np.bincount(read_label_map(image.label_path).ravel(), minlength=256)
        counts += found
        present[image.name] = [int(value) for value in np.flatnonzero(found) if value != dataset.ignore_index]
        if present[image.name] and present[image.name][-1] >= len(dataset.classes):
            raise DatasetError.of(
                f"expected pixels from 0 to {len(dataset.classes) - 1}, but got {present[image.name][-1]}",
                where=image.label_path,
                cure="Add the class to classes.json or correct the label map.",
            )
    strata: dict[str, str] = {}
    for name, classes in present.items():
        rarest = min(classes, key=lambda index: (counts[index], index), default=None)
        strata[name] = "none" if rarest is None else dataset.classes[rarest]
    return strata


def same_content_groups(paths: Mapping[str, Path]) -> dict[str, str]:
    """Maps the names of files with equal content to a common group; files that stand alone are left out.

    Raises:
        DatasetError: if a file is missing.
    """
    by_size: dict[int, list[str]] = {}
    for name in sorted(paths):
        size = paths[name].stat().st_size if paths[name].is_file() else -1  # hashing names the missing one
        by_size.setdefault(size, []).append(name)
    by_content: dict[str, list[str]] = {}
    for size, names in by_size.items():
        for name in names if len(names) > 1 or size < 0 else ():
            by_content.setdefault(content_hash(paths[name]), []).append(name)
    return {name: names[0] for names in by_content.values() if len(names) > 1 for name in names}
