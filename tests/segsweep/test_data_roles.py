"""From the data section to what trials read: roles, splits, and every refusal."""

import json
import shutil
from pathlib import Path

import pytest

from segdata.coco import read_coco, write_coco
from segdata.errors import DatasetError, InputError
from segdata.instances import Category, InstanceDataset
from segdata.labelmaps import write_classes
from segdata.synthetic import synthesize
from segsweep.data_roles import SweepRoles, check_images, read_roles
from segsweep.sweep_file import SweepConfig, resolve_sweep

FIXED = {"instance": {"model": "mask-rcnn"}, "semantic": {"model": "segformer"}}


def roles_of(folder: Path, task: str, data: dict[str, object]) -> SweepRoles:
    values = {"name": "x", "task": task, "data": data, "budget": {"trials": 1}, "fixed": FIXED[task]}
    return read_roles(resolve_sweep(SweepConfig.model_validate(values), folder))


@pytest.fixture
def particles(tmp_path: Path) -> Path:
    return synthesize("particles", tmp_path / "particles", images=6, size=64)


@pytest.fixture
def litter(tmp_path: Path) -> Path:
    return synthesize("litter", tmp_path / "litter", images=6, size=64)


def instance_role(folder: Path) -> dict[str, str]:
    return {"annotations": str(folder / "annotations.json"), "images": str(folder / "images")}


def split_file(path: Path, names: list[str], **more: list[str]) -> Path:
    folds = [{"train": names[:3], "val": names[3:5]}]
    values = {"schema_version": 1, "seed": 7, "dataset_fingerprint": "0" * 16, "folds": folds, "test": [], "select": []}
    path.write_text(json.dumps(values | more))
    return path


def test_instance_roles_are_written_once_and_described(particles: Path, tmp_path: Path) -> None:
    role = instance_role(particles)
    roles = roles_of(tmp_path, "instance", {"train": role, "val": role, "test": role})
    description = roles.describe(tmp_path / "data")
    assert (description.task, description.classes) == ("instance", ("particle",))
    assert description.statistics.images == 6 and description.fingerprint == roles.fingerprint
    roles.write(tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["test.json", "train.json", "val.json"]
    assert description.train.annotations == tmp_path / "data" / "train.json"
    assert read_coco(tmp_path / "data" / "train.json").images == read_coco(particles / "annotations.json").images


def test_a_split_cuts_the_dataset(particles: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (particles / "images").iterdir())
    split = split_file(tmp_path / "split.json", names, test=names[5:])
    roles = roles_of(tmp_path, "instance", {"dataset": str(particles), "split": str(split)})
    assert {name: role.names for name, role in roles.roles.items()} == {
        "train": tuple(names[:3]),
        "val": tuple(names[3:5]),
        "test": tuple(names[5:]),
    }


def test_a_fold_that_the_split_does_not_have(particles: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (particles / "images").iterdir())
    split = split_file(tmp_path / "split.json", names)
    with pytest.raises(DatasetError, match="data.fold: expected a fold below 1, but got 2"):
        roles_of(tmp_path, "instance", {"dataset": str(particles), "split": str(split), "fold": 2})


def test_semantic_roles_name_stems_and_one_suffix(litter: Path, tmp_path: Path) -> None:
    role = {"images": str(litter / "images"), "labels": str(litter / "labels")}
    roles = roles_of(tmp_path, "semantic", {"train": role, "val": role})
    roles.write(tmp_path / "data")
    train = roles.describe(tmp_path / "data").train
    assert train.stems is not None and train.suffix == ".png"
    assert train.stems.read_text().splitlines()[0] == "litter_0001"


def test_mixed_kinds_of_images_are_refused(litter: Path, tmp_path: Path) -> None:
    (litter / "images" / "litter_0002.png").rename(litter / "images" / "litter_0002.jpg")
    role = {"images": str(litter / "images"), "labels": str(litter / "labels")}
    with pytest.raises(DatasetError, match=r"data.train in .*: expected one kind of image file, but got .jpg, .png"):
        roles_of(tmp_path, "semantic", {"train": role, "val": role})


def test_roles_with_other_classes_are_refused(particles: Path, tmp_path: Path) -> None:
    other = shutil.copytree(particles, tmp_path / "other")
    dataset = read_coco(other / "annotations.json")
    write_coco(InstanceDataset(dataset.images, (Category(1, "grain"),), dataset.objects), other / "annotations.json")
    with pytest.raises(DatasetError, match=r"data.val: expected the classes of train .*particle.*but got .*grain"):
        roles_of(tmp_path, "instance", {"train": instance_role(particles), "val": instance_role(other)})


def test_label_maps_with_other_classes_are_refused(litter: Path, tmp_path: Path) -> None:
    other = shutil.copytree(litter, tmp_path / "other")
    write_classes(other / "labels", ("background", "a", "b", "c", "d"))
    train = {"images": str(litter / "images"), "labels": str(litter / "labels")}
    val = {"images": str(other / "images"), "labels": str(other / "labels")}
    with pytest.raises(DatasetError, match="data.val: expected the classes of train"):
        roles_of(tmp_path, "semantic", {"train": train, "val": val})


def test_a_role_without_images_is_refused(particles: Path, tmp_path: Path) -> None:
    dataset = read_coco(particles / "annotations.json")
    write_coco(InstanceDataset((), dataset.categories, ()), tmp_path / "none.json")
    empty = {"annotations": str(tmp_path / "none.json"), "images": str(particles / "images")}
    with pytest.raises(InputError, match="expected images, but got none|no images"):
        roles_of(tmp_path, "instance", {"train": instance_role(particles), "val": empty})


def test_an_image_that_cannot_be_decoded_is_named(particles: Path, tmp_path: Path) -> None:
    broken = particles / "images" / "particles_0003.png"
    broken.write_bytes(broken.read_bytes()[:60])
    role = instance_role(particles)
    with pytest.raises(DatasetError, match="particles_0003.png"):
        check_images(roles_of(tmp_path, "instance", {"train": role, "val": role}))


def test_a_missing_image_is_named(particles: Path, tmp_path: Path) -> None:
    (particles / "images" / "particles_0004.png").unlink()
    role = instance_role(particles)
    with pytest.raises(DatasetError, match="particles_0004.png"):
        check_images(roles_of(tmp_path, "instance", {"train": role, "val": role}))


def test_other_labels_or_other_pixels_are_other_data(particles: Path, tmp_path: Path) -> None:
    role = instance_role(particles)
    before = roles_of(tmp_path, "instance", {"train": role, "val": role}).fingerprint
    assert roles_of(tmp_path, "instance", {"train": role, "val": role}).fingerprint == before
    dataset = read_coco(particles / "annotations.json")
    write_coco(InstanceDataset(dataset.images, dataset.categories, dataset.objects[1:]), particles / "annotations.json")
    assert roles_of(tmp_path, "instance", {"train": role, "val": role}).fingerprint != before
