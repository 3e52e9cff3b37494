"""The pool of train and val and its folds, from every way in which a sweep file names its data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from segdata.coco import read_coco, write_coco
from segdata.dataset_split import Shares, split_instances
from segdata.errors import InputError
from segdata.fingerprint import instance_fingerprint, semantic_fingerprint
from segdata.labelmaps import read_label_map, read_labels
from segdata.splits import write_split
from segdata.synthetic import synthesize
from segsweep.data_roles import SweepRoles, read_roles
from segsweep.ensembles.pool import Pool, pool_of
from segsweep.sweep_file import Sweep, load_sweep

Roles = dict[str, dict[str, str]]
TRAIN, VAL = 6, 3
MODELS = {"instance": "mask-rcnn", "semantic": "segformer"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images with objects, and nine with label maps."""
    folder = tmp_path_factory.mktemp("source")
    synthesize("particles", folder / "particles", TRAIN + VAL, 64, 7)
    synthesize("litter", folder / "litter", TRAIN + VAL, 64, 7)
    return folder


@pytest.fixture
def data(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "data"))


@pytest.fixture
def pool(tmp_path: Path) -> Callable[..., Pool]:
    """Returns the pool of a sweep over some data: `pool("instance", {"train": ..., "val": ...}, folds=3)`."""

    def make(task: str, named: dict[str, Any], folds: int = 3) -> Pool:
        values = {"name": "tiny", "task": task, "data": named, "budget": {"trials": 1}, "search": {"seed": 5}}
        values |= {"space": {"lr": {"float": [0.1, 0.2]}}, "fixed": {"model": MODELS[task]}}
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(values))
        sweep: Sweep = load_sweep(tmp_path / "sweep.yaml")
        roles: SweepRoles = read_roles(sweep)
        return pool_of(sweep, roles, folds)

    return make


def cut_instances(data: Path) -> Roles:
    """Writes train.json and val.json, whose images lie in one folder."""
    whole = read_coco(data / "particles" / "annotations.json")
    names = sorted(image.file_name for image in whole.images)
    write_coco(whole.subset(names[:TRAIN]), data / "train.json")
    write_coco(whole.subset(names[TRAIN:]), data / "val.json")
    images = str(data / "particles" / "images")
    return {name: {"annotations": str(data / f"{name}.json"), "images": images} for name in ("train", "val")}


def test_roles_of_one_folder_become_one_data_set_in_which_each_image_is_held_out_once(
    data: Path, pool: Callable[..., Pool]
) -> None:
    made = pool("instance", cut_instances(data))
    whole = read_coco(data / "particles" / "annotations.json")
    assert sorted(made.data.names) == sorted(image.file_name for image in whole.images)
    assert made.data.fingerprint == instance_fingerprint(whole, data / "particles" / "images")
    assert made.data.images == data / "particles" / "images" and not (made.folder.parent / "pool").exists()
    assert sorted(name for fold in made.split.folds for name in fold.val) == sorted(made.data.names)
    for number, fold in enumerate(made.split.folds):
        roles = made.fold(number).roles
        assert sorted(roles["train"].names) == list(fold.train) and sorted(roles["val"].names) == list(fold.val)
        assert not set(fold.train) & set(fold.val)


def test_folds_are_those_of_the_data_split_command_and_stay(data: Path, pool: Callable[..., Pool]) -> None:
    roles = cut_instances(data)
    made = pool("instance", roles)
    whole = read_coco(data / "particles" / "annotations.json")
    drawn = split_instances(whole, data / "particles" / "images", Shares(val=0, folds=3, seed=5))
    assert made.split.folds == drawn.folds
    assert json.loads((made.folder / "folds.json").read_text())["seed"] == 5
    assert pool("instance", roles).split == made.split
    assert (
        len(pool("instance", roles, folds=2).split.folds) == 2 and pool("instance", roles, folds=2).folder.name == "k2"
    )


def test_copies_of_a_picture_are_held_out_together(data: Path, pool: Callable[..., Pool]) -> None:
    images = data / "particles" / "images"
    names = sorted(path.name for path in images.iterdir())
    for copy in names[6:]:
        shutil.copyfile(images / names[0], images / copy)
    made = pool("instance", cut_instances(data))
    copies = {names[0], *names[6:]}
    assert [len(copies & set(fold.val)) for fold in made.split.folds if copies & set(fold.val)] == [4]


