"""The pool of a sweep, all images that it trains and validates on, as one data set, and the folds that it is cut into.

    RUN/folds/pool/            links to images and label maps that lie in several folders or share names
    RUN/folds/k5/folds.json    which images are held out together: a split file

Imports segdata and the sweep's roles.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segdata.atomic import new_folder
from segdata.dataset_split import Shares, split_instances, split_semantic
from segdata.errors import InputError
from segdata.instances import InstanceDataset
from segdata.joining import distinct_names, join_instances
from segdata.labelmaps import SemanticDataset, write_classes
from segdata.splits import Split, read_split, write_split
from segsweep.data_roles import RoleData, SweepRoles, Truth, refuse_mixed_suffixes, role_data
from segsweep.run_folder import RunFolder
from segsweep.sweep_file import Role, Sweep

__all__ = ["Pool", "pool_of"]

POOLED = ("train", "val")
MOST_FOLDS = 100


@dataclass(frozen=True)
class Pool:
    """All images of train and val, in this order, and their folds.

    Attributes:
        data: The images with their truth, under names and ids that occur once.
        split: Which of them are held out together.
        folder: Where networks and predictions of these folds lie.
    """

    data: RoleData
    split: Split
    folder: Path

    def fold(self, number: int) -> SweepRoles:
        """Returns what the network of a fold trains on, and as `val` what is held out."""
        fold, data = self.split.folds[number], self.data
        where = Role(data.images, labels=data.labels, remote=data.remote)
        parts = {"train": fold.train, "val": fold.val}
        return SweepRoles({name: role_data(data.truth.subset(names), where) for name, names in parts.items()})


def pool_of(sweep: Sweep, roles: SweepRoles, folds: int) -> Pool:
    """Joins train and val and cuts them into folds.

    The folds are those of the sweep's split file if it has as many, of the same images; else they are drawn as
    `segsweep data split --folds` does, by the sweep's seed, so that copies of a picture stay together. Each call gives
    the same.

    Raises:
        InputError: There are fewer images than folds, train and val share an image or don't go together, or the folds
            on disk are those of other images.
    """
    if not 2 <= folds <= MOST_FOLDS:
        raise InputError.of(f"expected 2 to {MOST_FOLDS} folds, but got {folds}", where="folds", cure="Take 5, say.")
    run, parts = RunFolder(sweep.path), {name: roles.roles[name] for name in POOLED}
    if (count := sum(len(role.names) for role in parts.values())) < folds:
        problem = f"expected at least {folds} images in train and val for {folds} folds, but got {count}"
        raise InputError.of(problem, where="folds", cure="Lower the number of folds or add images.")
    data = pooled(parts, run.folds / "pool")
    folder = run.folds / f"k{folds}"
    path = folder / "folds.json"
    if path.is_file():
        split = read_split(path)
        refuse_other_images(split, data, path)
    else:
        split = given_folds(sweep, data, folds) or drawn_folds(data, folds, sweep.config.search.seed)
        write_split(split, path)
    return Pool(data, split, folder)


def pooled(parts: Mapping[str, RoleData], folder: Path) -> RoleData:
    """Returns roles as one; `folder` takes links to their files where these lie apart.

    Raises:
        InputError: They share an image, or their label maps don't go together.
    """
    first = next(iter(parts.values()))
    refuse_shared_images(parts)
    is_instance = isinstance(first.truth, InstanceDataset)
    listed = {name: role.names for name, role in parts.items()}
    names = distinct_names(listed, by_stem=not is_instance)
    together = len({(place_of(role.images), place_of(role.labels)) for role in parts.values()}) == 1
    where = Role(first.images, labels=first.labels, remote=first.remote)
    if not together:
        where = Role(folder / "images", labels=None if is_instance else folder / "labels")
    truth = joined_truth([role.truth for role in parts.values()], names, where)
    refuse_mixed_suffixes(" and data.".join(parts), RoleData(truth, where.images, where.labels, fingerprint=""))
    if not together:
        place_links(parts, names, folder)
    return role_data(truth, where)


def place_of(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def refuse_shared_images(parts: Mapping[str, RoleData]) -> None:
    """Raises InputError if a file is in two roles; it would be held out and trained on at once."""
    seen: dict[Path, str] = {}
    for name, role in parts.items():
        for path in (place / image for place in [role.images.resolve()] for image in role.names):
            if path in seen:
                raise InputError.of(
                    f"expected each image in one role, but got {path.name} in {seen[path]} and {name}",
                    where="data",
                    cure="Folds hold an image out or train on it: list different images, or use a split file.",
                )
            seen[path] = name


def joined_truth(truths: Sequence[Truth], names: tuple[dict[str, str], ...], where: Role) -> Truth:
    """Joins the labels of roles, all of one kind."""
    instances = [truth for truth in truths if isinstance(truth, InstanceDataset)]
    if instances:
        return join_instances(instances, names)
    return joined_label_maps([truth for truth in truths if isinstance(truth, SemanticDataset)], names, where)


def joined_label_maps(parts: list[SemanticDataset], names: tuple[dict[str, str], ...], where: Role) -> SemanticDataset:
    """Joins label maps whose files lie, or have been linked, in one place, in the order of their new names.

    Raises:
        InputError: They differ in the value of ignored pixels.
    """
    ignored = {part.ignore_index for part in parts}
    if len(ignored) > 1:
        raise InputError.of(
            f"expected one ignore_index in the label folders, but got {', '.join(map(str, sorted(ignored)))}",
            where="data",
            cure="Write both label folders with the same one.",
        )
    assert where.labels is not None  # of semantic data
    entries = [
        replace(
            image,
            name=new[image.name],
            image_path=where.images / new[image.name],
            label_path=where.labels / label_name(new[image.name]),
        )
        for part, new in zip(parts, names, strict=True)
        for image in part.images
    ]
    return replace(parts[0], images=tuple(sorted(entries, key=lambda image: image.name)))


def label_name(image: str) -> str:
    return f"{Path(image).stem}.png"


def place_links(parts: Mapping[str, RoleData], names: tuple[dict[str, str], ...], folder: Path) -> None:
    """Fills `folder` with links to the images, under their new names, and label maps; one that is there stays."""
    if folder.is_dir():
        return
    with new_folder(folder) as fresh:
        for role, new in zip(parts.values(), names, strict=True):
            for name in role.names:
                place_file(role.images / name, fresh / "images" / new[name], role)
                if role.labels is not None:
                    place_file(role.labels / label_name(name), fresh / "labels" / label_name(new[name]), role)
            if isinstance(role.truth, SemanticDataset):
                write_classes(fresh / "labels", role.truth.classes, role.truth.ignore_index)


def place_file(source: Path, target: Path, role: RoleData) -> None:
    """Makes a symbolic link; a copy of what was fetched from a URL, which lies on this machine only, and where the file
    system has no links.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if role.remote:
        shutil.copyfile(source, target)
        return
    try:
        target.symlink_to(os.path.abspath(source))
    except OSError:
        shutil.copyfile(source, target)


