"""Fusing the masks of each cluster by weighted vote, on run lengths: no mask is decoded at full size.

Legend: N objects, K clusters, V masks that vote. Imports `segdata` and the run lengths.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensembling.run_kernels import vote
from ensembling.run_lengths import Runs, rles_of, runs_of
from segdata.rle import Rle

__all__ = ["fuse_masks"]

Ints = npt.NDArray[np.int64]
_TICKS = float(1 << 40)  # votes are counted in whole ticks, so that sums are exact in any order
_TIE = 1e-9  # share of a cluster's votes within which a vote on the threshold is a tie


def fuse_masks(
    rles: Sequence[Rle],
    cluster_N: Ints,
    votes_N: npt.NDArray[np.float64],
    clusters: int,
    *,
    mask_threshold: float = 0.5,
    runs: Runs | None = None,
) -> list[Rle | None]:
    """Fuses the masks of each cluster: a pixel is foreground when enough of the cluster's votes have it.

    Args:
        rles: Masks of one image, all of the same height and width.
        cluster_N: Cluster of each mask, 0..clusters-1; -1 = takes no part.
        votes_N: Weight of each mask, above 0 (member weight x confidence).
        clusters: How many clusters there are.
        mask_threshold: Share of the votes, in (0, 1], that makes a pixel foreground; exactly that share is enough.
        runs: The runs of `rles`, where they have been read already.

    Returns:
        One mask a cluster, None where no pixel has enough votes. The mask of a cluster of one is returned unchanged.

    Raises:
        InputError: If the masks are not all of the same size.
    """
    known = runs_of(rles) if runs is None else runs
    size_K = np.bincount(cluster_N[cluster_N >= 0], minlength=clusters)
    fused: list[Rle | None] = [None] * clusters
    for index in np.flatnonzero((cluster_N >= 0) & (size_K[cluster_N] == 1)):
        fused[cluster_N[index]] = rles[index]
    shared = np.flatnonzero(size_K > 1)
    if len(shared):
        voters = np.argsort(cluster_N, kind="stable")
        voters = voters[(cluster_N[voters] >= 0) & (size_K[cluster_N[voters]] > 1)]
        groups = np.concatenate([[0], np.cumsum(size_K[shared])])
        ticks_V, needed_K = _ticks(np.repeat(np.arange(len(shared)), size_K[shared]), votes_N[voters], mask_threshold)
        won = vote(known.starts, known.ends, known.offsets, voters, groups, ticks_V, needed_K)
        found = rles_of(Runs(*won, height=known.height, width=known.width))
        has_pixels = np.diff(won[2]) > 0
        for index, rle, some in zip(shared.tolist(), found, has_pixels.tolist(), strict=True):
            fused[index] = rle if some else None
    return fused


def _ticks(cluster_V: Ints, votes_V: npt.NDArray[np.float64], mask_threshold: float) -> tuple[Ints, Ints]:
    """Turns votes into whole ticks, and tells how many a pixel of each cluster needs."""
    total_K = np.bincount(cluster_V, votes_V)
    ticks_V = np.rint(votes_V / total_K[cluster_V] * _TICKS).astype(np.int64)
    needed_K = np.ceil(np.bincount(cluster_V, ticks_V) * (mask_threshold - _TIE)).astype(np.int64)
    return ticks_V, needed_K
