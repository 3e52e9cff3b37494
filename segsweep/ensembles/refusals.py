"""What can't come of a request for ensembles, refused before anything is trained or predicted.

Imports candidates' sources that are at hand: other tools' predictions.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ensembling.fusion import METHODS
from segdata.errors import InputError
from segdata.foreign_predictions import import_predictions
from segdata.instances import InstanceDataset
from segdata.predictions import PredictionSet
from segsweep.data_roles import RoleData
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.judge import OUT_OF_FOLD, judge_by_role
from segsweep.ensembles.members import Shelf
from segsweep.ensembles.other_tools import other_tools
from segsweep.ensembles.pool import POOLED
from segsweep.prediction_source import images_of_data

__all__ = ["refuse_other_tools", "refuse_request", "refuse_unknown_methods"]


def refuse_request(config: EnsembleConfig, task: str, scored: str, has_judge: bool) -> None:
    """Raises InputError for parts of a request that do not go together.

    Args:
        config: The request.
        task: Of the sweep.
        scored: Role that is scored.
        has_judge: Whether a role is there to choose on, beside the scored one.
    """
    if config.stride != 1 and task != "semantic":
        raise InputError.of(
            f"expected a stride with class probabilities, but got {config.stride} for a sweep of instances",
            where="--stride",
            cure="Leave it out.",
        )
    if config.folds:
        refuse_beside_folds(config, scored)
    if config.most_milliseconds is not None and config.add:
        raise InputError.of(
            f"expected members whose time is known, but got {', '.join(config.add)}",
            where="--most-ms",
            cure="Leave the limit out, or the other tools.",
        )
    several = config.top + len(config.add) > 1 or config.epochs or config.averages
    chooses = has_judge or bool(config.folds)
    if config.tta or ("all" in config.select and several) or ("greedy" in config.select and chooses):
        return
    missing = "two candidates or more, but got one" if chooses else "other images than the scored ones, but got none"
    raise InputError.of(
        f"expected {missing}",
        where="--select",
        cure="Add `select` to the sweep file's data, take --folds 5, or --select all with --top 2 or more.",
    )


def refuse_beside_folds(config: EnsembleConfig, scored: str) -> None:
    """Raises InputError where folds would be chosen or scored on images that networks have trained on."""
    seen = "Networks have trained on images that folds hold out, so the two can't be chosen on the same images."
    if config.epochs or config.averages:
        named = "--epochs" if config.epochs else "--averages"
        raise InputError.of(
            f"expected folds alone, or epochs and averages without folds, but got {named} with --folds",
            where=named,
            cure=seen,
        )
    if scored in POOLED:
        raise InputError.of(
            f"expected a role that folds do not train on (test or select), but got {scored}",
            where="--on",
            cure="Add `test` to the sweep file's data, or leave --folds out.",
        )
    if config.most_models is not None and config.most_models < config.folds:
        raise InputError.of(
            f"expected at least {config.folds}, the networks of one configuration, but got {config.most_models}",
            where="--most-models",
            cure="Raise it, or take fewer folds.",
        )


def refuse_unknown_methods(methods: Sequence[str], task: str) -> None:
    """Raises InputError for a method that is none of the task's."""
    known = [name for name, method in METHODS.items() if method.task == task]
    for name in methods:
        if name not in known:
            raise InputError.of(
                f"expected a fusion method of the task {task} ({', '.join(known)}), but got {name!r}",
                where="--method",
                cure="Choose one of these.",
            )


def refuse_other_tools(shelf: Shelf, config: EnsembleConfig, methods: Sequence[str], scored: str) -> None:
    """Raises InputError if another tool lacks predictions of images that are scored or chosen on, or a method can't
    read them. All are read, out-of-fold ones too: folds take hours to train.

    Raises:
        DatasetError: Something in them is wrong.
    """
    judge = judge_by_role(shelf, scored)
    roles = [scored] if config.folds or judge is None else [scored, judge.name]
    for entry in other_tools(shelf, config.add, dict(shelf.roles.roles)):
        for role in roles:
            refuse_unreadable(entry.name, PredictionSet.open(shelf.sets(entry, role)[0]), methods)
        if config.folds:
            refuse_wrong_folds(entry.name, shelf, config)


def refuse_unreadable(name: str, given: PredictionSet, methods: Sequence[str]) -> None:
    """Raises InputError if a method reads other predictions than a tool gives."""
    for method in methods:
        if given.meta.codec not in METHODS[method].reads:
            raise InputError.of(
                f"expected {' or '.join(METHODS[method].reads)} for {method}, but got {given.meta.codec} of {name}",
                where="--method",
                cure="Label maps can be fused by --method hard-vote.",
            )


def refuse_wrong_folds(name: str, shelf: Shelf, config: EnsembleConfig) -> None:
    """Raises InputError if a tool's out-of-fold predictions are missing, wrong, or could not name the pool's images."""
    folder = shelf.sweep.folder / config.add[name]
    path = folder / (f"{OUT_OF_FOLD}.json" if shelf.sweep.config.task == "instance" else OUT_OF_FOLD)
    where = f"--add {name}={folder}"
    if not path.exists():
        raise InputError.of(
            f"expected {path.name}, predictions of all images of train and val, but got none",
            where=where,
            cure="Predict each of them by a network that was not trained on it, or leave --folds out.",
        )
    first, second = (names_of(shelf.roles.roles[role]) for role in POOLED)
    kind = "ids" if path.suffix else "names"
    if shared := sorted(map(str, first & second)):
        raise InputError.of(
            f"expected images of train and val whose {kind} differ, but got {shared[0]} in both",
            where=where,
            cure="Number or name them anew in the sweep's data, or leave --add or --folds out.",
        )
    read_out_of_fold(path, shelf)


def read_out_of_fold(path: Path, shelf: Shelf) -> None:
    """Reads predictions of all images of train and val, which differ in ids or in stems.

    Raises:
        DatasetError: Something in them is wrong.
    """
    parts = {role: images_of_data(shelf.roles.roles[role]) for role in POOLED}
    images = [(role, file.image) for role, part in parts.items() for file in part.files]
    if path.suffix:  # names may be in both, ids are not; of label maps it is the other way round
        told_apart = [image.model_copy(update={"file_name": f"{role}/{image.file_name}"}) for role, image in images]
    else:
        told_apart = [image.model_copy(update={"id": number}) for number, (_, image) in enumerate(images)]
    train = parts[POOLED[0]]
    with TemporaryDirectory() as scratch:
        import_predictions(
            path,
            told_apart,
            classes=train.classes or (),
            category_ids=train.category_ids,
            fingerprint="",
            folder=Path(scratch),
        )


def names_of(role: RoleData) -> set[int] | set[str]:
    """Returns by what another tool's predictions name a role's images."""
    if isinstance(role.truth, InstanceDataset):
        return {image.id for image in role.truth.images}
    return {name.rpartition(".")[0] for name in role.names}