def test_label_maps_that_lie_apart_are_linked_into_one_place(data: Path, pool: Callable[..., Pool]) -> None:
    """As in examples/trash.yaml: all images in one folder, label maps in two."""
    labels, val_labels = data / "litter" / "labels", data / "val-labels"
    whole = read_labels(data / "litter" / "images", labels)
    before = {image.name: read_label_map(image.label_path) for image in whole.images}
    val_labels.mkdir()
    shutil.copyfile(labels / "classes.json", val_labels / "classes.json")
    for image in whole.images[TRAIN:]:
        shutil.move(image.label_path, val_labels)
    images = str(data / "litter" / "images")
    roles = {"train": {"labels": str(labels), "images": images}, "val": {"labels": str(val_labels), "images": images}}
    made = pool("semantic", roles)
    assert made.data.names == tuple(image.name for image in whole.images)
    assert made.data.labels == made.folder.parent / "pool" / "labels"
    again = read_labels(made.data.images, made.data.labels)
    assert all((read_label_map(image.label_path) == before[image.name]).all() for image in again.images)
    assert made.data.fingerprint == semantic_fingerprint(again)
    assert pool("semantic", roles).data == made.data


def test_images_of_two_folders_with_the_same_names_get_their_role_as_first_name(
    data: Path, pool: Callable[..., Pool]
) -> None:
    whole = read_coco(data / "particles" / "annotations.json")
    kept = whole.subset([image.file_name for image in whole.images[:3]])
    for name in ("one", "two"):
        shutil.copytree(data / "particles" / "images", data / name)
    write_coco(kept, data / "kept.json")
    shutil.copyfile(sorted((data / "one").iterdir())[5], data / "two" / kept.images[0].file_name)
    roles = {
        role: {"annotations": str(data / "kept.json"), "images": str(data / folder)}
        for role, folder in (("train", "one"), ("val", "two"))
    }
    made = pool("instance", roles, folds=2)
    first = kept.images[0].file_name
    assert made.data.names[0] == f"train-{first}" and made.data.names[3] == f"val-{first}"
    assert (made.data.images / f"val-{first}").read_bytes() == (data / "two" / first).read_bytes()
    assert [image.id for image in made.data.truth.images] == [1, 2, 3, 4, 5, 6]  # type: ignore[union-attr]


def test_the_folds_of_the_split_file_are_taken_if_they_are_as_many(data: Path, pool: Callable[..., Pool]) -> None:
    whole = read_coco(data / "particles" / "annotations.json")
    split = split_instances(whole, data / "particles" / "images", Shares(val=0, test=0.2, folds=3, seed=99))
    write_split(split, data / "split.json")
    named = {"dataset": str(data / "particles"), "split": str(data / "split.json")}
    made = pool("instance", named)
    assert made.split.folds == split.folds and made.split.remarks == ("the folds of split.json",)
    assert set(made.data.names).isdisjoint(split.test)
    other = pool("instance", named, folds=2)
    assert len(other.split.folds) == 2 and other.data.names == made.data.names


def test_an_image_in_both_roles_is_refused(data: Path, pool: Callable[..., Pool], tmp_path: Path) -> None:
    role = cut_instances(data)["train"]
    with pytest.raises(InputError, match=r"data: expected each image in one role, but got .*\.png in train and val"):
        pool("instance", {"train": role, "val": role})
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("folds", "told"), [(1, "expected 2 to 100 folds, but got 1"), (10, "expected at least 10 images")]
)
def test_folds_that_the_images_do_not_give_are_refused(
    folds: int, told: str, data: Path, pool: Callable[..., Pool]
) -> None:
    with pytest.raises(InputError, match=told):
        pool("instance", cut_instances(data), folds=folds)


def test_label_maps_with_other_ignored_values_are_refused(
    data: Path, pool: Callable[..., Pool], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(data / "litter", data / "other"))
    text = json.loads((other / "labels" / "classes.json").read_text())
    (other / "labels" / "classes.json").write_text(json.dumps(text | {"ignore_index": 200}))
    roles = {
        role: {"labels": str(folder / "labels"), "images": str(folder / "images")}
        for role, folder in (("train", data / "litter"), ("val", other))
    }
    with pytest.raises(InputError, match="expected one ignore_index in the label folders, but got 200, 255"):
        pool("semantic", roles)
    assert not (tmp_path / "runs").exists()


def test_folds_of_other_images_are_refused(data: Path, pool: Callable[..., Pool]) -> None:
    roles = cut_instances(data)
    made = pool("instance", roles)
    whole = read_coco(data / "val.json")
    write_coco(whole.subset([image.file_name for image in whole.images[:2]]), data / "val.json")
    with pytest.raises(
        InputError, match=rf"expected folds of the data with fingerprint .*, but got {made.data.fingerprint}"
    ):
        pool("instance", roles)
