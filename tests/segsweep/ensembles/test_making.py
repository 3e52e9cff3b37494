"""Candidates that found nothing on the images where choices are made: named and left out, or one clear error."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segdata.errors import InputError
from segdata.instances import InstanceDataset
from segdata.predictions import ImageInstances, PredictionSet, PredictionWriter, truth_as_predictions
from segsweep.data_roles import read_roles
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.judge import judge_by_role
from segsweep.ensembles.library import Entry
from segsweep.ensembles.making import Maker, Recipe
from segsweep.ensembles.members import Shelf
from segsweep.predicting import How
from segsweep.prediction_source import Network
from segsweep.sweep_file import Sweep

FOUND, EMPTY = ("0001", "0002"), ("0000", "0003 hflip")


def nothing_of(given: Path, out: Path) -> Path:
    """A prediction set of the same images without an object."""
    found = PredictionSet.open(given)
    with PredictionWriter(out, found.meta) as writer:
        for image in found.meta.images:
            writer.add_instances(image, ImageInstances.of([], [], [], ()))
    return out


class Place:
    """Four candidates whose predictions are there: two find all, two find nothing on val."""

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        self.console = Console(file=io.StringIO(), width=40)
        self.shelf = Shelf(sweep, read_roles(sweep), How(), self.console)
        judge = judge_by_role(self.shelf, "train")
        assert judge is not None and judge.name == "val"
        self.maker = Maker(self.shelf, EnsembleConfig(), judge, "train", folder / "out")
        for role in ("train", "val"):
            truth = self.shelf.roles.roles[role].truth
            assert isinstance(truth, InstanceDataset)
            right = truth_as_predictions(truth, folder / role)
            none = nothing_of(right, folder / f"{role}-none")
            for name in (*FOUND, *EMPTY):
                self.shelf.known[name, role] = (none if name in EMPTY and role == "val" else right,)

    def recipe(self, name: str, *members: str) -> Recipe:
        entries = (Entry(one, (Network(Path(one) / "config.py", Path(one) / "best.pth"),)) for one in members)
        return Recipe(name, "wbf", tuple(entries))

    @property
    def said(self) -> list[str]:
        assert isinstance(self.console.file, io.StringIO)
        return [line for line in self.console.file.getvalue().splitlines() if line.startswith("left out")]


@pytest.fixture
def place(begun: Callable[..., Sweep], tmp_path: Path) -> Place:
    return Place(begun(tmp_path, "instance", 4, 2), tmp_path)


def test_a_candidate_that_finds_nothing_is_named_once_and_is_in_no_ensemble(place: Place) -> None:
    recipes = [place.recipe("wbf of all", *FOUND, *EMPTY), place.recipe("wbf again", *EMPTY, *FOUND)]
    made = place.maker.ensembles(recipes)
    assert [sorted(part.entry.name for part in one.parts) for one in made] == [list(FOUND), list(FOUND)]
    assert place.said == [f"left out: {name}, which found no object on val" for name in EMPTY]


def test_an_ensemble_of_such_candidates_alone_is_left_out_and_the_others_are_made(place: Place) -> None:
    made = place.maker.ensembles([place.recipe("wbf of views", *EMPTY), place.recipe("wbf of all", "0000", "0001")])
    assert [one.row.name for one in made] == ["wbf of all"]
    assert place.said[-1] == "left out: wbf of views, of which no member found an object on val"


def test_where_no_candidate_finds_anything_the_error_says_so(place: Place, tmp_path: Path) -> None:
    message = r"--select on val: expected a candidate that finds an object, but got 2 that find none\. Take other"
    with pytest.raises(InputError, match=message):
        place.maker.ensembles([place.recipe("wbf of all", *EMPTY), place.recipe("wbf of views", "0000")])
    assert not (tmp_path / "out").exists()


def test_where_nothing_is_chosen_a_candidate_that_finds_nothing_stays(place: Place, tmp_path: Path) -> None:
    unjudged: Any = Maker(place.shelf, EnsembleConfig(), None, "val", tmp_path / "out")
    (made,) = unjudged.ensembles([place.recipe("wbf of all", *EMPTY)])
    assert len(made.parts) == len(EMPTY) and PredictionSet.open(made.row.predictions).is_empty()
