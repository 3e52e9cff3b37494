"""From a sweep's data section to the files and statistics that trials read: one file a role, written once a sweep.

All reading and checking comes before the first write. Imports segdata and trainables' records.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from segdata.coco import read_coco, write_coco
from segdata.errors import DatasetError
from segdata.fingerprint import instance_fingerprint, label_map_sums, semantic_fingerprint
from segdata.images import read_image
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset, read_labels
from segdata.remote_folder import fetch_folder
from segdata.splits import read_split
from segdata.statistics import object_statistics, pixel_statistics
from segsweep.sweep_file import Role, Sweep
from trainables.description import DataDescription, RoleFiles

__all__ = ["RoleData", "SweepRoles", "check_images", "read_roles"]

Truth = InstanceDataset | SemanticDataset
DECODED_AT_MOST = 20_000  # images that are decoded before the start; of larger sets an even part


@dataclass(frozen=True)
class RoleData:
    """One role: its labels in memory, where its images lie, and its content's fingerprint.

    `label_sums` has the SHA-256 of each label map, by the name of its image; `remote` the URL of each folder whose
    files were fetched.
    """

    truth: Truth
    images: Path
    labels: Path | None
    fingerprint: str
    label_sums: Mapping[str, str] = field(default_factory=dict)
    remote: Mapping[Path, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The file names of its images."""
        if isinstance(self.truth, InstanceDataset):
            return tuple(image.file_name for image in self.truth.images)
        return tuple(image.name for image in self.truth.images)


@dataclass(frozen=True)
class SweepRoles:
    """All labelled roles of a sweep."""

    roles: Mapping[str, RoleData]

    @property
    def fingerprint(self) -> str:
        """Of all roles together, 16 hex digits."""
        text = " ".join(f"{name}={role.fingerprint}" for name, role in sorted(self.roles.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def files(self, name: str, folder: Path) -> RoleFiles:
        """Returns where a role's files lie once they are written to `folder`."""
        role = self.roles[name]
        if isinstance(role.truth, InstanceDataset):
            return RoleFiles(role.images, annotations=folder / f"{name}.json")
        suffix = Path(role.names[0]).suffix
        return RoleFiles(role.images, labels=role.labels, stems=folder / f"{name}.txt", suffix=suffix)

    def write(self, folder: Path) -> None:
        """Writes one COCO file or list of stems a role."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, role in self.roles.items():
            if isinstance(role.truth, InstanceDataset):
                write_coco(role.truth, folder / f"{name}.json")
            else:
                (folder / f"{name}.txt").write_text("".join(f"{Path(image).stem}\n" for image in role.names))

    def describe(self, folder: Path) -> DataDescription:
        """Returns what trials are told: files of train and val, classes, and the statistics of train."""
        train = self.roles["train"].truth
        instance = isinstance(train, InstanceDataset)
        return DataDescription(
            task="instance" if instance else "semantic",
            classes=classes_of(train),
            train=self.files("train", folder),
            val=self.files("val", folder),
            statistics=object_statistics(train) if isinstance(train, InstanceDataset) else pixel_statistics(train),
            fingerprint=self.fingerprint,
        )


def read_roles(sweep: Sweep) -> SweepRoles:
    """Reads every labelled role of the sweep.

    Raises:
        DatasetError: Labels are broken, a role is empty, or roles disagree about the classes.
    """
    roles = split_roles(sweep) if sweep.data.dataset else given_roles(sweep)
    classes = {name: classes_of(role.truth) for name, role in roles.items()}
    for name, role in roles.items():
        if not role.names:
            raise DatasetError.of("expected images, but got none", where=f"data.{name}", cure="Check the split.")
        if classes[name] != classes["train"]:
            raise DatasetError.of(
                f"expected the classes of train {classes['train']}, but got {classes[name]}",
                where=f"data.{name}",
                cure="Label both with the same classes, in the same order.",
            )
        refuse_mixed_suffixes(name, role)
    return SweepRoles(roles)


def given_roles(sweep: Sweep) -> dict[str, RoleData]:
    """Reads the roles that the sweep file lists one by one."""
    labelled = {name: role for name, role in sweep.data.roles.items() if role.annotations or role.labels}
    return {name: role_data(read_truth(role), role) for name, role in labelled.items()}


def split_roles(sweep: Sweep) -> dict[str, RoleData]:
    """Reads the dataset and cuts it by the split file."""
    dataset, path = sweep.data.dataset, sweep.data.split
    assert dataset is not None and path is not None
    split, whole = read_split(path), read_truth(dataset)
    if sweep.data.fold >= len(split.folds):
        raise DatasetError.of(
            f"expected a fold below {len(split.folds)}, but got {sweep.data.fold}", where="data.fold", cure="Lower it."
        )
    fold = split.folds[sweep.data.fold]
    names = {"train": fold.train, "val": fold.val, "test": split.test, "select": split.select}
    return {name: role_data(whole.subset(part), dataset) for name, part in names.items() if part}


def read_truth(role: Role) -> Truth:
    """Reads the labels of one role, after its images are here if they lie on an object store.

    Raises:
        DatasetError: Labels are broken, or files can't be fetched.
    """
    for place, url in role.remote.items():
        fetch_folder(url, place)
    if role.annotations is not None:
        return read_coco(role.annotations)
    assert role.labels is not None
    return read_labels(role.images, role.labels)


def role_data(truth: Truth, role: Role) -> RoleData:
    if isinstance(truth, InstanceDataset):
        fingerprint = instance_fingerprint(truth, role.images)
        return RoleData(truth, role.images, role.labels, fingerprint, remote=role.remote)
    sums = label_map_sums(truth)
    return RoleData(truth, role.images, role.labels, semantic_fingerprint(truth, sums), sums, role.remote)


def classes_of(truth: Truth) -> tuple[str, ...]:
    return truth.class_names if isinstance(truth, InstanceDataset) else truth.classes


def refuse_mixed_suffixes(name: str, role: RoleData) -> None:
    """MMSegmentation pairs images and label maps by one suffix."""
    suffixes = sorted({Path(image).suffix for image in role.names})
    if isinstance(role.truth, SemanticDataset) and len(suffixes) > 1:
        raise DatasetError.of(
            f"expected one kind of image file, but got {', '.join(suffixes)}",
            where=f"data.{name} in {role.images}",
            cure="Convert the images to one kind.",
        )


def check_images(roles: SweepRoles) -> None:
    """Decodes the images of all roles, so that a broken one is found before money is spent.

    Raises:
        DatasetError: An image is missing or can't be decoded.
    """
    paths = [role.images / name for role in roles.roles.values() for name in role.names]
    step = max(1, len(paths) // DECODED_AT_MOST)
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda path: read_image(path).shape, paths[::step]):
            continue
