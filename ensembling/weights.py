"""Weights of members: checked, scaled, and turned into whole votes, so that ties are exact. Imports our errors only."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from segdata.errors import InputError

__all__ = ["member_weights", "whole_votes"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_LARGEST_DENOMINATOR = 64
_TICKS = 1 << 23  # 255 times as many fit into 32 bits


def member_weights(weights: Sequence[float] | None, members: int) -> Floats:
    """Checks weights of members and scales them to a sum of 1; None = all equal.

    Raises:
        InputError: If there is no member, the lengths differ, a weight is not a finite number above 0, or their sum
            is not finite.
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
    total = sum(map(Fraction, given.tolist()))
    scaled: Floats = np.array([float(Fraction(weight) / total) for weight in given.tolist()])
    if (scaled <= 0).any():
        raise InputError.of(
            f"expected weights that all count beside their sum, but got {list(weights)}",
            where="weights",
            cure="Leave out a member that is to count for nothing.",
        )
    return scaled


def whole_votes(share_M: Floats) -> tuple[Ints, bool]:
    """Turns weights into whole votes in the same ratios.

    Returns:
        (M,) votes above or equal 0 with a sum of about 2^23 at most, and whether their ratios are exact. They are for
        weights whose ratios to the smallest one are fractions of whole numbers with denominators up to 64.
    """
    smallest = share_M.min()
    ratios = [Fraction(weight / smallest).limit_denominator(_LARGEST_DENOMINATOR) for weight in share_M.tolist()]
    common = math.lcm(*(ratio.denominator for ratio in ratios))
    votes = [int(ratio * common) for ratio in ratios]
    near = all(
        math.isclose(float(ratio), weight / smallest, rel_tol=1e-9)
        for ratio, weight in zip(ratios, share_M.tolist(), strict=True)
    )
    if near and sum(votes) <= _TICKS:
        return np.array(votes, dtype=np.int64), True
    return np.rint(share_M * _TICKS).astype(np.int64), False
