"""A sweep whose trials read a copy of the images on their node: the shared folder may go once that is there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segdata.coco import read_coco, write_coco

pytestmark = pytest.mark.slow

IMAGES, TRIALS = 10, 3
PARTS = {"train": (0, 6), "val": (6, 8), "test": (8, 10)}  # the first two are trained on
COPIED = re.compile(r"segsweep: (\S+): (\d+) files \(.* GB\) copied to (\S+)/images/folders/")


def data_in_parts(folder: Path) -> dict[str, dict[str, str]]:
    """Writes annotations for each role, whose images are different ones of one folder."""
    whole = read_coco(folder / "annotations.json")
    names = sorted(image.file_name for image in whole.images)
    for role, (first, last) in PARTS.items():
        write_coco(whole.subset(names[first:last]), folder / f"{role}.json")
    return {role: {"annotations": f"data/{role}.json", "images": "data/images"} for role in PARTS}


def copies(folder: Path) -> list[tuple[str, int, str]]:
    """What the logs below a folder say of copies: the images' folder, how many files, and the node's cache."""
    text = "\n".join(log.read_text() for log in folder.rglob("train.log"))
    return [(Path(found[1]).name, int(found[2]), Path(found[3]).name) for found in COPIED.finditer(text)]


def test_trials_need_the_shared_folder_no_more_once_it_is_copied(
    shared_workplace: Any, wait: Callable[..., None]
) -> None:
    place = shared_workplace
    place.environment |= {"SEGSWEEP_CACHE": str(place.folder / "node")}
    place.synthesize(IMAGES)
    place.write_sweep(
        {"epochs": 2},
        {"lr": {"float": [1e-5, 1e-3], "log": True}},
        data=data_in_parts(place.folder / "data"),
        budget={"trials": TRIALS, "concurrent": 2},
        storage={"cache_images": True},
    )
    process = place.start("run", "sweep.yaml")
    wait(lambda: copies(place.run_folder.path), process)
    images = place.folder / "data" / "images"
    images.rename(place.folder / "away")
    out, err = process.communicate(timeout=400)
    (place.folder / "away").rename(images)
    assert process.returncode == 0, f"{out}\n{err}"
    assert [record.outcome for record in place.records()] == ["completed"] * TRIALS
    assert copies(place.run_folder.path) == [("images", 8, "node")]
    for number in range(TRIALS):
        config = place.run_folder.trial(number).config.read_text()
        assert str(images) in config and str(place.folder / "node") not in config


@pytest.mark.long
def test_networks_of_folds_read_the_same_copies(shared_workplace: Any) -> None:
    place = shared_workplace
    place.run("ensemble", "tiny", "--top", "1", "--folds", "2")
    assert len(list(place.run_folder.folds.rglob("train.log"))) == 2
    assert copies(place.run_folder.folds) == []  # all was there
    assert list(place.run_folder.folds.rglob("images.json")) == [place.run_folder.folds / "k2" / "data" / "images.json"]
    (copy,) = [path for path in (place.folder / "node" / "images" / "folders").iterdir() if path.is_dir()]
    assert len(list(copy.iterdir())) == 8


def test_images_at_a_url_are_trained_on(workplace: Any) -> None:
    place = workplace
    place.environment |= {"SEGSWEEP_CACHE": str(place.folder / "node")}
    place.synthesize(IMAGES)
    data = data_in_parts(place.folder / "data")
    url = f"file://{place.folder}/data/images"
    for role in data.values():
        role["images"] = url
    place.write_sweep({"epochs": 1, "lr": 1e-3}, {}, data=data, budget={"trials": 1})
    place.run("run", "sweep.yaml")
    assert [record.outcome for record in place.records()] == ["completed"]
    place.run("predict", "tiny", "--role", "test", "--out", "predicted")
    (place.folder / "data" / "images").rename(place.folder / "away")
    refused = place.run("check", "sweep.yaml", expect=2)
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {url}: expected ")
