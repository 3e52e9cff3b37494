"""The list of a sweep's images with their sums: what is in it, and when it is made."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segdata import file_sums, fingerprint
from segdata.errors import DatasetError, SweepFileError
from segdata.file_sums import read_sums
from segdata.synthetic import synthesize
from segsweep import image_sums
from segsweep.data_roles import SweepRoles, read_roles
from segsweep.image_sums import with_sums
from segsweep.sweep_file import Sweep, SweepConfig, resolve_sweep
from trainables.description import DataDescription
from trainables.node_images import on_this_node

FIXED = {"instance": {"model": "mask-rcnn"}, "semantic": {"model": "segformer"}}
QUIET = Console(quiet=True)


@pytest.fixture
def litter(tmp_path: Path) -> Path:
    return synthesize("litter", tmp_path / "litter", images=3, size=64)


def sweep_of(folder: Path, task: str = "semantic", cache_images: bool = True, **data: Any) -> Sweep:
    roles = {"train": role_of(folder, task), "val": role_of(folder, task)} | data
    values = {"name": "x", "task": task, "data": roles, "budget": {"trials": 1}, "fixed": FIXED[task]}
    return resolve_sweep(SweepConfig.model_validate(values | {"storage": {"cache_images": cache_images}}), folder)


def role_of(folder: Path, task: str) -> dict[str, str]:
    labels = {"labels": "labels"} if task == "semantic" else {"annotations": "annotations.json"}
    return {"images": "images", **labels}


def told(sweep: Sweep, roles: SweepRoles, folder: Path, **others: bool) -> DataDescription:
    return with_sums(sweep, roles, roles.describe(folder), folder, QUIET, **others)


def test_images_and_label_maps_are_listed_each_folder_once(litter: Path, tmp_path: Path) -> None:
    sweep = sweep_of(litter)
    data = told(sweep, read_roles(sweep), tmp_path / "data")
    assert data.sums == tmp_path / "data" / "images.json"
    images, labels = read_sums(data.sums)
    assert (images.place, labels.place) == (litter / "images", litter / "labels")
    for folder in (images, labels):
        paths = sorted(folder.place.iterdir())  # with the classes of the label maps
        assert [(file.name, file.sha256) for file in folder.files] == [
            (path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths
        ]


def test_of_roles_in_several_folders_all_are_listed(tmp_path: Path) -> None:
    here = synthesize("particles", tmp_path / "here", images=2, size=64)
    there = synthesize("particles", tmp_path / "there", images=3, size=64)
    val = {"images": str(there / "images"), "annotations": str(there / "annotations.json")}
    sweep = sweep_of(here, "instance", val=val)
    data = told(sweep, read_roles(sweep), tmp_path / "data")
    assert data.sums is not None
    listed = {folder.place: len(folder.files) for folder in read_sums(data.sums)}
    assert listed == {here / "images": 2, there / "images": 3}


def test_without_the_key_nothing_is_read_or_written(litter: Path, tmp_path: Path) -> None:
    sweep = sweep_of(litter, cache_images=False)
    assert told(sweep, read_roles(sweep), tmp_path / "data").sums is None
    assert not (tmp_path / "data").exists()


def test_label_maps_are_not_hashed_twice(litter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    for module in (file_sums, fingerprint):
        original = module.sha256_of
        monkeypatch.setattr(module, "sha256_of", lambda path, own=original: (hashed.append(str(path)), own(path))[1])
    sweep = sweep_of(litter)
    told(sweep, read_roles(sweep), tmp_path / "data")
    maps = [path for path in hashed if "/labels/" in path and path.endswith(".png")]
    assert len(maps) == 2 * 3  # of each role's fingerprint, here of the same files, and no more
    assert len(hashed) - len(maps) == 3 + 1  # the images, and the classes


def test_a_list_that_is_there_stays_unless_its_start_came_to_nothing(litter: Path, tmp_path: Path) -> None:
    sweep = sweep_of(litter)
    roles = read_roles(sweep)
    told(sweep, roles, tmp_path)
    first = read_sums(tmp_path / image_sums.FILE_NAME)
    victim = litter / "images" / first[0].files[0].name
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    told(sweep, roles, tmp_path)
    assert read_sums(tmp_path / image_sums.FILE_NAME) == first
    told(sweep, roles, tmp_path, anew=True)
    assert read_sums(tmp_path / image_sums.FILE_NAME)[0].files[0].sha256 != first[0].files[0].sha256


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_images_at_a_url_are_read_here_and_fetched_by_each_node(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = synthesize("litter" if task == "semantic" else "particles", tmp_path / "given", images=3, size=64)
    sweep = sweep_of(folder, task, cache_images=False)
    known = read_roles(sweep).fingerprint
    kinds = ["images", "labels"] if task == "semantic" else ["images"]
    (tmp_path / "store").mkdir()
    for kind in kinds:
        (folder / kind).rename(tmp_path / "store" / kind)
    role = role_of(folder, task) | {kind: f"file://{tmp_path}/store/{kind}" for kind in kinds}
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "driver"))
    sweep = sweep_of(folder, task, cache_images=False, train=role, val=role)
    roles = read_roles(sweep)
    assert roles.fingerprint == known
    data = told(sweep, roles, tmp_path / "data")
    assert data.sums is not None
    assert [one.source for one in read_sums(data.sums)] == [f"file://{tmp_path}/store/{kind}" for kind in kinds]
    (tmp_path / "driver").rename(tmp_path / "not on the node")
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "node"))
    there = on_this_node(data, lambda line: None).train.images
    assert there.is_relative_to(tmp_path / "node")
    assert [path.read_bytes() for path in sorted(there.iterdir())] == [
        path.read_bytes() for path in sorted((tmp_path / "store" / "images").iterdir())
    ]
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "another driver"))
    sweep = sweep_of(folder, task, cache_images=False, train=role, val=role)
    resumed = told(sweep, read_roles(sweep), tmp_path / "data")  # after the head was lost
    assert resumed.sums is not None and {one.place for one in read_sums(resumed.sums)} == {
        getattr(resumed.train, kind) for kind in kinds
    }


def test_a_url_that_cannot_be_used_is_refused_with_its_key(tmp_path: Path) -> None:
    folder = synthesize("particles", tmp_path / "given", images=1, size=64)
    role = role_of(folder, "instance") | {"images": "s33://bucket/images"}
    with pytest.raises(SweepFileError, match="sweep: data.train.images: expected a protocol that fsspec knows"):
        sweep_of(folder, "instance", train=role)
    with pytest.raises(SweepFileError, match="sweep: data.unlabelled.images: expected a folder for unlabelled"):
        sweep_of(folder, "instance", unlabelled={"images": "s3://bucket/images"})


def test_an_image_that_is_gone_is_named(litter: Path, tmp_path: Path) -> None:
    sweep = sweep_of(litter)
    roles = read_roles(sweep)
    victim = sorted((litter / "images").glob("*.png"))[0]
    victim.unlink()
    with pytest.raises(DatasetError, match=f"{victim.name}: expected a file of the data set, but got: No such file"):
        told(sweep, roles, tmp_path)