def refuse_other_images(split: Split, data: RoleData, path: Path) -> None:
    """Raises InputError if the folds on disk are not those of this pool."""
    if split.dataset_fingerprint != data.fingerprint:
        raise InputError.of(
            f"expected folds of the data with fingerprint {data.fingerprint}, but got {split.dataset_fingerprint}",
            where=path,
            cure=f"Remove {path.parent} to train the folds again.",
        )


def given_folds(sweep: Sweep, data: RoleData, folds: int) -> Split | None:
    """Returns the folds of the sweep's split file if they are as many and share out exactly the pool's images."""
    if sweep.data.split is None:
        return None
    given = read_split(sweep.data.split)
    whole = sorted(data.names)
    if len(given.folds) != folds or any(sorted((*fold.train, *fold.val)) != whole for fold in given.folds):
        return None
    if sorted(name for fold in given.folds for name in fold.val) != whole:
        return None
    return Split(given.seed, data.fingerprint, given.folds, (), (), (f"the folds of {sweep.data.split.name}",))


def drawn_folds(data: RoleData, folds: int, seed: int) -> Split:
    """Draws stratified folds; copies of a picture stay together."""
    shares = Shares(val=0, folds=folds, seed=seed)
    if isinstance(data.truth, InstanceDataset):
        return split_instances(data.truth, data.images, shares)
    return split_semantic(data.truth, shares)
