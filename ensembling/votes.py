"""Semantic votes: many members' class probabilities or labels of one image become one.

Legend: M members, C classes, H x W pixels, P of them, in blocks of B. Imports `segdata.errors` and this package.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ensembling.vote_kernels import (
    add,
    add_confident,
    add_logs,
    add_logs_of_bytes,
    add_rounded,
    finish_confident,
    finish_geometric,
    highest_bits,
    largest,
    winners,
)
from ensembling.weights import member_weights, whole_votes
from segdata.errors import InputError

__all__ = ["Mean", "hard_vote", "soft_vote", "soft_vote_labels"]

Mean = Literal["arithmetic", "geometric", "confidence"]
Array = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.float64]
_BLOCK = 1 << 13  # pixels taken at a time, so that all that is summed stays in the processor's cache
_FLOAT_BLOCK = 1 << 11  # the same for floats
_STEPS = 255  # of a probability in 8 bits
_EXACT = 1 << 52  # whole numbers up to twice this add up in float64 without rounding
_LARGEST_LOG = 8  # above that of any probability plus half a step of 8 bits


def soft_vote(
    probabilities: Sequence[Array], weights: Sequence[float] | None = None, *, mean: Mean = "arithmetic"
) -> npt.NDArray[np.float32]:
    """Averages class probabilities over members.

    With w the weights, scaled to a sum of 1, and p a member's probability of a class at a pixel:

        arithmetic   sum of w p
        geometric    product of (p + e)^w, less e, scaled so that the classes add up to the sum of w p over members and
                     classes; e is half a step of 8 bits, so that the 0 of one member is no veto (the logarithmic
                     opinion pool: C. Genest, J. V. Zidek, "Combining probability distributions", Statistical Science
                     1(1), 1986, section 3)
        confidence   sum of w c p / sum of w c, where c is the member's largest probability at the pixel

    Args:
        probabilities: M arrays (C, H, W), float 0..1, or uint8 in steps of 1/255. Members may differ in this.
        weights: One weight above 0 a member; None = all equal. Only their ratios matter.
        mean: Which mean.

    Returns:
        Float32 (C, H, W), the same to the last bit in whatever order members come: what is added is whole, their
        numbers in steps of 1/255 or of 1e-9 at most. Its argmax gives a tie to the lowest class index.

    Raises:
        InputError: If shapes differ, or a probability is not a number within 0..1.
    """
    parts, share_M, shape = _checked(probabilities, weights)
    voted = np.empty((shape[0], parts[0].shape[1]), dtype=np.float32)
    for start, sum_CB, unit in _blocks(parts, share_M, mean):
        np.multiply(sum_CB, unit, out=voted[:, start : start + sum_CB.shape[1]], casting="same_kind")
    return voted.reshape(shape)


def soft_vote_labels(
    probabilities: Sequence[Array], weights: Sequence[float] | None = None, *, mean: Mean = "arithmetic"
) -> Labels:
    """Gives each pixel the class with the largest mean probability; ties go to the lowest class index.

    The means themselves are never stored: each probability is read once.

    Args:
        probabilities: As in `soft_vote`; at most 256 classes.
        weights: As there.
        mean: As there.

    Returns:
        Uint8 (H, W).

    Raises:
        InputError: As `soft_vote`.
    """
    parts, share_M, shape = _checked(probabilities, weights)
    labels = np.empty(parts[0].shape[1], dtype=np.uint8)
    for start, sum_CB, _ in _blocks(parts, share_M, mean):
        best_B = np.empty(sum_CB.shape[1], dtype=sum_CB.dtype)
        largest(sum_CB, best_B, labels[start : start + sum_CB.shape[1]])
    return labels.reshape(shape[1:])


def hard_vote(labels: Sequence[Labels], num_classes: int, weights: Sequence[float] | None = None) -> Labels:
    """Gives each pixel the class that the members with the most weight vote for.

    A tie goes to the lowest of the tied class indices, so that the order of members never matters. Weights in ratios
    of small whole numbers are compared exactly, others to about a millionth of their sum.

    Args:
        labels: M arrays (H, W) of class indices 0..num_classes-1, uint8.
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
    votes_M, exact = whole_votes(share_M)
    ticks_M = votes_M.astype(np.uint8 if votes_M.sum() <= np.iinfo(np.uint8).max else np.int32)
    slack = 0 if exact else len(labels)
    label_MP = np.stack([label_HW.reshape(-1) for label_HW in labels])
    return winners(label_MP, ticks_M, slack, _BLOCK).reshape(shape)


