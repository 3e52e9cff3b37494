"""`segsweep predict --tta` after real sweeps of both tasks: fused as by hand, broken off, refused, in an ensemble."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ensembling.ensemble_file import EnsembleMember, EnsembleRecord, write_ensemble
from segdata.prediction_parts import milliseconds_of
from segdata.predictions import PredictionSet
from segdata.synthetic import synthesize

pytestmark = pytest.mark.slow

IMAGES = 4
VIEWS = ("--tta", "hflip,rot90+scale1.5")


@pytest.fixture(scope="module")
def swept(shared_workplace: Any) -> Any:
    place = shared_workplace
    place.synthesize(IMAGES)
    place.write_sweep({"epochs": 1}, {"lr": {"choice": [1e-3]}}, budget={"trials": 1, "concurrent": 1})
    place.run("run", "sweep.yaml")
    return place


@pytest.fixture(scope="module")
def labelled(swept: Any) -> Any:
    """A semantic sweep beside it."""
    synthesize("litter", swept.folder / "litter", images=IMAGES, size=65)
    role = {"images": "litter/images", "labels": "litter/labels"}
    fixed = {"model": "segformer", "backbone": "mit-b0", "head_width": 0.125, "image_width": 64, "image_height": 64}
    sweep = {
        "name": "litter",
        "task": "semantic",
        "data": {"train": role, "val": role},
        "space": {"lr": {"choice": [1e-3]}},
        "fixed": fixed | {"epochs": 1, "batch_size": 4},
        "budget": {"trials": 1},
    }
    (swept.folder / "litter.yaml").write_text(yaml.safe_dump(sweep))
    swept.run("run", "litter.yaml")
    return swept


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_views_of_objects_are_fused_and_recorded(swept: Any) -> None:
    command = ("predict", "tiny", "--images", "data/images", *VIEWS, "--out", "seen", "--json")
    told = json.loads(swept.run(*command).stdout)
    assert (told["source"], told["images"], told["failed"]) == ("trial 0000", IMAGES, {})
    found = PredictionSet.open(swept.folder / "seen")
    assert found.meta.task == "instance" and len(found.meta.images) == IMAGES and not found.is_empty()
    settings = json.loads((swept.folder / "seen" / "predicted.json").read_bytes())["settings"]
    assert (settings["views"], settings["method"]) == (["plain", "hflip", "rot90+scale1.5"], "mask-fusion")
    assert not (swept.folder / "seen.members").exists()
    assert json.loads(swept.run(*command).stdout)["predicted_now"] == 0
    refused = swept.run(*command[:-1], "--tta", "hflip", expect=2)
    assert "seen: expected predictions made with shares = [1.0, 1.0], but got [1.0, 1.0, 1.0]" in refused.stderr


@pytest.mark.long
def test_views_that_were_broken_off_go_on_and_come_out_the_same(swept: Any) -> None:
    command = ("predict", "tiny", "--images", "data/images", *VIEWS, "--out")
    swept.run(*command, "unbroken")
    process = swept.start(*command, "broken")
    second = swept.folder / "broken.members" / "01-0000-hflip.unfinished" / "images"
    end = time.monotonic() + 120
    while not list(second.glob("*.json")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert swept.leftovers() == []
    members = swept.folder / "broken.members"
    kept = contents(members / "00-0000")
    assert kept and not (swept.folder / "broken").exists()
    assert milliseconds_of(members / "00-0000") is not None
    swept.run(*command, "broken")
    assert contents(swept.folder / "broken") == contents(swept.folder / "unbroken")
    assert not members.exists()


def test_an_ensemble_whose_members_are_views_predicts_as_the_views_do(swept: Any) -> None:
    trial = swept.run_folder.trial(0).directory
    swept.run("predict", "tiny", "--images", "data/images", "--tta", "hflip", "--tta-method", "nms", "--out", "by-tta")
    members = tuple(EnsembleMember(path=trial, trial="0000", view=view) for view in ("plain", "hflip"))
    record = EnsembleRecord(task="instance", members=members, method="nms", dataset_fingerprint="", code_version="t")
    write_ensemble(record, swept.folder / "mine")
    swept.run("predict", "mine", "--images", "data/images", "--out", "by-ensemble")
    one, other = contents(swept.folder / "by-tta"), contents(swept.folder / "by-ensemble")
    assert one == other and len(one["instances.json"]) > 100
    refused = swept.run("predict", "mine", "--images", "data/images", "--tta", "hflip", "--out", "no", expect=2)
    assert "--tta: expected one network, but got an ensemble" in refused.stderr
    assert not list(swept.folder.glob("no*"))


def test_a_method_of_the_other_task_is_refused_before_a_view_is_predicted(swept: Any) -> None:
    trial = swept.run_folder.trial(0)
    stock = ("--config", str(trial.config), "--checkpoint", str(trial.best))
    command = ("predict", *stock, "--images", "data/images", "--tta", "hflip", "--tta-method", "soft-vote")
    refused = swept.run(*command, "--out", "wrong", expect=2)
    assert "expected a network of semantic segmentation, which the method fuses, but got one of instance" in (
        refused.stderr
    )
    assert (refused.stdout, len(refused.stderr.splitlines())) == ("", 1), refused.stderr
    assert not list(swept.folder.glob("wrong*"))


def test_views_of_a_semantic_network_are_averaged_before_the_argmax(labelled: Any) -> None:
    """By hand: the mirrored images predicted plainly, mirrored back by numpy, averaged with the plain ones."""
    folder = labelled.folder
    shutil.copytree(folder / "litter" / "images", folder / "mirrored")
    for path in (folder / "mirrored").iterdir():
        Image.fromarray(np.ascontiguousarray(np.asarray(Image.open(path))[:, ::-1])).save(path)
    labelled.run("predict", "litter", "--images", "litter/images", "--out", "plain")
    labelled.run("predict", "litter", "--images", "mirrored", "--out", "back")
    labelled.run("predict", "litter", "--images", "litter/images", "--tta", "hflip", "--out", "voted")
    plain, back, voted = (PredictionSet.open(folder / name) for name in ("plain", "back", "voted"))
    assert (voted.meta.codec, voted.meta.stride) == ("prob8", 1)
    for image in voted.meta.images:
        mirrored = back.packed(image.file_name)[:, :, ::-1].astype(int)
        mean = (plain.packed(image.file_name) + mirrored) / 2
        assert np.abs(voted.packed(image.file_name) - mean).max() <= 0.5
    labelled.run("predict", "litter", "--images", "litter/images", "--tta", "hflip", "--stride", "4", "--out", "coarse")
    coarse = PredictionSet.open(folder / "coarse")
    assert coarse.meta.stride == 4 and coarse.packed(image.file_name).shape[1:] == (17, 17)
    scored = labelled.run("score", "coarse", "litter/labels", "--json").stdout
    assert 0 <= json.loads(scored)["metrics"]["mIoU"] <= 100
