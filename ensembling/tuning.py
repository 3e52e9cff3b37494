"""Choosing the fusion settings on labelled images that are kept apart from those on which the ensemble is scored.

A network's mask ends at its own box, so plain majority votes come out too small; by how much depends on the members.
Imports segdata and this package.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ensembling.fusion import fuse
from ensembling.settings import FusionSettings
from segdata.predictions import PredictionSet

__all__ = ["CANDIDATES", "TunedSettings", "tune_settings"]

# Methods that have settings -> candidates, the defaults first: of equal scores the earlier one stays.
CANDIDATES: dict[str, tuple[FusionSettings, ...]] = {
    "wbf": tuple(
        FusionSettings(iou_threshold=iou_threshold, mask_threshold=mask_threshold)
        for iou_threshold, mask_threshold in product((0.55, 0.65), (0.5, 0.4, 0.3))
    ),
    "mask-fusion": tuple(
        FusionSettings(iou_threshold=iou_threshold, mask_threshold=mask_threshold)
        for iou_threshold, mask_threshold in product((0.55, 0.45), (0.5, 0.4, 0.3))
    ),
    "nms": tuple(FusionSettings(iou_threshold=iou_threshold) for iou_threshold in (0.55, 0.45, 0.65)),
    "soft-nms": (FusionSettings(), FusionSettings(iou_threshold=0.45), FusionSettings(decay="gaussian")),
    "nmw": tuple(FusionSettings(mask_threshold=mask_threshold) for mask_threshold in (0.5, 0.4, 0.3)),
}


@dataclass(frozen=True, slots=True)
class TunedSettings:
    """The settings that scored best, that score, and what the defaults scored."""

    settings: FusionSettings
    score: float
    default_score: float


def tune_settings(
    members: Sequence[Path],
    *,
    method: str,
    weights: Sequence[float] | None,
    score: Callable[[PredictionSet], float],
    mode: Literal["max", "min"] = "max",
    fixed: Mapping[str, Any] = MappingProxyType({}),
) -> TunedSettings:
    """Fuses the members with each candidate of the method and keeps the one that scores best.

    Args:
        members: Prediction sets of labelled images.
        method: One of `CANDIDATES`.
        weights: One a member, None = all equal.
        score: Scores a prediction set, NaN = worse than all; must not look at the images that the ensemble is scored
            on afterwards.
        mode: Whether more of it is better.
        fixed: Settings by name that all candidates have.

    Raises:
        InputError: As `fuse`.
    """
    candidates = tuple(dict.fromkeys(replace(candidate, **fixed) for candidate in CANDIDATES[method]))
    scores = []
    with tempfile.TemporaryDirectory(prefix="segsweep-fusion-") as folder:
        for settings in candidates:
            out = fuse(members, Path(folder) / "fused", method=method, weights=weights, settings=settings)
            scores.append(score(PredictionSet.open(out)))
            shutil.rmtree(out)
    sign = 1.0 if mode == "max" else -1.0
    ranked = [-math.inf if math.isnan(value) else sign * value for value in scores]
    best = max(range(len(candidates)), key=lambda index: (ranked[index], -index))
    return TunedSettings(candidates[best], scores[best], scores[0])
