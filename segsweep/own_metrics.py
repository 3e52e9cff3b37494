"""A metric of the user's own in a sweep file, `metric: FILE.py:FUNCTION`: taken apart, and tried before money is spent.

The function's name stands for it wherever a metric has a name. Imports segscore and segdata.
"""

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segdata.errors import InputError, SweepFileError, TrialError
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset, read_label_map
from segdata.predictions import PredictionSet
from segdata.truth import truth_as_predictions
from segscore.metrics import METRICS
from segscore.own_metric import LabelMaps, OwnMetric, Task
from trainables.limits import COSTS

__all__ = [
    "is_function",
    "name_problem",
    "read_named_metrics",
    "read_own_metrics",
    "scores_by",
    "try_own_metrics",
    "with_own_metrics",
]

Truth = InstanceDataset | SemanticDataset
Mode = Literal["max", "min"]

TRIED_IMAGES = 16
# Names that a result has already: ours, those of rows of `best --json`, Tune's.
RESULTS = ("epoch", "lr", "train_loss", "trials")
ROWS = ("rank", "trial", "planned_epochs", "outcome", "origin", "parameters", "directory", "initial_weights")
ROWS_MORE = ("objectives", "on_front")
TUNES = ("config", "date", "done", "experiment_tag", "hostname", "node_ip", "pid", "training_iteration", "trial_id")
TUNES_MORE = ("timestamp", "hist_stats", "should_checkpoint", "checkpoint_dir_name")
TUNES_ENDS = ("_since_restore", "_total")


def is_function(text: object) -> bool:
    """Tells whether a metric is meant as FILE.py:FUNCTION."""
    return isinstance(text, str) and ".py:" in text


def name_problem(name: str) -> str | None:
    """Returns what speaks against a function's name as that of a metric, with the cure; None = nothing."""
    if not name.isidentifier():
        return f"expected FILE.py:FUNCTION, but got {name!r} as the function. Write metric: my_metric.py:score"
    taken = name in (*METRICS, *COSTS, *RESULTS, *ROWS, *ROWS_MORE, *TUNES, *TUNES_MORE) or name.endswith(TUNES_ENDS)
    if taken or name.startswith(("time_", "_")):
        return f"expected a name that results do not have yet, but got {name}. Call the function otherwise"
    return None


