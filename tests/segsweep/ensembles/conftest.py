"""A sweep that has begun, over synthetic images, and records of trials as its study would give them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces.trial_config import (
    InputChoice,
    ModelChoice,
    OptimizationChoice,
    ScheduleChoice,
    ThresholdChoice,
    TrialConfig,
)
from segdata.coco import read_coco, write_coco
from segdata.synthetic import synthesize
from segsweep.data_roles import read_roles
from segsweep.run_folder import Origin, RunFolder
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep, load_sweep

SIZE_PX = 64
METRICS = {"instance": "segm_mAP", "semantic": "mIoU"}
BEGUN = Callable[..., Sweep]


def semantic_roles(folder: Path, train: int, val: int) -> dict[str, dict[str, str]]:
    """Makes litter whose label maps lie in a folder a role."""
    synthesize("litter", folder, train + val, SIZE_PX, 7)
    labels, held = folder / "labels", folder / "val-labels"
    held.mkdir()
    (held / "classes.json").write_bytes((labels / "classes.json").read_bytes())
    for path in sorted(labels.glob("*.png"))[train:]:
        path.rename(held / path.name)
    return {
        role: {"labels": str(place), "images": str(folder / "images")}
        for role, place in (("train", labels), ("val", held))
    }


def instance_roles(folder: Path, train: int, val: int) -> dict[str, dict[str, str]]:
    """Makes particles with a COCO file a role."""
    synthesize("particles", folder, train + val, SIZE_PX, 7)
    whole = read_coco(folder / "annotations.json")
    names = sorted(image.file_name for image in whole.images)
    for role, part in (("train", names[:train]), ("val", names[train:])):
        write_coco(whole.subset(part), folder / f"{role}.json")
    return {
        role: {"annotations": str(folder / f"{role}.json"), "images": str(folder / "images")}
        for role in ("train", "val")
    }


def tiny_config(model: str, epochs: int) -> TrialConfig:
    """Returns a trial small enough for one CPU thread."""
    semantic = model == "segformer"
    return TrialConfig(
        ModelChoice(model, "mit-b0" if semantic else "r18", width=None if semantic else 0.25, head_width=0.125),
        InputChoice(crop_size=SIZE_PX),
        OptimizationChoice("adamw", 2e-3, batch_size=2),
        ScheduleChoice(epochs),
        thresholds=ThresholdChoice() if semantic else ThresholdChoice(rois_per_image=16),
    )


@pytest.fixture(scope="session")
def begun() -> BEGUN:
    """Returns a maker of a sweep that has begun: `begun(tmp_path, "semantic", 4, 2)`."""

    def make(folder: Path, task: str, train: int, val: int, **keys: Any) -> Sweep:
        roles = (semantic_roles if task == "semantic" else instance_roles)(folder / "data", train, val)
        model = "segformer" if task == "semantic" else "mask-rcnn"
        values = {"name": "tiny", "task": task, "data": roles, "metric": METRICS[task], "search": {"seed": 7}}
        values |= {"budget": {"trials": 2, "concurrent": 1}, "resources": {"cpu": 1, "gpu": 0}}
        values |= {"space": {"lr": {"float": [1e-3, 1e-2]}}, "fixed": {"model": model}}
        (folder / "sweep.yaml").write_text(yaml.safe_dump(values | keys))
        sweep = load_sweep(folder / "sweep.yaml")
        run = RunFolder(sweep.path)
        run.path.mkdir(parents=True)
        run.create(sweep, Origin.new(sweep, read_roles(sweep).fingerprint))
        return sweep

    return make


@pytest.fixture(scope="session")
def record_of() -> Callable[..., TrialRecord]:
    """Returns a maker of records: `record_of(1, "segformer", epochs=2)`."""

    def make(number: int, model: str, epochs: int) -> TrialRecord:
        config = tiny_config(model, epochs)
        return TrialRecord(
            number=number,
            origin="sampler",
            sample={"lr": 2e-3},
            config=json.loads(json.dumps(config.to_dict())),
            outcome="completed",
            reason="",
            scores={epochs: 0.5},
            best_epoch=epochs,
            best_score=0.5,
            planned_epochs=epochs,
            duration_s=1.0,
        )

    return make
