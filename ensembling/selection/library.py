"""Candidates opened beside the truth that they are scored on; every ensemble of them is judged once.

Legend: B ways to count the images: all of them, the one half, the other half. Imports numpy, `segdata`, `segscore` and
this package.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from ensembling.members import open_members, refuse_empty
from ensembling.selection.array_store import ArrayStore
from ensembling.selection.blends import Blend
from ensembling.selection.candidates import Candidate
from ensembling.selection.disk_judge import DiskJudge
from ensembling.selection.instance_judge import InstanceJudge
from ensembling.selection.semantic_judge import SemanticJudge
from segdata.errors import InputError
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset
from segdata.predictions import PredictionSet
from segscore.instances import Kind
from segscore.metrics import METRICS, of_class

__all__ = ["ALL", "HALVES", "Judge", "Library"]

Floats = npt.NDArray[np.float64]
Truth = InstanceDataset | SemanticDataset
ALL, HALVES = 0, ((1, 2), (2, 1))  # places among the B: all images; (chosen on, scored on)
_FEWEST_TO_HALVE = 4
_KINDS: tuple[Kind, ...] = ("segm", "bbox", "boundary")


class Judge(Protocol):
    """Scores blends."""

    @property
    def num_images(self) -> int:
        """How many images there are."""

    def scores(self, blends: Sequence[Blend], weight_BN: Floats) -> Floats:
        """Returns (blends, B) scores, where an image counts as often as its weight; NaN where there is none."""


class Library:
    """What an ensemble is chosen from, and its score on labelled images.

    Args:
        candidates: At least one, with names of their own and prediction sets of the same images.
        truth: The labels of these images; predicted images beyond them are left out.
        metric: Name of one of `segscore.metrics.METRICS` or a class's own, or of the user's own metric.
        mode: Whether more of it is better.
        own: Scores a prediction set by the user's own metric; None = `metric` is one of ours. It takes longer, since
            each ensemble is written to a temporary folder.
        seed: Of the halves of the images.
        memory_mb: What label maps and probabilities may take in memory, in 10^6 bytes; the rest goes to a temporary
            file.

    Raises:
        InputError: There is no candidate, two share a name, they differ in task, classes, data set or images, one
            holds no object at all, the metric is not one of the task, a confidence is not within 0..1, or no candidate
            has a score.
        DatasetError: A prediction set is broken, or does not fit the truth.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        truth: Truth,
        *,
        metric: str,
        mode: Literal["max", "min"],
        own: Callable[[PredictionSet], float] | None = None,
        seed: int = 0,
        memory_mb: int = 2000,
    ) -> None:
        _refuse_shared_names(candidates)
        sets = open_members([candidate.predictions for candidate in candidates])
        refuse_empty(sets)
        by_name = sorted(zip(candidates, sets, strict=True), key=lambda both: both[0].name)
        self.candidates = tuple(candidate for candidate, _ in by_name)
        self.sets = tuple(predictions for _, predictions in by_name)
        self.metric, self.mode = metric, mode
        self._judge = self._make_judge(truth, own, memory_mb * 10**6)
        self._weight_BN = _all_and_halves(self._judge.num_images, seed)
        self._known: dict[Blend, Floats] = {}

    @property
    def can_halve(self) -> bool:
        """Whether ensembles can be scored on halves of the images."""
        return len(self._weight_BN) > 1

    @property
    def evaluations(self) -> int:
        """How many different ensembles were judged, single candidates among them."""
        return len(self._known)

    def gains(self, blends: Sequence[Blend], images: int = ALL) -> list[float]:
        """Returns scores of which more is better, -inf for none.

        Args:
            blends: What to judge.
            images: On which images, as a place among the B.
        """
        missing = list(dict.fromkeys(blend for blend in blends if blend not in self._known))
        if missing:
            self._known |= dict(zip(missing, self._judge.scores(missing, self._weight_BN), strict=True))
        sign = 1.0 if self.mode == "max" else -1.0
        scores = [float(self._known[blend][images]) for blend in blends]
        return [-math.inf if math.isnan(score) else sign * score for score in scores]

    def score_of(self, gain: float) -> float:
        """Returns the score that a gain stands for, NaN for none."""
        if gain == -math.inf:
            return math.nan
        return gain if self.mode == "max" else -gain

    def _make_judge(self, truth: Truth, own: Callable[[PredictionSet], float] | None, memory_bytes: int) -> Judge:
        if own is not None:
            return DiskJudge(self.sets, own)
        kind = _kind_of(self.metric, truth)
        if isinstance(truth, SemanticDataset):
            return SemanticJudge(self.sets, truth, self.metric, ArrayStore(memory_bytes))
        assert kind is not None
        return InstanceJudge(self.sets, truth, self.metric, kind)


def _refuse_shared_names(candidates: Sequence[Candidate]) -> None:
    shared = [name for name, count in Counter(candidate.name for candidate in candidates).items() if count > 1]
    if shared:
        raise InputError.of(
            f"expected candidates of different names, but got {shared[0]} twice",
            where="candidates",
            cure="Rename one.",
        )


def _kind_of(metric: str, truth: Truth) -> Kind | None:
    """Returns what a metric of the truth's task matches; None for label maps."""
    task = "semantic" if isinstance(truth, SemanticDataset) else "instance"
    if metric in METRICS and METRICS[metric].task == task:
        return METRICS[metric].kind
    if isinstance(truth, SemanticDataset):
        known: dict[str, Kind | None] = {of_class(None, name): None for name in truth.classes}
    else:
        known = {of_class(kind, name): kind for kind in _KINDS for name in truth.class_names}
    if metric in known:
        return known[metric]
    fitting = [name for name, row in METRICS.items() if row.task == task]
    raise InputError.of(
        f"expected a metric of {task} predictions ({', '.join(fitting)}), but got {metric!r}",
        where="metric",
        cure="Choose one of these, or hand over a function of your own.",
    )


def _all_and_halves(images: int, seed: int) -> Floats:
    """Returns (B, N) how often each image counts: all once, and, of four images or more, either half of them."""
    if images < _FEWEST_TO_HALVE:
        return np.ones((1, images))
    first_N = np.zeros(images)
    first_N[np.random.default_rng(seed).permutation(images)[: images // 2]] = 1.0
    return np.stack([np.ones(images), first_N, 1.0 - first_N])
