"""A metric of the user's own: a function of theirs that scores predictions against truth, called here and nowhere else.

    def score(truth, found): ...                         # instance: COCO dict, list of COCO results
    def score(truths, predictions, ignore_index): ...    # semantic: sequences of label maps, read one at a time

The function's text travels with the record, so that it is the same one on every node and in a resumed sweep. May
import `segdata` and this package.
"""

import inspect
import math
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from segdata.coco import as_coco
from segdata.errors import InputError, SegsweepError, TrialError
from segdata.instances import InstanceDataset
from segdata.labelmaps import LabelMap, SemanticDataset, read_label_map
from segdata.predictions import PredictionSet
from segdata.user_functions import importing_from, load_function, place_of, told
from segscore.instances import results_of_set

__all__ = ["LabelMaps", "OwnMetric", "PackedLabels", "Task"]

Task = Literal["instance", "semantic"]
ARGUMENTS: dict[Task, tuple[str, ...]] = {
    "instance": ("truth", "found"),
    "semantic": ("truths", "predictions", "ignore_index"),
}


class LabelMaps(Sequence[LabelMap]):
    """Label maps, uint8 (H, W), each of which is read or decoded when it is asked for.

    Args:
        count: How many there are.
        read: Returns one by its place.
    """

    def __init__(self, count: int, read: Callable[[int], LabelMap]) -> None:
        self._size, self._read = count, read

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[LabelMap]:
        return (self._read(index) for index in range(self._size))

    def __getitem__(self, place: Any) -> Any:
        """Returns one label map, or, of a slice, further label maps that are not read yet."""
        if isinstance(place, slice):
            places = range(self._size)[place]
            return LabelMaps(len(places), lambda index: self._read(places[index]))
        return self._read(range(self._size)[place])


@dataclass(frozen=True, slots=True)
class PackedLabels:
    """A label map in memory, some hundred times smaller than its pixels."""

    shape: tuple[int, int]
    packed: bytes

    @classmethod
    def of(cls, label_HW: LabelMap) -> Self:
        """Packs one."""
        return cls((label_HW.shape[0], label_HW.shape[1]), zlib.compress(label_HW.tobytes(), 1))

    def unpack(self) -> LabelMap:
        """Returns the pixels, uint8 (H, W)."""
        return np.frombuffer(bytearray(zlib.decompress(self.packed)), dtype=np.uint8).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class OwnMetric:
    """A function of the user's own, under whose name its score is recorded.

    Attributes:
        name: Of the function.
        file: Where it was defined: names it in messages, and its modules are looked for there.
        text: What that file held when the sweep was started.
    """

    name: str
    file: Path
    text: str = field(repr=False)

    @classmethod
    def read(cls, file: Path, name: str, task: Task, where: str) -> Self:
        """Reads and loads it.

        Args:
            file: Where it lies.
            name: Of the function.
            task: What it scores.
            where: Names it in messages.

        Raises:
            InputError: The file is missing or does not run, or has no function of the task's arguments.
        """
        try:
            metric = cls(name, file, file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            found = error.strerror if isinstance(error, OSError) else error
            problem = f"expected a Python file at {file}, but got: {found}"
            raise InputError.of(problem, where=where, cure="Check the path; it starts at the sweep file") from error
        form = f"def {name}({', '.join(ARGUMENTS[task])}): ..."
        with redirect_stdout(sys.stderr):  # standard output may carry JSON
            function = load_function(file, name, where, form=form, text=metric.text)
        try:
            inspect.signature(function).bind(*ARGUMENTS[task])
        except TypeError as error:
            problem = f"expected {name} to take {', '.join(ARGUMENTS[task])}, but got {inspect.signature(function)}"
            raise InputError.of(problem, where=where, cure=f"Write {form}") from error
        return metric

    def of_instances(self, truth: InstanceDataset, found: Sequence[Mapping[str, Any]]) -> float:
        """Scores COCO results (boxes xywh in pixels, masks as RLE); the function may change what it is handed.

        Returns:
            NaN where the function returns NaN or something infinite: there is no score then.

        Raises:
            TrialError: The function raises, or returns no number; with its file and line.
        """
        return self._call(as_coco(truth), [dict(result) for result in found])

    def of_labels(self, truths: LabelMaps, predictions: LabelMaps, ignore_index: int) -> float:
        """Scores label maps of class indices, in the same order; the rest is as in `of_instances`."""
        return self._call(truths, predictions, ignore_index)

    def of_set(self, truth: InstanceDataset | SemanticDataset, predictions: PredictionSet) -> float:
        """Scores a prediction set, as the two above.

        Raises:
            DatasetError: An image of the truth was not predicted.
        """
        if isinstance(truth, InstanceDataset):
            return self.of_instances(truth, results_of_set(truth, predictions))
        images = truth.images
        return self.of_labels(
            LabelMaps(len(images), lambda index: read_label_map(images[index].label_path)),
            LabelMaps(len(images), lambda index: predictions.labels(images[index].name)),
            truth.ignore_index,
        )

    def _call(self, *arguments: object) -> float:
        function = _loaded(self)
        try:
            with importing_from(self.file.parent), redirect_stdout(sys.stderr):
                value = function(*arguments)
        except SegsweepError:  # a label map that can't be read
            raise
        except (Exception, SystemExit) as error:
            problem = f"expected a metric that returns, but got {told(error)}"
            raise TrialError.of(problem, where=place_of(error, self.file, str(self.file)), cure="Correct it") from error
        if isinstance(value, bool) or not isinstance(value, Real):
            problem = f"expected {self.name} to return a number, but got {told_value(value)}"
            raise TrialError.of(problem, where=_line_of(function, self.file), cure="Return a float")
        return float(value) if math.isfinite(value) else math.nan


def told_value(value: object) -> str:
    """Returns a value and its type in a line."""
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


@cache
def _loaded(metric: OwnMetric) -> Callable[..., Any]:
    form = f"a function {metric.name}"
    try:
        with redirect_stdout(sys.stderr):
            return load_function(metric.file, metric.name, str(metric.file), form=form, text=metric.text)
    except InputError as error:
        raise TrialError(str(error)) from error  # it loaded where the sweep was started


def _line_of(function: Callable[..., Any], file: Path) -> str:
    code = getattr(function, "__code__", None)
    return str(file) if code is None else f"{file}:{code.co_firstlineno}"
