"""The members of an ensemble: prediction sets that speak of the same images and classes. Stands on `segdata`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from segdata.errors import InputError
from segdata.predictions import ImageInstances, PredictionMeta, PredictionSet

__all__ = ["open_members", "read_instances", "refuse_empty", "require_compatible"]

_SHOWN = 8  # names in a message


def open_members(paths: Sequence[Path]) -> tuple[PredictionSet, ...]:
    """Opens prediction sets and checks that they can be fused.

    Raises:
        InputError: If there is none, one has no image, or two differ in task, classes, data set or images; names both.
        DatasetError: If a path is not a prediction set.
    """
    if not paths:
        raise InputError.of("expected at least one member, but got none", where="ensemble", cure="Name its members.")
    members = tuple(PredictionSet.open(path) for path in paths)
    for path, member in zip(paths, members, strict=True):
        if not member.meta.images:
            raise InputError.of("expected predicted images, but got none", where=path, cure="Predict the member again.")
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
                    f"expected {what} {_told(expected, found)} as of {names[0]}, but got {_told(found, expected)}",
                    where=name,
                    cure="Fuse only predictions of the same data by models of the same classes.",
                )
        _require_same_images(names[0], metas[0], name, meta)


def refuse_empty(members: Sequence[PredictionSet]) -> None:
    """Raises InputError, naming the member, if one found no object in any image."""
    for member in members:
        if member.is_empty():
            raise InputError.of(
                f"expected objects in some of {len(member.meta.images)} images, but got none",
                where=member.path,
                cure="Leave this member out, or predict it again with a lower confidence threshold.",
            )


def read_instances(member: PredictionSet, file_name: str) -> ImageInstances:
    """Reads one image's objects and checks their confidences.

    Raises:
        InputError: If a confidence is not within 0..1; names the member and the image.
        DatasetError: As `PredictionSet.instances`.
    """
    found = member.instances(file_name)
    wrong = ~((found.confidences >= 0) & (found.confidences <= 1))
    if wrong.any():
        raise InputError.of(
            f"expected confidences within 0..1 in {file_name}, but got {found.confidences[wrong][0]:g}",
            where=member.path,
            cure="Predict the member again, or divide its confidences by the largest that it can give.",
        )
    return found


_ASPECTS: dict[str, Callable[[PredictionMeta], Any]] = {
    "task": lambda meta: meta.task,
    "classes": lambda meta: meta.classes,
    "category ids": lambda meta: meta.category_ids,
    "dataset fingerprint": lambda meta: meta.dataset_fingerprint,
}


def _told(value: Any, other: Any) -> Any:
    """A short value whole; of a long list its length and the first entry that differs."""
    if not isinstance(value, tuple) or max(len(value), len(other)) <= _SHOWN:
        return value
    place = next(index for index in range(len(value) + 1) if value[index : index + 1] != other[index : index + 1])
    entry = repr(value[place]) if place < len(value) else "none"
    return f"{len(value)} with {entry} at place {place}"


def _require_same_images(first_name: str, first: PredictionMeta, name: str, meta: PredictionMeta) -> None:
    """Compares image sets; ids count for instances only, where results refer to them."""
    with_id = first.task == "instance"
    expected, found = (
        {image.file_name: (image.width, image.height, image.id if with_id else 0) for image in known.images}
        for known in (first, meta)
    )
    differing = {
        "missing": expected.keys() - found.keys(),
        "too many": found.keys() - expected.keys(),
        "of another size or id": {image for image in expected.keys() & found.keys() if expected[image] != found[image]},
    }
    if not any(differing.values()):
        return
    told = "; ".join(f"{what}: {_listed(sorted(images))}" for what, images in differing.items() if images)
    raise InputError.of(
        f"expected the {len(expected)} images of {first_name}, but got {len(found)} images ({told})",
        where=name,
        cure="Predict all members on the same images.",
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
