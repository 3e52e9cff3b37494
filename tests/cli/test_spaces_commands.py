"""`segsweep spaces`: tables, trees and their JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from search_spaces.knobs import KNOBS
from search_spaces.models import MODELS
from search_spaces.space import parse_space
from segdata.errors import InputError, SweepFileError
from segsweep.cli.spaces import spaces_app

SWEEP = """\
name: small
task: instance
data: {train: {images: i, annotations: a.json}, val: {images: i, annotations: a.json}}
budget: {trials: 2}
space:
  model: {choice: [mask-rcnn, cascade-mask-rcnn]}
  optimizer: {choice: [sgd, adamw]}
  momentum: {choice: [0.8, 0.9], when: {optimizer: sgd}}
  cascade_iou_low: {choice: [0.3, 0.4], when: {model: cascade-mask-rcnn}}
overrides: {model.test_cfg.rcnn.mask_thr_binary: 0.4}
forbid: [{model: mask-rcnn, optimizer: adamw}]
fixed: {batch_size: 2}
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "small.yaml").write_text(SWEEP)
    return tmp_path / "small.yaml"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(spaces_app, list(arguments), env={"COLUMNS": "400"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_list_names_every_knob_with_its_values_and_help() -> None:
    table = run("list")
    for knob in KNOBS.values():
        assert knob.name in table
        assert knob.help in table
    assert "1e-08 to 10 (log)" in table
    assert [row["name"] for row in run_json("list")] == list(KNOBS)


def test_list_of_a_task_leaves_the_others_knobs_out() -> None:
    names = [row["name"] for row in run_json("list", "--task", "semantic")]
    assert "loss_auxiliary_weight" in names
    assert "nms_iou" not in names
    with pytest.raises(InputError, match="expected instance or semantic, but got 'panoptic'"):
        run("list", "--task", "panoptic")


def test_models_lists_backbones_and_knobs() -> None:
    rows = {row["name"]: row for row in run_json("models")}
    assert list(rows) == list(MODELS)
    assert rows["segformer"]["backbones"][0] == "mit-b0"
    assert "cascade_iou_low" in rows["cascade-mask-rcnn"]["knobs"]
    assert "cascade_iou_low" not in rows["mask-rcnn"]["knobs"]
    table = run("models")
    assert "x101-64x4d" in table
    assert "any config of the MMDetection and MMSegmentation zoos" in table


def test_show_prints_the_tree_the_size_the_baseline_and_five_samples(sweep_file: Path) -> None:
    text = run("show", str(sweep_file))
    assert "│   └── cascade_iou_low: one of 0.3, 0.4   if model is cascade-mask-rcnn" in text
    assert "│   └── momentum: one of 0.8, 0.9   if optimizer is sgd" in text
    assert "forbidden: model=mask-rcnn, optimizer=adamw" in text
    assert "fixed: batch_size=2" in text
    assert "overrides: model.test_cfg.rcnn.mask_thr_binary=0.4" in text
    # mask-rcnn: sgd with 2 momenta; cascade: (sgd with 2 momenta + adamw) x 2 thresholds
    assert "size: 8 combinations" in text
    assert "baseline: model=mask-rcnn, optimizer=sgd, momentum=0.9" in text
    assert "sample 5: " in text


def test_show_as_json_holds_samples_of_the_space(sweep_file: Path) -> None:
    record = run_json("show", str(sweep_file))
    assert record["size"] == 8
    assert record["forbid"] == [{"model": ["mask-rcnn"], "optimizer": ["adamw"]}]
    space = parse_space(
        {row["knob"]: {"choice": values, "when": row["when"]} if row["when"] else {"choice": values}
         for row, values in zip(
             record["parameters"],
             [["mask-rcnn", "cascade-mask-rcnn"], ["sgd", "adamw"], [0.8, 0.9], [0.3, 0.4]], strict=True)},
        {}, [], record["fixed"], task="instance", where="test",
    )  # fmt: skip
    assert len(record["samples"]) == 5
    for sample in record["samples"]:
        space.complete(sample)


def test_samples_follow_the_seed(sweep_file: Path) -> None:
    first = run_json("show", str(sweep_file), "--seed", "1")["samples"]
    assert first == run_json("show", str(sweep_file), "--seed", "1")["samples"]
    assert first != run_json("show", str(sweep_file), "--seed", "2")["samples"]


def test_show_of_a_task_prints_where_knobs_land_and_come_from() -> None:
    table = run("show", "--task", "instance")
    assert "model.train_cfg.rcnn[*].assigner.pos_iou_thr" in table
    assert "000: IoU thresholds 0.3-0.6 -> 0.2-0.6" in table
    rows = {row["name"]: row for row in run_json("show", "--task", "instance")}
    assert rows["momentum"]["needs"] == {"optimizer": ["sgd"]}


def test_show_needs_a_file_or_a_task(sweep_file: Path) -> None:
    with pytest.raises(InputError, match="expected a sweep file or --task, but got neither"):
        run("show")
    with pytest.raises(InputError, match="but got both"):
        run("show", str(sweep_file), "--task", "instance")
    with pytest.raises(SweepFileError, match="no such file"):
        run("show", "nowhere.yaml")


@pytest.mark.parametrize("command", ["list", "models", "show"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"Example: segsweep spaces {command}" in run(command, "--help")
