"""Scores blends by a function of a prediction set: each is fused into a temporary folder first.

Imports this package.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ensembling.fusion import fuse
from ensembling.selection.blends import Blend
from segdata.predictions import PredictionSet

__all__ = ["DiskJudge"]

Floats = npt.NDArray[np.float64]


class DiskJudge:
    """Scores blends by a metric of the user's own, which knows no images: it can't score some of them.

    Args:
        sets: The candidates' prediction sets.
        score: Returns a prediction set's score, NaN for none.
    """

    def __init__(self, sets: Sequence[PredictionSet], score: Callable[[PredictionSet], float]) -> None:
        self._sets, self._score = sets, score
        self.num_images = 1

    def scores(self, blends: Sequence[Blend], weight_BN: Floats) -> Floats:
        """Returns (blends, B) scores; all B are the same."""
        return np.array([[self._of(blend)] * len(weight_BN) for blend in blends])

    def _of(self, blend: Blend) -> float:
        members = [self._sets[member] for member in blend.members]
        if blend.method is None:
            return self._score(members[0])
        with tempfile.TemporaryDirectory(prefix="segsweep-selection-") as folder:
            paths = [member.path for member in members]
            out = Path(folder) / "fused"
            fuse(paths, out, method=blend.method, weights=blend.votes, settings=blend.settings)
            return self._score(PredictionSet.open(out))
