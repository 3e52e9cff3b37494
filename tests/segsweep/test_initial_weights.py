"""What a sweep's trials start from: all files of the space, other sweeps' best trials, and the user's own files."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

from segdata.coco import read_coco
from segdata.errors import InputError
from segdata.statistics import object_statistics
from segdata.synthetic import synthesize
from segsweep.initial_weights import (
    check_weights,
    keep_copies,
    model_choices,
    needed_files,
    other_sweeps,
    try_local_weights,
)
from segsweep.leaderboard import as_rows, initial_weights
from segsweep.run_folder import Origin, RunFolder
from segsweep.sweep_file import Sweep, load_sweep
from trainables.description import DataDescription, RoleFiles
from trainables.loaded_weights import LoadedWeights

if TYPE_CHECKING:
    from tests.segsweep.conftest import Search

SweepOf = Callable[..., Sweep]
SMALL = {"backbone": "r18", "width": 0.25, "head_width": 0.125}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize("particles", tmp_path_factory.mktemp("data") / "data", images=2, size=64)


@pytest.fixture
def sweep_of(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepOf:
    """Writes and reads a sweep file: `sweep_of({"init": ...}, model="mask-rcnn")`."""
    monkeypatch.delenv("SEGSWEEP_WEIGHTS", raising=False)
    role = {"annotations": str(data / "annotations.json"), "images": str(data / "images")}

    def make(space: dict[str, Any], *, name: str = "new", forbid: Any = (), weights: Any = None, **fixed: Any) -> Sweep:
        values: dict[str, Any] = {"name": name, "task": "instance", "data": {"train": role, "val": role}}
        values |= {"budget": {"trials": 2}, "space": {"lr": {"float": [0.1, 0.2]}, **space}, "fixed": fixed}
        values |= {"forbid": list(forbid), "weights": weights or {"folder": "cache"}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
        return load_sweep(tmp_path / f"{name}.yaml")

    return make


@pytest.fixture
def description(data: Path) -> DataDescription:
    coco = read_coco(data / "annotations.json")
    role = RoleFiles(data / "images", annotations=data / "annotations.json")
    return DataDescription("instance", coco.class_names, role, role, object_statistics(coco), "f00d")


def test_every_combination_that_can_come_up_is_walked(sweep_of: SweepOf) -> None:
    sweep = sweep_of(
        {
            "model": {"choice": ["mask-rcnn", "ms-rcnn"]},
            "backbone": {"choice": ["r18", "r50"]},
            "init": [
                {"when": {"backbone": "r18"}, "choice": ["none", "imagenet"]},
                {"when": {"backbone": "r50"}, "choice": ["imagenet", "resnet-strikes-back"]},
            ],
        },
        forbid=[{"model": "ms-rcnn", "init": "resnet-strikes-back"}],
    )
    found = {(choice.name, choice.backbone, choice.init) for choice in model_choices(sweep.space)}
    assert len(found) == 2 * 4 - 1 and ("ms-rcnn", "r50", "resnet-strikes-back") not in found
    needed = needed_files(sweep)
    assert sorted(name.split("-")[0] for name in needed) == ["resnet18", "resnet50", "resnet50_8xb256"]
    assert needed["resnet18-f37072fd.pth"].by == ["mask-rcnn r18 imagenet", "ms-rcnn r18 imagenet"]


def test_a_combination_without_published_weights_is_refused_wherever_it_hides(sweep_of: SweepOf) -> None:
    backbones = ["r18", "r34", "r50", "r101", "x50-32x4d", "x101-32x4d", "se-x50-32x4d"]
    sweep = sweep_of(
        {"backbone": {"choice": backbones}, "init": {"choice": ["imagenet", "noisy-student"]}}, model="mask-rcnn"
    )
    with pytest.raises(InputError, match="no noisy-student for mask-rcnn with r18. Choose from none, imagenet"):
        check_weights(sweep, {})


def test_missing_files_are_one_message_with_the_command(sweep_of: SweepOf, tmp_path: Path) -> None:
    sweep = sweep_of({"backbone": {"choice": ["r18", "r50"]}}, model="mask-rcnn", init="imagenet")
    with pytest.raises(InputError, match=f"in {tmp_path / 'cache'}, but resnet18-f37072fd.pth and 1 more are") as told:
        check_weights(sweep, {})
    assert f"segsweep weights fetch {tmp_path / 'new.yaml'}" in str(told.value)
    (tmp_path / "cache").mkdir()
    for name in needed_files(sweep):
        (tmp_path / "cache" / name).touch()
    check_weights(sweep, {})


def test_a_nodes_own_folder_comes_before_the_sweep_files(
    sweep_of: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSWEEP_WEIGHTS", str(tmp_path / "node"))
    with pytest.raises(InputError, match=f"in {tmp_path / 'node'}, but resnet50"):
        check_weights(sweep_of({}, model="mask-rcnn", init="imagenet"), {})


def test_a_checkpoint_that_is_not_there_is_named(sweep_of: SweepOf) -> None:
    with pytest.raises(InputError, match=r"expected an existing checkpoint, but got 'weights/mine.pth'"):
        check_weights(sweep_of({}, model="mask-rcnn", init="weights/mine.pth"), {})


def test_an_unknown_word_names_the_nearest(sweep_of: SweepOf) -> None:
    with pytest.raises(InputError, match="imagnet.*imagenet"):
        sweep_of({}, model="mask-rcnn", init="imagnet")


def a_sweep_that_ran(sweep: Sweep, open_search: "Callable[..., Search]") -> RunFolder:
    """Leaves a folder as a sweep of two trials would, of which the second is the better."""
    folder = RunFolder(sweep.path)
    folder.path.mkdir(parents=True)
    folder.create(sweep, Origin("1", str(sweep.folder), "f00d"))
    search = open_search(folder=folder.path, budget=2)
    for name, score in (("a", 0.3), ("b", 0.6)):
        search.searcher.suggest(name)
        search.finish(name, [score])
        files = folder.trial(search.records()[-1].number)
        files.directory.mkdir(parents=True, exist_ok=True)
        files.best.write_text(f"weights of {name}")
    return folder


@pytest.fixture
def open_search(space: Any) -> "Callable[..., Search]":
    from tests.segsweep.conftest import Search

    return lambda folder, **settings: Search(folder, space, **settings)


def test_the_best_trial_of_another_sweep_is_copied_once(
    sweep_of: SweepOf, open_search: "Callable[..., Search]", tmp_path: Path
) -> None:
    first = a_sweep_that_ran(sweep_of({}, name="first", model="mask-rcnn"), open_search)
    sweep = sweep_of({}, model="mask-rcnn", init="sweep:first")
    folder = RunFolder(sweep.path)
    found = other_sweeps(sweep, folder)
    assert found["sweep:first"].read_text() == "weights of b"
    copies = keep_copies(folder, found)
    assert copies == {"sweep:first": folder.initial / "first.pth"}
    for path in first.trials.glob("*/best.pth"):
        path.unlink()
    assert other_sweeps(sweep, folder) == copies, "a resume does not need the other sweep"
    assert keep_copies(folder, copies)["sweep:first"].read_text() == "weights of b"


def test_a_sweep_that_is_not_there_or_has_no_weights(
    sweep_of: SweepOf, open_search: "Callable[..., Search]", tmp_path: Path
) -> None:
    sweep = sweep_of({}, model="mask-rcnn", init="sweep:frist")
    with pytest.raises(
        InputError, match="init: sweep:frist: expected the name of another sweep in .*/runs, but got 'frist'"
    ):
        other_sweeps(sweep, RunFolder(sweep.path))
    first = a_sweep_that_ran(sweep_of({}, name="first", model="mask-rcnn"), open_search)
    for path in first.trials.glob("*/best.pth"):
        path.unlink()
    sweep = sweep_of({}, model="mask-rcnn", init="sweep:first")
    with pytest.raises(InputError, match="init: sweep:first: expected the weights of the best trial, but .*best.pth"):
        other_sweeps(sweep, RunFolder(sweep.path))


@pytest.mark.parametrize("written", ["{runs}/first", "../runs/first", ".."])
def test_a_path_in_the_place_of_a_sweeps_name_reads_and_writes_nothing_elsewhere(
    sweep_of: SweepOf, open_search: "Callable[..., Search]", written: str
) -> None:
    first = a_sweep_that_ran(sweep_of({}, name="first", model="mask-rcnn"), open_search)
    (first.path.parent / "first.pth").write_text("not a copy of ours")
    sweep = sweep_of({}, model="mask-rcnn", init=f"sweep:{written.format(runs=first.path.parent)}")
    folder = RunFolder(sweep.path)
    folder.initial.mkdir(parents=True)
    with pytest.raises(InputError, match="expected the name of another sweep"):
        other_sweeps(sweep, folder)


@pytest.mark.slow
def test_a_users_file_is_tried_on_the_model_before_a_sweep_starts(
    sweep_of: SweepOf, description: DataDescription, tmp_path: Path
) -> None:
    torch.save({"state_dict": {"stem.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    sweep = sweep_of({}, model="mask-rcnn", init="other.pth", **SMALL)
    with pytest.raises(InputError, match="init: .*other.pth: expected weights of this model, but none of 1 tensors"):
        try_local_weights(sweep, description, {})
    # The same by reference: what `sweep:first` stands for is loaded, not a file of that name.
    referring = sweep_of({}, model="mask-rcnn", init="sweep:first", **SMALL)
    with pytest.raises(InputError, match="other.pth: expected weights of this model"):
        try_local_weights(referring, description, {"sweep:first": tmp_path / "other.pth"})
    try_local_weights(sweep_of({}, model="mask-rcnn", **SMALL), description, {})


def test_the_leaderboard_says_what_was_loaded(tmp_path: Path, open_search: "Callable[..., Search]") -> None:
    search = open_search(folder=tmp_path, budget=2)
    for name, score in (("a", 0.3), ("b", 0.6)):
        search.searcher.suggest(name)
        search.finish(name, [score])
    best = max(search.records(), key=lambda record: record.best_score)
    loaded = LoadedWeights("imagenet", ("r50.pth",), 265, 307, 0.5, 1.0, ("neck.*", "roi_head.*"))
    search.files(best.number).directory.mkdir(parents=True, exist_ok=True)
    search.files(best.number).initial.write_text(json.dumps(asdict(loaded)))
    text = "init imagenet: 265 of 307 tensors loaded from r50.pth; left as they were: neck.*, roi_head.*"
    assert initial_weights(tmp_path / "trials", best) == text
    rows = as_rows(search.records(), "segm_mAP", tmp_path / "trials")
    assert sorted(str(row["initial_weights"]) for row in rows) == sorted(["None", text])
