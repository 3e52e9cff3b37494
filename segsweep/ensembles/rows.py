"""The lines of an ensemble's table: members and ensembles, all scored alike, with intervals over the images.

Imports segscore.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensembling.selection import Selection
from segdata.instances import InstanceDataset
from segdata.predictions import PredictionSet
from segscore import Difference, Evaluation, Interval, differences, evaluate, fitting_limit, intervals
from segscore.metrics import names_boundaries
from segscore.samples import Sample
from segsweep.data_roles import Truth
from segsweep.sweep_file import Sweep

__all__ = ["Scorer", "ScoreRow"]

RESAMPLES = 1000


@dataclass(frozen=True)
class ScoreRow:
    """One line.

    Attributes:
        name: A member, or a method of fusion and what it was given.
        predictions: Its prediction set.
        scores: All metrics by name.
        interval: Of the sweep's metric; None with fewer than two images, or a metric of the user's own.
        against: How much more of the metric it has than the best single member; None for that one itself.
        models: How many networks it takes.
        milliseconds: Per image, of all its networks; None where that was not measured.
        method: Of fusion; empty for a member.
        labels_new: Whether it can label new images: all its members are networks.
        selection: What was chosen, on other images; None for a member, and where there were none to choose on.
    """

    name: str
    predictions: Path
    scores: dict[str, float]
    interval: Interval | None = None
    against: Difference | None = None
    models: int = 1
    milliseconds: float | None = None
    method: str = ""
    selection: Selection | None = None
    labels_new: bool = True


@dataclass(frozen=True)
class Scorer:
    """Scores prediction sets of one role against its truth, all with the same limit of detections."""

    sweep: Sweep
    truth: Truth

    def evaluations(self, sets: Sequence[Path]) -> list[Evaluation]:
        """Scores each set.

        Raises:
            InputError: As `segscore.evaluate`.
        """
        opened = [PredictionSet.open(path) for path in sets]
        limit = fitting_limit(self.truth, *opened) if isinstance(self.truth, InstanceDataset) else None
        boundaries = names_boundaries(self.sweep.config.named_metrics)
        return [evaluate(self.truth, found, max_detections=limit, boundaries=boundaries) for found in opened]

    def rows(self, drafts: Sequence[ScoreRow], singles: int) -> list[ScoreRow]:
        """Fills in scores, intervals, and differences from the best of the first `singles` rows."""
        found = self.evaluations([row.predictions for row in drafts])
        metric = self.sweep.config.metric
        own = self.sweep.own_metrics
        rows = []
        for row, evaluation in zip(drafts, found, strict=True):
            set_ = PredictionSet.open(row.predictions) if own else None
            users = {one.name: one.of_set(self.truth, set_) for one in own} if set_ is not None else {}
            samples = samples_with(metric, evaluation)
            interval = intervals(samples, resamples=RESAMPLES).get(metric) if samples else None
            rows.append(replace(row, scores=evaluation.values | users, interval=interval))
        best = self.best(rows[:singles])
        if best is None or not (theirs := samples_with(metric, found[best])):
            return rows
        return [
            row if place == best else replace(row, against=differences(ours, theirs, resamples=RESAMPLES).get(metric))
            for place, row in enumerate(rows)
            for ours in [samples_with(metric, found[place])]
        ]

    def best(self, rows: Sequence[ScoreRow]) -> int | None:
        """Returns the place of the row with the best score; None where none has a score."""
        sign = 1 if self.sweep.config.mode == "max" else -1
        known = [place for place, row in enumerate(rows) if not math.isnan(row.scores[self.sweep.config.metric])]
        return max(known, key=lambda place: sign * rows[place].scores[self.sweep.config.metric], default=None)


def samples_with(metric: str, evaluation: Evaluation) -> list[Sample]:
    """Returns what each image adds, of the kind that gives the metric; none for a metric of the user's own."""
    return [
        sample for sample in evaluation.samples if metric in sample.metrics(np.ones((1, evaluation.scores[0].images)))
    ]
