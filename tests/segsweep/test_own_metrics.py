"""`metric: FILE.py:FUNCTION` in a sweep file: what it stands for, what is refused, and what a sweep keeps of it."""

from pathlib import Path

import pytest
import yaml

from segdata.coco import read_coco
from segdata.errors import InputError, SweepFileError
from segdata.labelmaps import read_labels
from segdata.synthetic import synthesize
from segscore.own_metric import OwnMetric, Task
from segsweep.own_metrics import try_own_metrics
from segsweep.run_folder import Origin, RunFolder
from segsweep.sweep_file import load_sweep

SWEEP = """\
name: first
task: instance
metric: my_metric.py:count_error
mode: min
data:
  train: {annotations: data/annotations.json, images: data/images}
  val: {annotations: data/annotations.json, images: data/images}
budget: {trials: 1}
fixed: {model: mask-rcnn}
"""
COUNT_ERROR = """\
def count_error(truth, found):
    return abs(len(truth["annotations"]) - len(found))
"""
PIXELS = """\
def {name}(truths, predictions, ignore_index):
    return {value}
"""
SHARE = "sum(float((t == p)[t != ignore_index].mean()) for t, p in zip(truths, predictions)) / len(truths)"


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("particles")
    synthesize("particles", folder / "data", images=3, size=64)
    return folder


@pytest.fixture
def sweep_file(particles: Path, tmp_path: Path) -> Path:
    (tmp_path / "data").symlink_to(particles / "data")
    (tmp_path / "my_metric.py").write_text(COUNT_ERROR)
    path = tmp_path / "first.yaml"
    path.write_text(SWEEP)
    return path


def test_the_functions_name_stands_for_it(sweep_file: Path) -> None:
    sweep = load_sweep(sweep_file)
    assert (sweep.config.metric, sweep.config.mode) == ("count_error", "min")
    (metric,) = sweep.own_metrics
    assert (metric.name, metric.file, metric.text) == (
        "count_error",
        sweep_file.parent / "my_metric.py",
        COUNT_ERROR,
    )


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("other.py:count_error", r"first.yaml:3: metric: expected a Python file at .*other.py, but got: No such file"),
        ("my_metric.py:precision", r"first.yaml:3: metric: expected a function precision in .*my_metric.py"),
        ("my_metric.py:segm_mAP", r"first.yaml:3: metric: expected a name that results do not have yet, but got segm"),
        ("my_metric.py:epoch", "expected a name that results do not have yet, but got epoch"),
        ("my_metric.py:train_loss", "expected a name that results do not have yet, but got train_loss"),
        ("my_metric.py:training_iteration", "expected a name that results do not have yet"),
        ("my_metric.py:time_score", "expected a name that results do not have yet, but got time_score"),
        ("'my_metric.py:'", "expected FILE.py:FUNCTION, but got ''"),
        ("my_metric.py:a-b", "expected FILE.py:FUNCTION, but got 'a-b'"),
        ("[segm_mAP, my_metric.py:count_error]", "4: mode: expected max, because more segm_mAP is better, but got min"),
        ("my_metric.py:latency_ms", "expected a name that results do not have yet, but got latency_ms"),
    ],
)
def test_what_can_be_no_metric_is_refused_where_it_stands(metric: str, told: str, sweep_file: Path) -> None:
    sweep_file.write_text(SWEEP.replace("my_metric.py:count_error", metric))
    with pytest.raises(SweepFileError, match=told):
        load_sweep(sweep_file)


def test_one_of_several_objectives(sweep_file: Path) -> None:
    text = SWEEP.replace("my_metric.py:count_error", "[segm_mAP, my_metric.py:count_error, latency_ms]")
    sweep_file.write_text(text.replace("mode: min", "mode: [max, min, min]\nconstraints: [count_error <= 3]"))
    sweep = load_sweep(sweep_file)
    assert sweep.config.objectives == (("segm_mAP", "max"), ("count_error", "min"), ("latency_ms", "min"))
    assert [metric.name for metric in sweep.own_metrics] == ["count_error"]


