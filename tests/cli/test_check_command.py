"""`segsweep check` with spaces and labels that cannot work, by the real command: exit code 2 and one readable line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segdata.labelmaps import read_label_map, write_label_map
from segdata.synthetic import synthesize

INSTANCE = """\
name: first
task: instance
data:
  train: {annotations: data/annotations.json, images: data/images}
  val: {annotations: data/annotations.json, images: data/images}
budget: {trials: 2}
space:
  lr: {float: [1e-4, 1e-2], log: true}
fixed: {model: mask-rcnn, backbone: r18, width: 0.25, epochs: 1}
"""
SEMANTIC = """\
name: second
task: semantic
data:
  train: {labels: data/labels, images: data/images}
  val: {labels: data/labels, images: data/images}
budget: {trials: 2}
space:
  lr: {float: [1e-4, 1e-2], log: true}
fixed: {model: deeplabv3plus, backbone: r18, epochs: 1}
"""
LONGEST = 400  # characters; a line that lists forty models or a hundred encoders is longer


def check(folder: Path, text: str, expect: int = 2) -> str:
    """Runs `segsweep check` and returns its one line on standard error (standard output if all is fine)."""
    (folder / "sweep.yaml").write_text(text)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("segsweep")), "check", "sweep.yaml"],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    if not expect:
        return done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert len(lines[0]) < LONGEST, lines[0]
    return lines[0]


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    synthesize("particles", tmp_path / "data", images=2, size=64)
    return tmp_path


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    synthesize("litter", tmp_path / "data", images=2, size=64)
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "backbone: r18",
            "backbone: densenet121",
            r"sweep.yaml:9: fixed.backbone: .*densenet121, which deeplabv3plus can't take \(it needs an encoder that "
            r"can dilate\)\. deeplabv3plus takes r50, .*`segsweep spaces models deeplabv3plus`",
        ),
        (
            "deeplabv3plus, backbone: r18",
            "smp-deeplabv3plus, backbone: xception",
            r"xception, which smp-deeplabv3plus can't take \(it needs an encoder that can dilate\)\. "
            r".*takes resnet34, .* \(\d\d in all\): `segsweep spaces models smp-deeplabv3plus`",
        ),
        (
            "deeplabv3plus, backbone: r18",
            "smp-deeplabv3plus, backbone: densenet161",
            r"densenet161, which smp-deeplabv3plus can't take \(it needs an encoder that can dilate\)",
        ),
        (
            "deeplabv3plus, backbone: r18",
            "smp-unet, backbone: resnet51",
            r"expected backbone to be one of r50, .* \(\d+ in all\), .*but got 'resnet51'\. Did you mean resnet\d+\? "
            r"`segsweep spaces models` lists all",
        ),
        ("model: deeplabv3plus", "model: deeplab", r"but got 'deeplab'\. Did you mean deeplabv3\?"),
        (
            "backbone: r18",
            "backbone: r18, rcnn_positive_iou: 0.4",
            r"expected a knob of the task semantic, but got rcnn_positive_iou, which serves instance\. Drop it",
        ),
        (
            "backbone: r18",
            "backbone: r18, crop_sise: 64",
            r"sweep.yaml:9: fixed.crop_sise: expected a knob, but got 'crop_sise'\. Did you mean crop_size\?",
        ),
        (
            "fixed:",
            "preset: litter\nfixed:",
            r"sweep.yaml:9: preset.name: expected the name of a preset, but got 'litter'\. Did you mean litter-",
        ),
        (
            "fixed:",
            "preset: particles\nfixed:",
            r"expected a preset for the task semantic, but got particles, which is instance\. Choose from litter-team",
        ),
        (
            "fixed:",
            "preset: {name: litter-solo, drop: [class_mixx]}\nfixed:",
            r"preset.drop.0: expected a knob of the preset litter-solo, but got 'class_mixx'\. Did you mean class_mix",
        ),
    ],
)
def test_a_space_that_cannot_work_is_refused_in_one_line(scenes: Path, old: str, new: str, message: str) -> None:
    assert old in SEMANTIC
    line = check(scenes, SEMANTIC.replace(old, new))
    assert re.search(message, line), line


def test_a_model_that_cannot_take_a_knob_is_named(instances: Path) -> None:
    line = check(instances, INSTANCE.replace("backbone: r18", "backbone: r18, cascade_iou_low: 0.3"))
    assert re.search(
        r"sweep.yaml:9: fixed.cascade_iou_low: .* which mask-rcnn can't take\. .*serves cascade-mask-rcnn", line
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.decode_head.in_chanels: 3", "The nearest is model.decode_head.in_channels"),
        ("model.decode_hed.channels: 3", "The nearest is model.decode_head"),
        (
            "model.decode_head.num_classes: 3",
            "overrides.model.decode_head.num_classes: expected num_classes 5, as the data set has classes, but got 3",
        ),
    ],
)
def test_an_override_that_has_no_place_is_refused(scenes: Path, override: str, message: str) -> None:
    line = check(scenes, SEMANTIC.replace("fixed:", f"overrides: {{{override}}}\nfixed:"))
    assert message in line


@pytest.mark.slow
def test_a_pixel_of_no_class_is_refused(scenes: Path) -> None:
    path = sorted((scenes / "data" / "labels").glob("*.png"))[0]
    label = np.array(read_label_map(path))
    label[:4] = 200
    write_label_map(label, path)
    line = check(scenes, SEMANTIC)
    assert f"{path}: expected pixels from 0 to 4 or 255, but got 200" in line


@pytest.mark.slow
def test_an_object_of_no_category_is_refused(instances: Path) -> None:
    path = instances / "data" / "annotations.json"
    coco = json.loads(path.read_text())
    coco["annotations"][3]["category_id"] = 77
    path.write_text(json.dumps(coco))
    line = check(instances, INSTANCE)
    assert "annotations[3]" in line and "expected the id of a category in this file, but got 77" in line


def test_a_check_does_not_wait_for_torch() -> None:
    modules = "segsweep.cli, segsweep.sweep_file, segsweep.data_roles, segsweep.preflight, segsweep.initial_weights"
    code = f"import sys, {modules}; print({{'torch', 'ray', 'mlflow', 'mmdet.models'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.slow
def test_a_sweep_on_a_preset_is_fine(scenes: Path) -> None:
    text = SEMANTIC[: SEMANTIC.index("space:")] + "preset: litter-solo\nfixed: {init: none}\n"
    assert "sweep.yaml: fine. Images: train 2, val 2." in check(scenes, text, expect=0)


def test_a_metric_of_ones_own_that_needs_finds_is_refused(instances: Path) -> None:
    """An untrained model has none; perfect predictions alone would not show it."""
    (instances / "mine.py").write_text("def surest(truth, found):\n    return max(r['score'] for r in found)\n")
    line = check(instances, INSTANCE + "metric: mine.py:surest\n")
    assert re.search(r"sweep.yaml: metric: .*mine.py:2: expected a metric that returns, but got ValueError: max", line)
    (instances / "mine.py").write_text("def surest(truth, found):\n    return len(found)\n")
    assert "sweep.yaml: fine" in check(instances, INSTANCE + "metric: mine.py:surest\n", expect=0)


def test_priors_of_a_model_that_nobody_scored_are_refused(scenes: Path) -> None:
    text = SEMANTIC.replace("model: deeplabv3plus, backbone: r18", "model: unet")
    line = check(scenes, text + "search: {priors: 2}\n")
    assert re.search(r"search.priors: expected models that the zoo has published the mIoU of, but got unet\.", line)


@pytest.mark.slow
def test_what_won_between_two_presets_is_said(instances: Path) -> None:
    both = INSTANCE.replace("space:\n  lr: {float: [1e-4, 1e-2], log: true}\n", "preset: [particles, nuclei]\n")
    both = both.replace("model: mask-rcnn, backbone: r18, width: 0.25, epochs: 1", "init: none")
    lines = check(instances, both, expect=0).splitlines()
    assert lines[0].startswith("note: preset nuclei wins over particles on model, ")
    assert lines[1].startswith("sweep.yaml: fine.") and not any("note: " in line for line in lines[1:])