def _checked(
    probabilities: Sequence[Array], weights: Sequence[float] | None
) -> tuple[list[Array], Weights, tuple[int, ...]]:
    """Returns the members as (C, P), their weights, and the shape (C, H, W)."""
    share_M = member_weights(weights, len(probabilities))
    shape = probabilities[0].shape
    for member, prob_CHW in enumerate(probabilities):
        _require_shape(prob_CHW.shape, shape, member)
        if prob_CHW.dtype != np.uint8 and not np.issubdtype(prob_CHW.dtype, np.floating):
            raise InputError.of(
                f"expected probabilities of a float dtype or uint8, but got {prob_CHW.dtype}",
                where=f"member {member}",
                cure="Convert them.",
            )
    parts = [part.astype(np.float32) if part.dtype == np.float16 else part for part in probabilities]
    return [np.ascontiguousarray(part).reshape(shape[0], -1) for part in parts], share_M, shape


def _blocks(parts: Sequence[Array], share_M: Weights, mean: Mean) -> Iterator[tuple[int, Array, float]]:
    """Yields for each block of pixels where it starts, (C, B) what adds up there, and what 1 of it stands for."""
    whole = mean == "arithmetic" and all(part.dtype == np.uint8 for part in parts)
    votes_M, _ = whole_votes(share_M)
    narrow = votes_M.sum() * _STEPS <= np.iinfo(np.uint16).max
    ticks_M = votes_M.astype(np.uint16 if narrow else np.int32)
    classes, pixels = parts[0].shape
    size = _BLOCK if whole else _FLOAT_BLOCK
    for start in range(0, pixels, size):
        block = min(size, pixels - start)
        if whole:
            sum_CB: Array = np.zeros((classes, block), dtype=ticks_M.dtype)
            for part, ticks in zip(parts, ticks_M, strict=True):
                add(part, ticks, start, sum_CB)
            unit = 1.0 / (float(votes_M.sum()) * _STEPS)
        else:
            sum_CB = np.zeros((classes, block))
            unit = _FLOAT_MEANS[mean](parts, votes_M.astype(np.float64), start, sum_CB)
        yield start, sum_CB, unit


def _arithmetic(parts: Sequence[Array], votes_M: Weights, start: int, sum_CB: Array) -> float:
    grid = _grid(votes_M, 1)
    for part, votes in _sound(parts, votes_M, start, sum_CB.shape[1]):
        add_rounded(part, votes, _scale(part) * grid, start, sum_CB)
    return 1.0 / (float(votes_M.sum()) * grid)


def _geometric(parts: Sequence[Array], votes_M: Weights, start: int, sum_CB: Array) -> float:
    total_B = np.zeros(sum_CB.shape[1])
    log_grid, grid = _grid(votes_M, _LARGEST_LOG), _grid(votes_M, len(sum_CB))
    for part, votes in _sound(parts, votes_M, start, sum_CB.shape[1]):
        add_part = add_logs_of_bytes if part.dtype == np.uint8 else add_logs
        add_part(part, votes, log_grid, grid, start, sum_CB, total_B)
    total = float(votes_M.sum())
    finish_geometric(sum_CB, total_B, 1.0 / (total * log_grid), 1.0 / (total * grid))
    return 1.0


def _confident(parts: Sequence[Array], votes_M: Weights, start: int, sum_CB: Array) -> float:
    weight_B = np.zeros(sum_CB.shape[1])
    only_bytes = all(part.dtype == np.uint8 for part in parts)  # then products are whole as they are
    grid, one = (1.0, float(_STEPS)) if only_bytes else (_grid(votes_M, 1), 1.0)
    for part, votes in _sound(parts, votes_M, start, sum_CB.shape[1]):
        add_confident(part, votes, _scale(part) * one, grid, one, start, sum_CB, weight_B)
    finish_confident(sum_CB, weight_B)
    return 1.0


_FLOAT_MEANS = {"arithmetic": _arithmetic, "geometric": _geometric, "confidence": _confident}


def _grid(votes_M: Weights, largest_number: int) -> float:
    """Steps of 1, a power of two, in which all votes times the largest number are whole in float64."""
    return float(2.0 ** np.floor(np.log2(_EXACT / (float(votes_M.sum()) * largest_number))))


def _scale(part: Array) -> float:
    """What 1 of a member's numbers stands for."""
    return 1.0 / _STEPS if part.dtype == np.uint8 else 1.0


def _sound(parts: Sequence[Array], votes_M: Weights, start: int, block: int) -> Iterator[tuple[Array, float]]:
    """Yields members and their votes; each is checked just before it is used, so that it is read once."""
    for member, (part, votes) in enumerate(zip(parts, votes_M.tolist(), strict=True)):
        if part.dtype != np.uint8 and highest_bits(part.view(f"u{part.itemsize}"), start, block) > _bits_of_one(part):
            some = part[:, start : start + block] + 0.0  # -0.0, whose bits are high too, becomes 0.0
            if not (some.min() >= 0.0 and some.max() <= 1.0):
                raise InputError.of(
                    f"expected probabilities within 0..1, but got {some.min()} to {some.max()}",
                    where=f"member {member}",
                    cure="Predict the member again.",
                )
        yield part, votes


def _bits_of_one(part: Array) -> int:
    return int(np.ones(1, dtype=part.dtype).view(f"u{part.itemsize}")[0])


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
