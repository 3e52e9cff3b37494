"""Splits a data set as it lies on disk: strata and duplicate pictures found, fingerprint taken, split drawn."""

from dataclasses import dataclass, replace
from pathlib import Path

from segdata.fingerprint import instance_fingerprint, semantic_fingerprint
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset
from segdata.splits import Split, make_split
from segdata.strata import instance_strata, same_content_groups, semantic_strata

__all__ = ["Shares", "split_instances", "split_semantic"]


@dataclass(frozen=True, slots=True)
class Shares:
    """How much goes where: shares of all images, and folds; see `make_split`."""

    val: float = 0.2
    test: float = 0.0
    select: float = 0.0
    folds: int = 1
    seed: int = 7


def split_instances(dataset: InstanceDataset, images: Path | None, shares: Shares) -> Split:
    """Splits by object count and rarest class; given the images folder, copies of a picture stay together.

    Raises:
        InputError: if the shares do not fit the number of images.
        DatasetError: if an image is missing.
    """
    paths = {} if images is None else {image.file_name: images / image.file_name for image in dataset.images}
    groups = same_content_groups(paths)
    return _split(instance_strata(dataset), groups, instance_fingerprint(dataset, images), shares)


def split_semantic(dataset: SemanticDataset, shares: Shares) -> Split:
    """Splits by the rarest class present; copies of a picture stay together.

    Raises:
        InputError: if the shares do not fit the number of images.
        DatasetError: if an image is missing, or a label map has pixels of no class.
    """
    groups = same_content_groups({image.name: image.image_path for image in dataset.images})
    return _split(semantic_strata(dataset), groups, semantic_fingerprint(dataset), shares)


def _split(strata: dict[str, str], groups: dict[str, str], fingerprint: str, shares: Shares) -> Split:
    split = make_split(
        strata,
        val=shares.val,
        test=shares.test,
        select=shares.select,
        folds=shares.folds,
        seed=shares.seed,
        groups=groups,
        dataset_fingerprint=fingerprint,
    )
    if not groups:
        return split
    remark = f"{len(groups)} images are the same picture as another one; copies stay on one side"
    return replace(split, remarks=(remark, *split.remarks))
