"""`segsweep run`, `resume`, `best` and `ensemble` with wrong input, by the real command.

Each ends with exit code 2 and one message that names file and key; nothing is started and nothing left behind.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segdata.synthetic import synthesize
from segsweep.run_folder import RunFolder

SWEEP = """\
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
ENTRY = b'{"op_code":0,"worker_id":"a","study_name":"sweep","directions":[2]}\n'


def segsweep(folder: Path, *arguments: str, expect: int = 2) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(Path(sys.executable).with_name("segsweep")), *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "80", "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} | {
        str(path.relative_to(folder)): b"" for path in folder.rglob("*") if path.is_dir()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synthesize("particles", tmp_path / "data", images=2, size=64)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


def with_text(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        assert old in SWEEP
        (folder / "sweep.yaml").write_text(SWEEP.replace(old, new))

    return change


def not_coco(folder: Path) -> None:
    (folder / "data" / "annotations.json").write_text('{"shapes": []}')


def broken_image(folder: Path) -> None:
    (folder / "data" / "images" / "particles_0002.png").write_bytes(b"\x89PNG\r\n but no more")


def storage_is_a_file(folder: Path) -> None:
    (folder / "runs").write_text("")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_text("task: instance", "task: [instance"), r"sweep.yaml:\d+: expected YAML, but got a syntax error"),
        (with_text("trials: 2", "trails: 2"), r"sweep.yaml:6: budget.trails: .*'trails'.*trials"),
        (with_text("images: data/images}\n  val", "images: data/imgs}\n  val"), r"data.train.images: .*data/imgs"),
        (with_text("trials: 2", "trials: 0"), r"sweep.yaml:6: budget.trials: .*got 0"),
        pytest.param(not_coco, r"annotations.json: .*COCO", marks=pytest.mark.slow),
        pytest.param(broken_image, r"particles_0002.png: ", marks=pytest.mark.slow),
        pytest.param(
            with_text("budget:", "resources: {gpu: 99}\nbudget:"),
            r"resources.gpu: expected at most \d+ GPUs a trial, .* but got 99",
            marks=pytest.mark.slow,
        ),
        pytest.param(storage_is_a_file, r"runs/first: expected a folder to write to, but got", marks=pytest.mark.slow),
    ],
    ids=["syntax", "unknown-key", "no-folder", "no-trials", "not-coco", "broken-image", "gpus", "storage"],
)
def test_wrong_input_is_refused_before_anything_starts(
    folder: Path, change: Callable[[Path], None], message: str
) -> None:
    change(folder)
    before = listing(folder)
    done = segsweep(folder, "run", "sweep.yaml")
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert re.search(message, lines[0]), lines[0]
    assert listing(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_model_that_needs_a_gpu_is_refused_where_there_is_none(
    folder: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with_text("model: mask-rcnn, backbone: r18", "model: detectors, backbone: r50")(folder)
    before = listing(folder)
    done = segsweep(folder, command, "sweep.yaml")
    assert "space.model: expected a GPU for detectors" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "Leave the model out, or run where a trial gets a GPU" in done.stderr
    assert listing(folder) == before


def test_no_such_sweep_file(folder: Path) -> None:
    before = listing(folder)
    done = segsweep(folder, "run", "sweeps.yaml")
    assert done.stderr.splitlines() == [
        "error: sweeps.yaml: expected a sweep file, but got no such file. "
        "Check the path, or start from one in examples/"
    ]
    assert listing(folder) == before


@pytest.mark.parametrize("command", ["resume", "best", "ensemble"])
def test_a_name_that_is_no_sweep(folder: Path, command: str) -> None:
    before = listing(folder)
    done = segsweep(folder, command, "frist")
    assert "expected the name of a sweep, but got 'frist'; known: none" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and listing(folder) == before


@pytest.mark.parametrize("command", ["best", "ensemble"])
def test_a_top_of_none(folder: Path, command: str) -> None:
    done = segsweep(folder, command, "first", "--top", "0")
    assert "Error: Invalid value for '--top': Input should be greater than or equal to 1" in done.stderr.splitlines()


@pytest.mark.slow
def test_a_name_that_has_a_sweep_which_has_not_finished(folder: Path) -> None:
    run = folder / "runs" / "first"
    run.mkdir(parents=True)
    (run / "sweep.yaml").write_text(SWEEP)
    (run / "origin.json").write_text(f'{{"id": "1", "folder": "{folder}", "fingerprint": "f00d"}}')
    done = segsweep(folder, "run", "sweep.yaml")
    assert f"{run}: expected a new name, but 'first' is a sweep that has not finished" in done.stderr
    assert f"segsweep resume {run}" in done.stderr
    assert not (folder / "mlflow.db").exists()


@pytest.mark.slow
def test_a_resume_on_other_data_is_refused(folder: Path) -> None:
    run = folder / "runs" / "first"
    run.mkdir(parents=True)
    (run / "sweep.yaml").write_text(SWEEP)
    (run / "origin.json").write_text(f'{{"id": "1", "folder": "{folder}", "fingerprint": "f00d"}}')
    done = segsweep(folder, "resume", "first")
    assert "expected the data that the sweep was started with (fingerprint f00d), but got other data" in done.stderr
    assert not (folder / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["resume", "best"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ENTRY + b"\x00\x01 something else\n" + ENTRY, r"study.journal:2: expected an entry of a study's journal"),
        (b'{"time": "12:00", "level": "info"}\n', r"study.journal:1: expected an entry of a study's journal, but got"),
        (ENTRY.replace(b"sweep", b"chess"), r"study.journal: expected the journal of a sweep, .* study: chess"),
        (b"", r"study.journal: expected the journal of 2 trials .*, but got an empty file"),
        (None, r"study.journal: expected the journal of 2 trials .*, but got no file"),
    ],
    ids=["damaged", "another program's", "another study's", "empty", "gone"],
)
def test_a_journal_that_is_not_the_sweeps_is_refused(
    folder: Path, command: str, content: bytes | None, message: str
) -> None:
    run = folder / "runs" / "first"
    for trial in ("0000", "0001"):
        (run / "trials" / trial).mkdir(parents=True)
    (run / "sweep.yaml").write_text(SWEEP)
    (run / "origin.json").write_text(f'{{"id": "1", "folder": "{folder}", "fingerprint": "f00d"}}')
    if content is not None:
        (run / "study.journal").write_bytes(content)
    done = segsweep(folder, command, "first")
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.search(message, error) and "Put the file back from a copy, or start a new sweep" in error
    assert (run / "study.journal").exists() == (content is not None)
    assert content is None or (run / "study.journal").read_bytes() == content
    assert not (folder / "mlflow.db").exists()


@pytest.mark.slow
def test_a_second_driver_on_one_sweep_is_refused(folder: Path) -> None:
    run = folder / "runs" / "first"
    run.mkdir(parents=True)
    (run / "sweep.yaml").write_text(SWEEP)
    (run / "origin.json").write_text(f'{{"id": "1", "folder": "{folder}", "fingerprint": "f00d"}}')
    with RunFolder(run).locked():
        before = listing(folder)
        for command in (("resume", "first"), ("run", "sweep.yaml"), ("run", "sweep.yaml", "--trials", "+1")):
            done = segsweep(folder, *command)
            assert f"{run}: expected a sweep that no other driver runs, but got one that is running" in done.stderr
        assert listing(folder) == before


@pytest.mark.slow
def test_a_start_says_what_won_between_two_presets(folder: Path) -> None:
    with_text("space:\n  lr: {float: [1e-4, 1e-2], log: true}\n", "preset: [particles, nuclei]\n")(folder)
    storage_is_a_file(folder)  # so that it goes no further
    done = segsweep(folder, "run", "sweep.yaml")
    assert done.stdout.splitlines()[0].startswith("note: preset nuclei wins over particles on ")
    assert len(done.stderr.splitlines()) == 1
