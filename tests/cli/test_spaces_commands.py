"""`segsweep spaces`: tables, trees and their JSON."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from search_spaces.knobs import KNOBS
from search_spaces.models import MODELS
from search_spaces.preset import PRESETS, read_preset
from search_spaces.space import parse_space
from segdata.errors import InputError, SweepFileError
from segdata.synthetic import synthesize
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


def test_list_names_every_preset_with_its_task_and_knobs() -> None:
    table = run("list")
    for name in PRESETS:
        assert re.search(rf"^{name} +{read_preset(name).task} +{re.escape(read_preset(name).what)}", table, re.M)
    assert "searches model, backbone, init, optimizer, epochs, cascade_iou_low" in table
    assert "fixes image_width, image_height" in table
    rows = {row["name"]: row for row in run_json("list")}
    assert list(rows) == ["particles", "litter-team", "litter-solo", "nuclei", "litter-diary"]
    assert rows["nuclei"]["fixed"]["batch_size"] == 1
    assert "0.24303" in rows["nuclei"]["rows"]["backbone"]


def test_knobs_names_every_knob_with_its_values_and_help() -> None:
    table = run("knobs")
    for knob in KNOBS.values():
        assert knob.name in table
        assert knob.help in table
    assert "1e-08 to 10 (log)" in table
    assert [row["name"] for row in run_json("knobs")] == list(KNOBS)


def test_knobs_of_a_task_leave_the_others_knobs_out() -> None:
    names = [row["name"] for row in run_json("knobs", "--task", "semantic")]
    assert "loss_auxiliary_weight" in names
    assert "nms_iou" not in names
    with pytest.raises(InputError, match="expected instance or semantic, but got 'panoptic'"):
        run("knobs", "--task", "panoptic")


def test_models_lists_every_model_with_its_size_and_what_it_needs() -> None:
    table = run("models")
    for model in MODELS.values():
        assert re.search(rf"^ {re.escape(model.name)} .*{re.escape(model.help)}", table, re.M), model.name
    assert re.search(r"^ detectors +[0-9.]+ +GPU ", table, re.M)
    assert "any config of the MMDetection and MMSegmentation zoos" in table
    assert "mask-rcnn" not in run("models", "--task", "semantic")


def test_models_as_json_holds_encoders_knobs_and_parameters() -> None:
    rows = {row["name"]: row for row in run_json("models")}
    assert list(rows) == list(MODELS)
    assert rows["segformer"]["backbones"][0] == "mit-b0"
    assert "cascade_iou_low" in rows["cascade-mask-rcnn"]["knobs"]
    assert "cascade_iou_low" not in rows["mask-rcnn"]["knobs"]
    assert rows["mask-rcnn"]["parameters"] > rows["mask-rcnn"]["encoder_parameters"]["r50"] > 20e6
    assert (rows["detectors"]["needs"], rows["mask-rcnn"]["needs"]) == ("GPU", "")


def test_one_model_is_shown_with_its_encoders_and_knobs() -> None:
    text = run("models", "cascade-mask-rcnn")
    assert re.search(r"encoders +r50 \([0-9.]+\), ", text)
    assert re.search(r"knobs +model, backbone, .*cascade_iou_low", text, re.DOTALL)
    assert [row["name"] for row in run_json("models", "segformer")] == ["segformer"]
    with pytest.raises(InputError, match="but got 'mask-rcn'. Did you mean mask-rcnn?"):
        run("models", "mask-rcn")


@pytest.mark.parametrize("arguments", [["list"], ["models"], ["models", "mask-rcnn"], ["show", "particles"]])
def test_no_table_needs_more_than_80_columns(arguments: list[str]) -> None:
    result = CliRunner().invoke(spaces_app, arguments, env={"COLUMNS": "80"}, catch_exceptions=False)
    long = [line for line in result.output.splitlines() if len(line) > 80]
    assert all(line.startswith(("baseline: ", "sample ")) for line in long), long  # one line each, to copy
    assert "…" not in result.output


def test_show_of_a_preset_prints_the_reports_row_beside_each_knob() -> None:
    text = run("show", "particles")
    assert text.startswith("preset particles (report 000): ")
    for knob, row in read_preset("particles").rows.items():
        assert text.count(f"{knob}: ") >= 1
        assert f"report: {row}" in text, knob
    assert "baseline: model=mask-rcnn, backbone=r50, init=imagenet, optimizer=sgd" in text
    assert "not in the space: The order: models (depth and IoU with them)" in text
    record = run_json("show", "particles")
    rows = {parameter["knob"]: parameter["row"] for parameter in record["parameters"]}
    assert "9 0.6235 (best of all)" in rows["epochs"]
    assert record["fixed"] == {"image_width": 1280, "image_height": 1024}
    assert "0.6084" in record["fixed_rows"]["image_width"]


def test_show_of_a_sweep_on_a_preset_has_both_rows(sweep_file: Path) -> None:
    text = SWEEP[: SWEEP.index("space:")] + "preset: particles\nfixed: {model: ms-rcnn, batch_size: 2}\n"
    sweep_file.write_text(text)
    shown = run("show", str(sweep_file))
    assert "on the preset particles" in shown
    assert "model: ms-rcnn\n" in shown and "cascade_iou_low" not in shown
    assert "report: SGD -> Adadelta: Cascade 64x4d 0.6080 -> 0.6105" in shown
    assert f"report: {KNOBS['batch_size'].source}" in shown


def test_show_prints_the_tree_the_size_the_baseline_and_five_samples(sweep_file: Path) -> None:
    text = run("show", str(sweep_file))
    assert "│   └── cascade_iou_low: one of 0.3, 0.4   if model is cascade-mask-rcnn" in text
    assert "│   └── momentum: one of 0.8, 0.9   if optimizer is sgd" in text
    assert f"report: {KNOBS['momentum'].source}" in text
    assert "forbidden: model=mask-rcnn, optimizer=adamw" in text
    assert "── batch_size: 2" in text
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


def test_show_needs_a_preset_a_file_or_a_task(sweep_file: Path) -> None:
    with pytest.raises(InputError, match="expected a preset, a sweep file or --task, but got nothing"):
        run("show")
    with pytest.raises(InputError, match="but got two of them"):
        run("show", str(sweep_file), "--task", "instance")
    with pytest.raises(
        InputError, match="expected a preset or a sweep file, but got 'particle'. Did you mean particles?"
    ):
        run("show", "particle")
    with pytest.raises(SweepFileError, match="no such file"):
        run("show", "nowhere.yaml")


def test_a_negative_seed_is_a_usage_error_and_no_traceback() -> None:
    result = CliRunner().invoke(spaces_app, ["show", "nuclei", "--seed", "-1"])
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.exception


def test_pictures_that_cannot_be_written_are_one_message(tmp_path: Path) -> None:
    synthesize("particles", tmp_path / "data", images=2, size=64)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="folder.png: expected a .png file, but got a folder"):
        run("show", "--pictures", str(tmp_path / "folder.png"), "--images", str(tmp_path / "data"))
    with pytest.raises(InputError, match="/proc: expected a folder to write to, but sheet.png could not be written"):
        run("show", "--pictures", "/proc/sheet.png", "--images", str(tmp_path / "data"))


@pytest.mark.parametrize("command", ["list", "knobs", "models", "show"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"Example: segsweep spaces {command}" in run(command, "--help")
