"""Fusing the masks of each cluster by weighted vote, on run lengths: no mask is decoded at full size.

Legend: N objects, K clusters, E boundaries of all voting masks together. Pure numpy; imports `segdata` only.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensembling.run_lengths import boundaries_of, rles_of
from segdata.errors import InputError
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
) -> list[Rle | None]:
    """Fuses the masks of each cluster: a pixel is foreground when enough of the cluster's votes have it.

    Args:
        rles: Masks of one image, all of the same height and width.
        cluster_N: Cluster of each mask, 0..clusters-1; -1 = takes no part.
        votes_N: Weight of each mask, above 0 (member weight x confidence).
        clusters: How many clusters there are.
        mask_threshold: Share of the votes, in (0, 1], that makes a pixel foreground; exactly that share is enough.

    Returns:
        One mask a cluster, None where no pixel has enough votes. The mask of a cluster of one is returned unchanged.

    Raises:
        InputError: If the masks are not all of the same size.
    """
    size_K = np.bincount(cluster_N[cluster_N >= 0], minlength=clusters)
    fused: list[Rle | None] = [None] * clusters
    for index in np.flatnonzero((cluster_N >= 0) & (size_K[cluster_N] == 1)):
        fused[cluster_N[index]] = rles[index]
    height, width = _common_size(rles)
    voters = np.flatnonzero((cluster_N >= 0) & (size_K[cluster_N] > 1))
    if len(voters):
        chosen = [rles[index] for index in voters]
        position, cluster = _majority_boundaries(
            chosen, cluster_N[voters], votes_N[voters], mask_threshold, height * width
        )
        shared, rank = np.unique(cluster, return_inverse=True)
        for index, rle in zip(shared, rles_of(position, rank, len(shared), height=height, width=width), strict=True):
            fused[index] = rle
    return fused


def _majority_boundaries(
    rles: Sequence[Rle], cluster_N: Ints, votes_N: npt.NDArray[np.float64], mask_threshold: float, pixels: int
) -> tuple[Ints, Ints]:
    """Sweeps over all boundaries in column-major order and returns those of the majority, and their clusters."""
    ticks_N, needed_K = _ticks(cluster_N, votes_N, mask_threshold)
    bounds = boundaries_of(rles)
    inside = ~(bounds.rises & (bounds.positions == pixels))
    mask_E, position_E, rises_E = bounds.masks[inside], bounds.positions[inside], bounds.rises[inside]
    key_E = cluster_N[mask_E] * (pixels + 1) + position_E
    order = np.argsort(key_E)
    key_E = key_E[order]
    level_E = np.cumsum(np.where(rises_E, ticks_N[mask_E], -ticks_N[mask_E])[order])
    settled = np.diff(key_E, append=-1) != 0
    key_E, level_E = key_E[settled], level_E[settled]
    cluster_E = key_E // (pixels + 1)
    # Every mask has ended by the end of its cluster's keys, so that the level there is 0 and background again.
    foreground_E = level_E >= needed_K[cluster_E]
    switches = np.diff(foreground_E, prepend=False)
    return (key_E - cluster_E * (pixels + 1))[switches], cluster_E[switches]


def _ticks(
    cluster_N: Ints, votes_N: npt.NDArray[np.float64], mask_threshold: float
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Turns votes into whole ticks, and tells how many a pixel of each cluster needs."""
    total_K = np.bincount(cluster_N, votes_N)
    ticks_N = np.rint(votes_N / total_K[cluster_N] * _TICKS).astype(np.int64)
    needed_K = np.bincount(cluster_N, ticks_N).astype(np.float64) * (mask_threshold - _TIE)
    return ticks_N, needed_K


def _common_size(rles: Sequence[Rle]) -> tuple[int, int]:
    sizes = {(rle.height, rle.width) for rle in rles}
    if len(sizes) > 1:
        raise InputError.of(
            f"expected masks of one size in an image, but got height x width of {sorted(sizes)}",
            where="masks to fuse",
            cure="Predict all members on the same images.",
        )
    return sizes.pop() if sizes else (0, 0)
