"""`segsweep spaces show` of sweep files with linked values, several presets and space functions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segsweep.cli.spaces import spaces_app

START = """\
name: small
task: instance
data: {train: {images: i, annotations: a.json}, val: {images: i, annotations: a.json}}
budget: {trials: 2}
"""

LINKED = """\
variables: {rate: {choice: [0.001, 0.01]}}
space:
  optimizer: {choice: [sgd, adamw]}
  lr:
    - {when: {optimizer: sgd}, linked: [rate, batch_size]}
    - {when: {optimizer: adamw}, linked: rate, factor: 0.1, power: 0.5}
overrides: {model.rpn_head.anchor_generator.ratios: {spread: [0.5, 2.0], count: 3, log: true}}
fixed: {model: mask-rcnn, batch_size: 4}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    (tmp_path / "a.json").write_text("{}")
    return tmp_path


def show(folder: Path, text: str, *options: str) -> str:
    path = folder / "sweep.yaml"
    path.write_text(START + text)
    result = CliRunner().invoke(
        spaces_app, ["show", str(path), *options], env={"COLUMNS": "400"}, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_the_tree_shows_rules_and_the_samples_their_values(folder: Path) -> None:
    text = show(folder, LINKED)
    assert "── rate (variable): one of 0.001, 0.01" in text
    assert "│   ├── lr: rate x batch_size   if optimizer is sgd" in text
    assert "│   └── lr: 0.1 x rate ** 0.5   if optimizer is adamw" in text
    assert "── model.rpn_head.anchor_generator.ratios: 3 values from 0.5 to 2 (log)" in text
    assert "size: 4 combinations" in text
    assert "baseline: rate=0.001, optimizer=sgd, lr=0.004" in text
    samples = [line for line in text.splitlines() if line.startswith("sample ")]
    assert len(samples) == 5 and all("lr=" in line for line in samples)


def test_the_record_lists_what_is_computed(folder: Path) -> None:
    record = json.loads(show(folder, LINKED, "--json"))
    assert record["variables"] == ["rate"]
    assert record["computed"][0] == {
        "id": "lr[optimizer=sgd]",
        "knob": "lr",
        "values": "rate x batch_size",
        "from": ["rate", "batch_size"],
        "when": {"optimizer": ["sgd"]},
    }
    assert record["computed"][2]["values"] == "3 values from 0.5 to 2 (log)"


def test_presets_that_disagree_are_told(folder: Path) -> None:
    text = show(folder, "preset: [particles, nuclei]\n")
    assert ", on the preset particles + nuclei: " in text
    assert "note: preset nuclei wins over particles on model, backbone, " in text
    assert json.loads(show(folder, "preset: [particles, nuclei]\n", "--json"))["notes"][0].startswith("preset nuclei")


def test_a_function_is_shown_as_the_space_that_it_is(folder: Path) -> None:
    (folder / "shown_space.py").write_text(
        "def space(trial):\n"
        "    if trial.suggest_categorical('optimizer', ['sgd', 'adamw']) == 'sgd':\n"
        "        trial.suggest_categorical('momentum', [0.8, 0.9])\n"
        "    return {'model': 'mask-rcnn'}\n"
    )
    text = show(folder, "space: shown_space.py:space\n")
    assert "│   └── momentum: one of 0.8, 0.9   if optimizer is sgd" in text
    assert "size: 3 combinations" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LINKED.replace("factor: 0.1", "factor: 1e4"), "space.lr.1.linked: expected lr to be"),
        ("space: shown_space.py:space\n", "space: expected a Python file, but got nothing"),
        ("include: none.yaml\n", "include.0: expected a YAML file to include, but got nothing"),
        ("preset: [particles, litter-solo]\n", "preset.name.1: expected a preset for the task instance"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(folder: Path, text: str, message: str) -> None:
    (folder / "sweep.yaml").write_text(START + text)
    command = [sys.executable, "-m", "segsweep", "spaces", "show", "sweep.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
