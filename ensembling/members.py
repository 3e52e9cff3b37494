"""The members of an ensemble: prediction sets that speak of the same images and classes. Stands on `segdata`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segdata.errors import InputError
from segdata.predictions import PredictionMeta, PredictionSet

__all__ = ["open_members", "require_compatible"]


def open_members(paths: Sequence[Path]) -> tuple[PredictionSet, ...]:
    """Opens prediction sets and checks that they can be fused.

    Raises:
        InputError: If there is none, or two differ in task, classes, data set or images; names both.
        DatasetError: If a path is not a prediction set.
    """
    if not paths:
        raise InputError.of("expected at least one member, but got none", where="ensemble", cure="Name its members.")
    members = tuple(PredictionSet.open(path) for path in paths)
    require_compatible([str(path) for path in paths], [member.meta for member in members])
    return members


def require_compatible(names: Sequence[str], metas: Sequence[PredictionMeta]) -> None:
    """Checks every member against the first.

    Args:
        names: What to call each member in a message.
        metas: What each prediction set says about itself.

    Raises:
        InputError: Naming the two members and what differs.
    """
    for name, meta in zip(names[1:], metas[1:], strict=True):
        for what, aspect in _ASPECTS.items():
            expected, found = aspect(metas[0]), aspect(meta)
            if expected != found:
                raise InputError.of(
                    f"expected {what} {expected} as of {names[0]}, but got {found}",
                    where=name,
                    cure="Fuse only predictions of the same data by models of the same classes.",
                )
        _require_same_images(names[0], metas[0], name, meta)


_ASPECTS: dict[str, Callable[[PredictionMeta], Any]] = {
    "task": lambda meta: meta.task,
    "classes": lambda meta: meta.classes,
    "category ids": lambda meta: meta.category_ids,
    "dataset fingerprint": lambda meta: meta.dataset_fingerprint,
}


def _require_same_images(first_name: str, first: PredictionMeta, name: str, meta: PredictionMeta) -> None:
    """Compares image sets; ids count for instances only, where results refer to them."""
    with_id = first.task == "instance"
    expected = {(image.file_name, image.width, image.height, image.id if with_id else 0) for image in first.images}
    found = {(image.file_name, image.width, image.height, image.id if with_id else 0) for image in meta.images}
    if expected == found:
        return
    differing = sorted(expected ^ found)
    raise InputError.of(
        f"expected the {len(expected)} images of {first_name}, but got {len(found)} images, of which "
        f"{len(expected & found)} are the same in name, size and id; they differ in {differing[0][0]}",
        where=name,
        cure="Predict all members on the same images.",
    )