@pytest.mark.parametrize("known", ["[count_error]", "{epoch: my_metric.py}"])
def test_the_key_that_a_kept_sweep_file_has_is_checked_as_well(known: str, sweep_file: Path) -> None:
    sweep_file.write_text(SWEEP + f"own_metrics: {known}\n")
    with pytest.raises(SweepFileError, match="first.yaml"):
        load_sweep(sweep_file)


def test_metrics_of_segsweep_still_have_their_one_direction(sweep_file: Path) -> None:
    sweep_file.write_text(SWEEP.replace("my_metric.py:count_error", "segm_mAP"))
    with pytest.raises(SweepFileError, match="expected max, because more segm_mAP is better, but got min"):
        load_sweep(sweep_file)


@pytest.mark.parametrize("whole", [False, True])
def test_a_sweep_that_has_begun_keeps_its_metric_whatever_becomes_of_the_file(whole: bool, sweep_file: Path) -> None:
    if whole:  # its space lies in another file, so that the sweep file is written anew
        (sweep_file.parent / "more.yaml").write_text("fixed: {batch_size: 2}\n")
        sweep_file.write_text(SWEEP + "include: [more.yaml]\n")
    sweep = load_sweep(sweep_file)
    folder = RunFolder(sweep.path)
    with folder.locked():
        folder.create(sweep, Origin.new(sweep, "f00d"))
    (sweep_file.parent / "my_metric.py").unlink()
    resumed = folder.load()
    assert resumed.own_metrics == sweep.own_metrics
    assert (resumed.config.metric, resumed.config.mode) == ("count_error", "min")
    assert yaml.safe_load(folder.sweep_file.read_text())["name"] == "first"


def tried(folder: Path, name: str, text: str, mode: str, task: Task, data: Path) -> None:
    file = folder / "tried.py"
    file.write_text(text)
    metric = OwnMetric.read(file, name, task, "sweep.yaml:3: metric")
    truth = (
        read_coco(data / "annotations.json") if task == "instance" else read_labels(data / "images", data / "labels")
    )
    try_own_metrics((metric,), {metric.name: mode}, truth, Path("sweep.yaml"))  # type: ignore[arg-type]


def test_a_metric_that_works_passes_the_try(particles: Path, tmp_path: Path) -> None:
    tried(tmp_path, "count_error", COUNT_ERROR, "min", "instance", particles / "data")
    synthesize("litter", tmp_path / "litter", images=3, size=64)
    tried(tmp_path, "share", PIXELS.format(name="share", value=SHARE), "max", "semantic", tmp_path / "litter")


@pytest.mark.parametrize(
    ("body", "mode", "told"),
    [
        ("truth['no']", "max", r"sweep.yaml: metric: .*tried.py:2: expected a metric that returns, but got KeyError"),
        ("found[0]['score']", "max", r"tried.py:2: .*IndexError"),  # perfect finds have one, an untrained model none
        ("[len(found)]", "max", r"tried.py:1: expected score to return a number, but got \["),
        ("float('nan')", "max", "expected score to score perfect predictions of val, but got no finite number"),
        ("len(found)", "min", r"expected perfect predictions to beat none with mode min, .* Write mode: max"),
        ("-len(found)", "max", r"score is -\d+ for the perfect ones and 0 for none\. Write mode: min"),
    ],
)
def test_a_metric_that_cannot_work_is_refused_before_the_start(
    body: str, mode: str, told: str, particles: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        tried(tmp_path, "score", f"def score(truth, found):\n    return {body}\n", mode, "instance", particles / "data")


def test_nan_on_a_few_images_is_tried_again_on_all(tmp_path: Path) -> None:
    synthesize("particles", tmp_path / "many", images=18, size=64)
    text = "def score(truth, found):\n    return 1.0 if len(truth['images']) == 18 else float('nan')\n"
    tried(tmp_path, "score", text, "max", "instance", tmp_path / "many")
