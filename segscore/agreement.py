"""Whether predictions and truth belong together: the same task, classes, images and sizes.

Nothing is scored where they differ; the message names what differs. May import `segdata`.
"""

from collections.abc import Sequence

from segdata.errors import DatasetError, InputError
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset
from segdata.predictions import PredictionSet

__all__ = ["require_agreement"]

_CURE = "Predict the truth's images with a model of the truth's classes."
_NAMED = 3


def require_agreement(truth: InstanceDataset | SemanticDataset, predictions: PredictionSet) -> None:
    """Checks that a prediction set can be scored against the truth; predicted images beyond the truth's may be there.

    Raises:
        InputError: If the tasks differ.
        DatasetError: If the classes, or the size of an image, differ, or images of the truth were not predicted.
    """
    task = "instance" if isinstance(truth, InstanceDataset) else "semantic"
    if predictions.meta.task != task:
        raise InputError.of(
            f"expected predictions of the truth's task, {task}, but got {predictions.meta.task}",
            where=f"prediction set {predictions.path}",
            cure="Score instances against COCO annotations, and semantic predictions against label maps.",
        )
    _require_same_classes(truth, predictions)
    _require_images(truth, predictions)


def _require_same_classes(truth: InstanceDataset | SemanticDataset, predictions: PredictionSet) -> None:
    found = predictions.meta.classes
    if isinstance(truth, InstanceDataset):
        wanted, same = truth.class_names, set(truth.class_names) == set(found)
    else:
        wanted, same = truth.classes, truth.classes == found
    if same:
        return
    missing, strange = [name for name in wanted if name not in found], [name for name in found if name not in wanted]
    details = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"not in the truth: {', '.join(strange)}"] * bool(
        strange
    )
    in_order = " in this order" if isinstance(truth, SemanticDataset) else ""
    raise DatasetError.of(
        f"expected the truth's classes ({', '.join(wanted)}){in_order}, but got ({', '.join(found)})"
        + (f"; {', '.join(details)}" if details else ""),
        where=f"classes of the prediction set {predictions.path}",
        cure=_CURE,
    )


def _require_images(truth: InstanceDataset | SemanticDataset, predictions: PredictionSet) -> None:
    if isinstance(truth, InstanceDataset):
        wanted = {image.file_name: (image.width, image.height) for image in truth.images}
    else:
        wanted = {image.name: (image.width, image.height) for image in truth.images}
    if not wanted:
        raise InputError.of("expected images in the truth, but got none", where="truth", cure="Name labelled images.")
    found = {image.file_name: (image.width, image.height) for image in predictions.meta.images}
    if missing := [name for name in wanted if name not in found]:
        raise DatasetError.of(
            f"expected a prediction for {_listed(missing)}, but got none among {len(found)} predicted images",
            where=predictions.path,
            cure="Predict these images too: a missing prediction is not counted as empty.",
        )
    if other := [name for name, size in wanted.items() if found[name] != size]:
        (width, height), got = wanted[other[0]], found[other[0]]
        problem = f"expected {width}x{height} pixels for {_listed(other)}, but got {got[0]}x{got[1]}"
        raise DatasetError.of(problem, where=predictions.path, cure="Predict at the size of the truth.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more images" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
