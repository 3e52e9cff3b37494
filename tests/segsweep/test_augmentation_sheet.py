"""The sheet of augmentation steps: every step of the task has a tile that shows what it does."""

import json
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from search_spaces.augmentations import AUGMENTATION_STEPS
from search_spaces.knob import Task
from search_spaces.knobs import KNOBS
from segdata.errors import DatasetError, InputError
from segdata.synthetic import synthesize
from segsweep.augmentation_sheet import CAPTION_PX, COLUMNS, TILE_PX, augmentation_sheet, folder_data
from segsweep.cli.spaces import spaces_app

STEPS = {
    task: ["flip", *(name for name in AUGMENTATION_STEPS if task in KNOBS[name].tasks)]
    for task in ("instance", "semantic")
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("sheet")
    kinds = {"instance": "particles", "semantic": "litter"}
    return {task: synthesize(kind, base / kind, 5, 160, 7) for task, kind in kinds.items()}  # type: ignore[arg-type]


def tiles_of(path: Path) -> list[Any]:
    """The tiles without their captions."""
    sheet = cv2.imread(str(path))
    height, width = TILE_PX + CAPTION_PX, TILE_PX + 6  # square images
    assert sheet.shape[1] == COLUMNS * width and sheet.shape[0] % height == 0
    rows = range(0, sheet.shape[0], height)
    return [sheet[y + CAPTION_PX : y + height, x : x + width] for y in rows for x in range(0, sheet.shape[1], width)]


@pytest.mark.parametrize("task", STEPS)
def test_every_step_has_a_tile_that_differs_from_the_image(task: str, folders: dict[str, Path], tmp_path: Path) -> None:
    data = folder_data(folders[task], cast(Task, task))
    shown, steps = augmentation_sheet(data, tmp_path / "sheet.png")
    assert list(steps) == STEPS[task] and (folders[task] / "images" / shown).is_file()
    tiles = tiles_of(tmp_path / "sheet.png")
    plain = tiles[0].astype(int)
    for name, tile in zip(steps, tiles[2:], strict=False):
        if (task, name) != ("instance", "channel_shuffle"):  # the particles are grey
            assert np.abs(tile - plain).mean() > 0.2, name
    assert all((tile == 255).all() for tile in tiles[2 + len(steps) :])


def test_labels_are_drawn_in_colour_on_grey_particles(folders: dict[str, Path], tmp_path: Path) -> None:
    augmentation_sheet(folder_data(folders["instance"]), tmp_path / "sheet.png")
    for tile in tiles_of(tmp_path / "sheet.png")[: 2 + len(STEPS["instance"])]:
        assert (np.ptp(tile.astype(int), axis=-1) > 60).any()


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_any_strength_draws_the_same_with_the_same_seed(
    strength: float, folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("one.png", "two.png"):
        augmentation_sheet(folder_data(folders["instance"]), tmp_path / name, strength=strength, seed=3)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_an_image_can_be_named(folders: dict[str, Path], tmp_path: Path) -> None:
    data = folder_data(folders["semantic"])
    assert augmentation_sheet(data, tmp_path / "sheet.png", image=data.names[3])[0] == data.names[3]
    with pytest.raises(DatasetError, match="--image: expected an image of the data, but got 'nope.png'"):
        augmentation_sheet(data, tmp_path / "sheet.png", image="nope.png")


def test_the_command_draws_a_sweeps_training_images(folders: dict[str, Path], tmp_path: Path) -> None:
    role = {"images": str(folders["semantic"] / "images"), "labels": str(folders["semantic"] / "labels")}
    sweep = {
        "name": "small",
        "task": "semantic",
        "data": {"train": role, "val": role},
        "budget": {"trials": 2},
        "space": {"model": {"choice": ["segformer"]}},
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    out = tmp_path / "sheet.png"
    arguments = ["show", "--pictures", str(out), str(tmp_path / "sweep.yaml"), "--json"]
    result = CliRunner().invoke(spaces_app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads(result.output)["steps"] == STEPS["semantic"] and out.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pictures", "s.png"], "expected a sweep file or --images, but got neither"),
        (["--pictures", "s.png", "particles"], "but got the preset particles"),
        (["--pictures", "s.jpg", "--images", "x"], "--pictures: expected a .png file, but got s.jpg"),
        (["--pictures", "nowhere/s.png", "--images", "x"], "nowhere: expected an existing folder"),
        (["--pictures", "s.png", "--images", "x", "--strength", "9"], "--strength: expected 0 to 2, but got 9"),
        (["--images", "x"], "expected --pictures beside --images"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(spaces_app, ["show", *arguments], catch_exceptions=False)
