"""Another tool's predictions beside folds: images of train and val that it could not tell apart are refused."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from segdata.coco import read_coco, write_coco
from segdata.errors import DatasetError, InputError
from segdata.instances import InstanceDataset, rle_of
from segdata.predictions import PredictionSet
from segdata.synthetic import synthesize
from segscore.metrics import score_predictions
from segsweep.data_roles import read_roles
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.judge import OUT_OF_FOLD
from segsweep.ensembles.members import Shelf
from segsweep.ensembles.other_tools import other_tools
from segsweep.ensembles.pool import pool_of
from segsweep.ensembles.refusals import refuse_other_tools
from segsweep.predicting import How
from segsweep.sweep_file import Sweep

Roles = dict[str, dict[str, str]]
COUNTS = {"train": 4, "val": 3, "test": 2}
SIZE_PX = 64
TOOL = EnsembleConfig(folds=2, add={"tool": "preds"})


def instance_roles(folder: Path, first_ids: dict[str, int]) -> Roles:
    """Makes a data set a role, in a folder of its own, whose images have the same names; ids count from the first."""
    for seed, (role, count) in enumerate(COUNTS.items()):
        path = synthesize("particles", folder / role, count, SIZE_PX, seed) / "annotations.json"
        data, more = read_coco(path), first_ids[role] - 1
        images = tuple(replace(image, id=image.id + more) for image in data.images)
        objects = tuple(replace(one, image_id=one.image_id + more) for one in data.objects)
        path.unlink()
        write_coco(InstanceDataset(images, data.categories, objects), path)
    return {
        role: {"annotations": str(folder / role / "annotations.json"), "images": str(folder / role / "images")}
        for role in COUNTS
    }


def semantic_roles(folder: Path) -> Roles:
    """Makes label maps a role, with the same stems in each."""
    for seed, (role, count) in enumerate(COUNTS.items()):
        synthesize("litter", folder / role, count, SIZE_PX, seed)
    return {role: {"labels": str(folder / role / "labels"), "images": str(folder / role / "images")} for role in COUNTS}


def results_of(truth: Any) -> str:
    """A tool that finds what is there."""
    return json.dumps(
        [
            {
                "image_id": one.image_id,
                "category_id": one.category_id,
                "score": 0.9,
                "segmentation": rle_of(one, SIZE_PX, SIZE_PX).to_coco(),
            }
            for one in truth.objects
        ]
    )


def shelf_of(begun: Callable[..., Sweep], folder: Path, task: str, roles: Roles) -> Shelf:
    sweep = begun(folder / "sweep", task, 4, 2, data=roles)
    (sweep.folder / "preds").mkdir()
    return Shelf(sweep, read_roles(sweep), How(), Console(file=io.StringIO()))


def test_ids_that_are_in_train_and_in_val_are_refused(begun: Callable[..., Sweep], tmp_path: Path) -> None:
    shelf = shelf_of(begun, tmp_path, "instance", instance_roles(tmp_path, {"train": 3, "val": 6, "test": 3}))
    preds = shelf.sweep.folder / "preds"
    (preds / "test.json").write_text(results_of(shelf.roles.roles["test"].truth))
    with pytest.raises(InputError, match=r"--add tool=.*preds: expected out-of-fold\.json, predictions of all images"):
        refuse_other_tools(shelf, TOOL, ("wbf",), "test")
    (preds / "out-of-fold.json").write_text("[]")
    message = r"--add tool=.*preds: expected images of train and val whose ids differ, but got 6 in both\. Number"
    with pytest.raises(InputError, match=message):
        refuse_other_tools(shelf, TOOL, ("wbf",), "test")
    assert not (shelf.sweep.path / "folds").exists()
    (preds / "val.json").write_text(results_of(shelf.roles.roles["val"].truth))
    refuse_other_tools(shelf, TOOL.model_copy(update={"folds": 0}), ("wbf",), "test")  # each role by itself is clear


def test_stems_that_are_in_train_and_in_val_are_refused(begun: Callable[..., Sweep], tmp_path: Path) -> None:
    shelf = shelf_of(begun, tmp_path, "semantic", semantic_roles(tmp_path))
    preds = shelf.sweep.folder / "preds"
    shutil.copytree(tmp_path / "test" / "labels", preds / "test")
    (preds / "out-of-fold").mkdir()
    message = "expected images of train and val whose names differ, but got litter_0001 in both"
    with pytest.raises(InputError, match=message):
        refuse_other_tools(shelf, TOOL, ("hard-vote",), "test")


def test_ids_that_differ_keep_their_images_also_where_names_do_not(begun: Callable[..., Sweep], tmp_path: Path) -> None:
    shelf = shelf_of(begun, tmp_path, "instance", instance_roles(tmp_path, {"train": 11, "val": 2, "test": 2}))
    pool = pool_of(shelf.sweep, shelf.roles, 2).data
    truths = [shelf.roles.roles[role].truth for role in ("val", "train")]
    preds = shelf.sweep.folder / "preds"
    (preds / "test.json").write_text(results_of(shelf.roles.roles["test"].truth))
    whole = [entry for truth in truths for entry in json.loads(results_of(truth))]  # by the ids of its own files
    (preds / "out-of-fold.json").write_text(json.dumps(whole))
    refuse_other_tools(shelf, TOOL, ("wbf",), "test")
    assert sorted(path.name for path in preds.iterdir()) == ["out-of-fold.json", "test.json"]
    (entry,) = other_tools(shelf, TOOL.add, dict(shelf.roles.roles) | {OUT_OF_FOLD: pool})
    found = PredictionSet.open(shelf.sets(entry, OUT_OF_FOLD)[0])
    assert [image.file_name for image in found.meta.images][0].startswith("train-")
    assert score_predictions(pool.truth, found)["segm_mAP"] == 1


def test_wrong_predictions_out_of_fold_are_refused_before_folds_are_trained(
    begun: Callable[..., Sweep], tmp_path: Path
) -> None:
    shelf = shelf_of(begun, tmp_path, "instance", instance_roles(tmp_path, {"train": 11, "val": 2, "test": 2}))
    preds = shelf.sweep.folder / "preds"
    (preds / "test.json").write_text(results_of(shelf.roles.roles["test"].truth))
    whole = json.loads(results_of(shelf.roles.roles["train"].truth))
    (preds / "out-of-fold.json").write_text(json.dumps([*whole, whole[0] | {"image_id": 5}]))
    with pytest.raises(DatasetError, match=r"out-of-fold\.json.*expected .*, but got 5"):
        refuse_other_tools(shelf, TOOL, ("wbf",), "test")


def test_a_label_map_that_is_missing_out_of_fold_is_refused_before_folds_are_trained(
    begun: Callable[..., Sweep], tmp_path: Path
) -> None:
    sweep = begun(tmp_path, "semantic", 4, 2)
    shelf = Shelf(sweep, read_roles(sweep), How(), Console(file=io.StringIO()))
    for name in ("train", "out-of-fold"):
        shutil.copytree(tmp_path / "data" / "labels", tmp_path / "preds" / name)
    with pytest.raises(DatasetError, match="litter_0005"):
        refuse_other_tools(shelf, TOOL, ("hard-vote",), "train")
    shutil.copytree(tmp_path / "data" / "val-labels", tmp_path / "preds" / "out-of-fold", dirs_exist_ok=True)
    refuse_other_tools(shelf, TOOL, ("hard-vote",), "train")
