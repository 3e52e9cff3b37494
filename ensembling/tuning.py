"""Choosing the fusion settings on labelled images that are kept apart from those on which the ensemble is scored.

A network's mask ends at its own box, so plain majority votes come out too small; by how much depends on the members.
Imports segdata, segscore and this package.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ensembling.fusion import fuse
from ensembling.settings import FusionSettings
from segdata.instances import InstanceDataset
from segdata.labelmaps import SemanticDataset
from segdata.predictions import PredictionSet
from segscore.metrics import score_predictions

__all__ = ["CANDIDATES", "TunedSettings", "tune_settings"]

# Methods that have settings -> candidates, the defaults first: of equal scores the earlier one stays.
CANDIDATES: dict[str, tuple[FusionSettings, ...]] = {
    "wbf": tuple(
        FusionSettings(iou_threshold=iou_threshold, mask_threshold=mask_threshold)
        for iou_threshold, mask_threshold in product((0.55, 0.65), (0.5, 0.4, 0.3))
    ),
    "nms": tuple(FusionSettings(iou_threshold=iou_threshold) for iou_threshold in (0.55, 0.45, 0.65)),
}


@dataclass(frozen=True, slots=True)
class TunedSettings:
    """The settings that scored best, that score, and what the defaults scored."""

    settings: FusionSettings
    score: float
    default_score: float


def tune_settings(
    members: Sequence[Path],
    truth: InstanceDataset | SemanticDataset,
    *,
    method: str,
    weights: Sequence[float] | None,
    metric: str,
) -> TunedSettings:
    """Fuses the members with each candidate of the method and keeps the one with the highest `metric`.

    Args:
        members: Prediction sets of the images of `truth`.
        truth: Their labels; must not be the images that the ensemble is scored on afterwards.
        method: One of `CANDIDATES`.
        weights: One a member, None = all equal.
        metric: Name of a score of which more is better.

    Raises:
        InputError: As `fuse`.
    """
    candidates, scores = CANDIDATES[method], []
    with tempfile.TemporaryDirectory(prefix="segsweep-fusion-") as folder:
        for settings in candidates:
            out = fuse(members, Path(folder) / "fused", method=method, weights=weights, settings=settings)
            scores.append(score_predictions(truth, PredictionSet.open(out))[metric])
            shutil.rmtree(out)
    best = max(range(len(candidates)), key=lambda index: (scores[index], -index))
    return TunedSettings(candidates[best], scores[best], scores[0])