def with_own_metrics(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a sweep file's keys with each metric FILE.py:FUNCTION as FUNCTION, its file under `own_metrics`.

    What is wrong with one stays as it is, to be refused where it was written.
    """
    written = values.get("metric")
    files = {}

    def name_of(text: Any) -> Any:
        if not is_function(text):
            return text
        file, _, name = text.rpartition(":")
        if name_problem(name) or not file.endswith(".py"):
            return text
        files[name] = file
        return name

    metric = [name_of(text) for text in written] if isinstance(written, list | tuple) else name_of(written)
    known = values.get("own_metrics", {})
    if not files or not isinstance(known, Mapping):
        return values
    return {**values, "metric": metric, "own_metrics": {**known, **files}}


def read_own_metrics(
    files: Mapping[str, str], task: Task, folder: Path, where: str, texts: Mapping[str, str] | None = None
) -> tuple[OwnMetric, ...]:
    """Returns the metrics of a sweep file.

    Args:
        files: Function -> its file, relative to `folder`.
        task: What they score.
        folder: The sweep file's.
        where: Names the key in messages.
        texts: Of a sweep that has begun: what the files held then, by function.

    Raises:
        SweepFileError: A file is missing or does not run, or has no such function.
    """
    paths = {name: Path(os.path.abspath(folder / Path(file).expanduser())) for name, file in files.items()}
    known = texts or {}
    try:
        return tuple(
            OwnMetric(name, path, known[name]) if name in known else OwnMetric.read(path, name, task, where)
            for name, path in paths.items()
        )
    except InputError as error:
        raise SweepFileError(str(error)) from error


def read_named_metrics(texts: Sequence[str], task: Task) -> tuple[OwnMetric, ...]:
    """Reads metrics that a command names, each FILE.py:FUNCTION.

    Raises:
        InputError: One is none, its file does not run, or two have one name.
    """
    metrics: dict[str, OwnMetric] = {}
    for text in texts:
        where = f"--metric {text}"
        file, _, name = text.rpartition(":")
        problem = name_problem(name) if is_function(text) else f"expected FILE.py:FUNCTION, but got {text!r}. Write so"
        if problem is None and name in metrics:
            problem = f"expected functions of different names, but got {name} again. Rename one"
        if problem is None and not Path(file).is_file():
            problem = f"expected a Python file at {file}, but got none. Check the path"
        if problem is not None:
            raise InputError(f"{where}: {problem}.")
        metrics[name] = OwnMetric.read(Path(file).absolute(), name, task, where)
    return tuple(metrics.values())


def scores_by(metrics: Sequence[OwnMetric], truth: Truth, predictions: PredictionSet) -> dict[str, float]:
    """Scores a prediction set by the user's own metrics.

    Raises:
        InputError: A function raises, or returns no number; with its file and line.
    """
    try:
        return {metric.name: metric.of_set(truth, predictions) for metric in metrics}
    except TrialError as error:
        raise InputError(f"--metric: {error}") from error


def try_own_metrics(metrics: Sequence[OwnMetric], modes: Mapping[str, Mode], truth: Truth, source: Path | None) -> None:
    """Scores the truth against itself, and against no finds at all, on a few images.

    Args:
        metrics: What to try.
        modes: Name -> direction.
        truth: The labels of val.
        source: The sweep file, for messages.

    Raises:
        InputError: A function raises or returns no number, perfect predictions have no score (on all images, if not
            on a few), or they are worse than none.
    """
    for metric in metrics:
        try_metric(metric, modes[metric.name], truth, f"{source or 'sweep'}: metric")


def try_metric(metric: OwnMetric, mode: Mode, truth: Truth, where: str) -> None:
    """Tries one of them; `where` names it in messages."""
    few = truth.subset(names_with_objects(truth)[:TRIED_IMAGES])
    try:
        perfect = of_perfect(metric, few)
        nothing = of_nothing(metric, few)
        if math.isnan(perfect) and few != truth:
            perfect = of_perfect(metric, truth)
    except TrialError as error:
        raise InputError(f"{where}: {error}") from error
    if math.isnan(perfect):
        problem = f"expected {metric.name} to score perfect predictions of val, but got no finite number"
        raise InputError.of(problem, where=where, cure=f"Correct it in {metric.file}")
    if perfect < nothing if mode == "max" else perfect > nothing:
        problem = (
            f"expected perfect predictions to beat none with mode {mode}, but {metric.name} is {perfect:g} for the "
            f"perfect ones and {nothing:g} for none"
        )
        raise InputError.of(problem, where=where, cure=f"Write mode: {'min' if mode == 'max' else 'max'}")


def names_with_objects(truth: Truth) -> Sequence[str]:
    """Returns the file names of images, those without objects last."""
    if isinstance(truth, SemanticDataset):
        return [image.name for image in truth.images]
    filled = sorted(truth.images, key=lambda image: not truth.objects_of(image.id))
    return [image.file_name for image in filled]


def of_perfect(metric: OwnMetric, truth: Truth) -> float:
    """Scores the labels as if a model had predicted them."""
    with tempfile.TemporaryDirectory(prefix="segsweep-metric-") as folder:
        return metric.of_set(truth, PredictionSet.open(truth_as_predictions(truth, Path(folder) / "perfect")))


def of_nothing(metric: OwnMetric, truth: Truth) -> float:
    """Scores what an untrained model may say: no objects, or the first class everywhere."""
    if isinstance(truth, InstanceDataset):
        return metric.of_instances(truth, [])
    images = truth.images

    def blank(index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.zeros((images[index].height, images[index].width), dtype=np.uint8)

    truths = LabelMaps(len(images), lambda index: read_label_map(images[index].label_path))
    return metric.of_labels(truths, LabelMaps(len(images), blank), truth.ignore_index)
