"""Semantic votes: many members' class probabilities or labels of one image become one.

Legend: M members, C classes, H x W pixels. Pure numpy kernels; imports `segdata.errors` only.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from segdata.errors import InputError

__all__ = ["hard_vote", "member_weights", "soft_vote"]

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
_BLOCK = 1 << 14  # values taken at a time, so that they stay in the processor's cache
_TICKS = 1 << 24  # whole votes that weights are turned into, so that sums are exact in any order


def member_weights(weights: Sequence[float] | None, members: int) -> npt.NDArray[np.float64]:
    """Checks weights of members and scales them to a sum of 1; None = all equal.

    Raises:
        InputError: If there is no member, the lengths differ, or a weight is not a finite number above 0.
    """
    if members == 0:
        raise InputError.of("expected at least one member, but got none", where="ensemble", cure="Name its members.")
    if weights is None:
        return np.full(members, 1.0 / members)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (members,) or not np.isfinite(given).all() or (given <= 0).any():
        raise InputError.of(
            f"expected one finite weight above 0 for each of {members} members, but got {list(weights)}",
            where="weights",
            cure="Give as many weights as members, and leave out a member that is to count for nothing.",
        )
    scaled: npt.NDArray[np.float64] = given / given.sum()
    return scaled


def soft_vote(probabilities: Floats | Sequence[Floats], weights: Sequence[float] | None = None) -> Floats:
    """Averages class probabilities: the weighted arithmetic mean over members.

    Args:
        probabilities: Probabilities 0..1, float32 (M, C, H, W), or M arrays (C, H, W).
        weights: One weight above 0 a member; None = all equal. Only their ratios matter.

    Returns:
        Float32 (C, H, W), summed in float64. Its argmax gives a tie to the lowest class index.

    Raises:
        InputError: If shapes differ, or a probability is not a number within 0..1.
    """
    share_M = member_weights(weights, len(probabilities))
    shape = probabilities[0].shape
    for member, prob_CHW in enumerate(probabilities):
        _require_shape(prob_CHW.shape, shape, member)
    flat_M = [prob_CHW.reshape(-1) for prob_CHW in probabilities]
    mean = np.empty(flat_M[0].size, dtype=np.float32)
    for start in range(0, mean.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        mean[block] = _mean_of_block([flat[block] for flat in flat_M], share_M)
    return mean.reshape(shape)


def hard_vote(labels: Labels | Sequence[Labels], num_classes: int, weights: Sequence[float] | None = None) -> Labels:
    """Gives each pixel the class that the members with the most weight vote for.

    A tie goes to the lowest of the tied class indices, so that the order of members never matters. Weights are told
    apart to about a ten millionth of their sum.

    Args:
        labels: Class indices 0..num_classes-1, uint8 (M, H, W), or M arrays (H, W).
        num_classes: Number of classes, 1..255.
        weights: One weight above 0 a member; None = all equal.

    Returns:
        Uint8 (H, W).

    Raises:
        InputError: If shapes differ or a label is not below `num_classes`.
    """
    share_M = member_weights(weights, len(labels))
    shape = labels[0].shape
    for member, label_HW in enumerate(labels):
        _require_labels(label_HW, shape, num_classes, member)
    ticks_M, slack = _ticks(share_M)
    flat_M = [label_HW.reshape(-1) for label_HW in labels]
    winner = np.empty(flat_M[0].size, dtype=np.uint8)
    for start in range(0, winner.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        winner[block] = _winner_of_block([flat[block] for flat in flat_M], ticks_M, slack)
    return winner.reshape(shape)


def _ticks(share_M: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.integer[Any]], int]:
    """Turns weights into whole votes, and tells by how many votes two classes may differ and still be tied."""
    if np.all(share_M == share_M[0]) and len(share_M) <= np.iinfo(np.uint8).max:
        return np.ones(len(share_M), dtype=np.uint8), 0
    return np.rint(share_M * _TICKS).astype(np.int32), len(share_M)


def _winner_of_block(
    labels_M: Sequence[Labels], ticks_M: npt.NDArray[np.integer[Any]], slack: int
) -> npt.NDArray[np.uint8]:
    """Compares members pairwise: each collects the votes of those that agree, whatever the number of classes."""
    votes_M = [np.full(labels_M[0].size, ticks, dtype=ticks_M.dtype) for ticks in ticks_M]
    for first, second in combinations(range(len(labels_M)), 2):
        agree = (labels_M[first] == labels_M[second]).view(np.uint8)
        votes_M[first] += agree * ticks_M[second]
        votes_M[second] += agree * ticks_M[first]
    winner, most = labels_M[0].copy(), votes_M[0]
    for label, votes in zip(labels_M[1:], votes_M[1:], strict=True):
        wins = (votes > most + slack) | ((votes + slack >= most) & (label < winner))
        np.copyto(winner, label, where=wins)
        np.copyto(most, votes, where=wins)
    return winner


def _mean_of_block(parts_M: Sequence[Floats], share_M: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weighted mean in float64 of a block that stays in the processor's cache."""
    mean = np.zeros(parts_M[0].size, dtype=np.float64)
    for member, (part, share) in enumerate(zip(parts_M, share_M, strict=True)):
        # A comparison with NaN is false, so that NaN is refused too.
        if not (part.min() >= 0.0 and part.max() <= 1.0):
            raise InputError.of(
                f"expected probabilities within 0..1, but got {part.min()} to {part.max()}",
                where=f"member {member}",
                cure="Predict the member again.",
            )
        mean += part * share
    return mean


def _require_shape(found: tuple[int, ...], wanted: tuple[int, ...], member: int) -> None:
    if found != wanted:
        raise InputError.of(
            f"expected an array of shape {wanted} as the first member's, but got {found}",
            where=f"member {member}",
            cure="Predict all members on the same images.",
        )


def _require_labels(label_HW: Labels, shape: tuple[int, ...], num_classes: int, member: int) -> None:
    _require_shape(label_HW.shape, shape, member)
    if label_HW.dtype != np.uint8:
        raise InputError.of(
            f"expected labels of dtype uint8, but got {label_HW.dtype}",
            where=f"member {member}",
            cure="Convert them to class indices.",
        )
    if label_HW.size and (highest := int(label_HW.max())) >= num_classes:
        raise InputError.of(
            f"expected labels below {num_classes}, the number of classes, but got {highest}",
            where=f"member {member}",
            cure="Predict the member again with the classes of the others.",
        )
