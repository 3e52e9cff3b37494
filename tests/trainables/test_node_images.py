"""Trials that read a copy of the images on their own node, really trained."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trainables.ray_trainable as ray_trainable
from search_spaces.trial_config import TrialConfig
from segdata import image_cache
from segdata.errors import TrialSiteError
from segdata.file_sums import hash_files, read_sums, write_sums
from trainables.description import DataDescription
from trainables.node_images import on_this_node
from trainables.ray_trainable import TrialContext, run_to_outcome
from trainables.trial_files import Outcome, TrialFiles

TrialOf = Callable[..., TrialConfig]
CLOCKS = {"monotonic": time.monotonic, "sleep": time.sleep}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shared(litter: DataDescription, particles: DataDescription, tmp_path: Path) -> Callable[[str], DataDescription]:
    """Returns a maker of data whose images lie in a folder of this test and are to be copied."""

    def make(task: str) -> DataDescription:
        data = litter if task == "semantic" else particles
        folders = {"images": data.train.images} | ({"labels": data.train.labels} if data.train.labels else {})
        for name, folder in folders.items():
            shutil.copytree(folder, tmp_path / "shared" / name)
        places = {name: tmp_path / "shared" / name for name in folders}
        sums = [hash_files(place, [path.name for path in place.iterdir()]) for place in places.values()]
        write_sums(sums, tmp_path / "images.json")
        parts = {role: replace(getattr(data, role), **places) for role in ("train", "val")}
        return replace(data, **parts, sums=tmp_path / "images.json")

    return make


@pytest.fixture
def run(tiny_trial: TrialOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Returns a function that runs a trial as its Ray actor does, without Tune."""
    monkeypatch.setattr(ray_trainable, "report", lambda files, row: None)

    def run(data: DataDescription, *, number: int = 0, **more: Any) -> Outcome:
        metric, model = ("mIoU", "segformer") if data.task == "semantic" else ("segm_mAP", "mask-rcnn")
        settings: dict[str, Any] = {"seed": 7, "threads": 1, "loader_workers": 0, "max_failures": 0}
        context = TrialContext(data, tmp_path, metric, "max", **settings, **more)
        config = {"number": number, "trial": tiny_trial(model, epochs=1).to_dict()}
        return run_to_outcome(config, context, TrialFiles(tmp_path / f"{number:04d}"))

    return run


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_a_trial_reads_the_copy_and_its_config_names_the_shared_folder(
    task: str, shared: Callable[[str], DataDescription], run: Callable[..., Outcome], tmp_path: Path, cache: Path
) -> None:
    data = shared(task)
    on_this_node(data, lambda line: None)
    (tmp_path / "shared").rename(tmp_path / "away")
    assert run(data) == Outcome("completed")
    config = (tmp_path / "0000" / "config.py").read_text()
    assert str(tmp_path / "shared" / "images") in config and str(cache) not in config


def test_the_trial_that_copies_says_so(
    shared: Callable[[str], DataDescription], run: Callable[..., Outcome], tmp_path: Path, cache: Path
) -> None:
    data = shared("semantic")
    assert run(data) == run(data, number=1) == Outcome("completed")
    first, second = (TrialFiles(tmp_path / name).log.read_text().splitlines() for name in ("0000", "0001"))
    told = [line for line in first if " copied to " in line]
    assert [line.partition(" (")[0] for line in told] == [
        f"segsweep: {tmp_path}/shared/images: 11 files",
        f"segsweep: {tmp_path}/shared/labels: 12 files",  # with the classes
    ]
    assert str(cache) in told[0] and not [line for line in second if " copied to " in line]


def test_where_the_disk_is_too_small_the_shared_folder_is_read(
    shared: Callable[[str], DataDescription], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = image_cache.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: usage._replace(free=usage.total // 20))
    data, lines = shared("instance"), list[str]()
    assert on_this_node(data, lines.append).train == data.train
    (line,) = lines
    assert line.startswith(
        f"{tmp_path}/shared/images: read from there, for this node's disk does not take a copy: [Errno 28] 0.00 GB of"
    )


@pytest.mark.root
def test_a_full_disk_costs_a_trial_nothing_but_the_copy(
    small_disk: Path, shared: Callable[[str], DataDescription], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(small_disk))
    data, lines = shared("instance"), list[str]()
    victim = sorted(data.train.images.glob("*.png"))[0]
    victim.write_bytes(victim.read_bytes() + b"\0" * (9 << 20))
    write_sums(
        [hash_files(data.train.images, [path.name for path in data.train.images.iterdir()])], data.sums or victim
    )
    assert on_this_node(data, lines.append).train == data.train
    assert len(lines) == 1 and "0.01 GB of images do not fit into the 0.01 GB that are free" in lines[0]


def test_without_room_images_on_an_object_store_are_the_machines_fault(
    shared: Callable[[str], DataDescription], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shared("instance")
    assert data.sums is not None
    write_sums([replace(folder, source="memory://nuclei") for folder in read_sums(data.sums)], data.sums)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "file"))
    with pytest.raises(TrialSiteError, match="memory://nuclei: expected room for the sweep's images on this node"):
        on_this_node(data, lambda line: None)


def test_an_image_that_changed_fails_the_trial_and_is_named(
    shared: Callable[[str], DataDescription], run: Callable[..., Outcome]
) -> None:
    data = shared("semantic")
    victim = sorted(data.train.images.glob("*.png"))[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    outcome = run(data)
    assert outcome.kind == "failed"
    assert outcome.reason.startswith(f"{victim}: expected the file that the sweep was started with (SHA-256 ")


def test_copying_is_not_counted_as_the_trials_own_time(
    shared: Callable[[str], DataDescription], run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_s = 0.0
    monkeypatch.setattr(ray_trainable, "time", SimpleNamespace(time=lambda: time.time() + passed_s, **CLOCKS))

    def slowly(*arguments: Any) -> DataDescription:
        nonlocal passed_s
        passed_s = 7200.0
        return on_this_node(*arguments)

    monkeypatch.setattr(ray_trainable, "on_this_node", slowly)
    assert run(shared("semantic"), trial_timeout_s=3600.0).kind == "completed"


def test_a_trial_can_be_stopped_while_it_copies(
    shared: Callable[[str], DataDescription], run: Callable[..., Outcome], tmp_path: Path
) -> None:
    data = shared("semantic")
    TrialFiles(tmp_path / "0001").directory.mkdir()
    TrialFiles(tmp_path / "0001").ask_to_stop()
    assert run(data, number=1).kind == "asked-to-stop"
    (tmp_path / "cache").rename(tmp_path / "old cache")
    assert run(data, deadline_unix_s=time.time() - 1).kind == "out-of-time"
    assert not TrialFiles(tmp_path / "0001").log.exists()  # no training process was started
