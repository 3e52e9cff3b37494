"""Fusing one image's class probabilities or labels of several members, at whatever stride each was stored.

Members that predicted at other input scales are stored at the image's size, so only strides differ here. The vote is
taken on the finest grid among the members: those that have it are not resampled; coarser ones are brought to it by
`segdata.probabilities.resample` (bilinear between block centres, then means over the finer blocks).
Imports `segdata` and this package.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ensembling.settings import FusionSettings
from ensembling.vote_kernels import labels_of_grid
from ensembling.votes import hard_vote, soft_vote, soft_vote_labels
from segdata.predictions import PredictedImage, PredictionSet, PredictionWriter
from segdata.probabilities import resample

__all__ = ["aligned", "fuse_hard", "fuse_soft", "in_bytes", "voted_bytes", "voted_labels"]

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Part = Bytes | npt.NDArray[np.float32]  # a member's probabilities, (C, h, w)


def fuse_soft(
    writer: PredictionWriter,
    image: PredictedImage,
    sets: Sequence[PredictionSet],
    share_M: Floats,
    settings: FusionSettings,
) -> None:
    """Soft vote: the mean of the members' probabilities, `settings.mean`; stores it, or its labels.

    Labels are those of the mean before it is rounded to 8 bits, bilinear between block centres.
    """
    stride = min(member.meta.stride for member in sets)
    parts = [aligned(member.packed(image.file_name), image, member.meta.stride, stride) for member in sets]
    if writer.codec == "labels":
        writer.add_labels(image, voted_labels(parts, share_M, image, stride, settings))
    else:
        writer.add_packed(image, voted_bytes(parts, share_M, settings))


def voted_labels(
    parts: Sequence[Part], share_M: Floats, image: PredictedImage, stride: int, settings: FusionSettings
) -> Bytes:
    """Returns the classes, uint8 (H, W), with the largest mean of probabilities that lie on one grid."""
    weights = share_M.tolist()
    if stride == 1:
        return soft_vote_labels(parts, weights, mean=settings.mean)
    return labels_of_grid(soft_vote(parts, weights, mean=settings.mean), stride, image.height, image.width)


def voted_bytes(parts: Sequence[Part], share_M: Floats, settings: FusionSettings) -> Bytes:
    """Returns the mean of probabilities (C, h, w) that lie on one grid, in 8 bits."""
    return in_bytes(soft_vote(parts, share_M.tolist(), mean=settings.mean))


def in_bytes(prob: npt.NDArray[np.float32]) -> Bytes:
    """Rounds probabilities to steps of 1/255; the array is used up."""
    np.multiply(prob, np.float32(255), out=prob)
    return np.rint(prob, out=prob).astype(np.uint8)


def fuse_hard(
    writer: PredictionWriter,
    image: PredictedImage,
    sets: Sequence[PredictionSet],
    share_M: Floats,
    settings: FusionSettings,
) -> None:
    """Hard vote: the class that the members with the most weight name; a tie goes to the lowest class index."""
    labels = [member.labels(image.file_name) for member in sets]
    writer.add_labels(image, hard_vote(labels, len(sets[0].meta.classes), share_M.tolist()))


def aligned(packed: Bytes, image: PredictedImage, stride: int, finest: int) -> Part:
    """Brings a member's probabilities from its stride to the finest one; they stay as they are where it has that."""
    return packed if stride == finest else resample(packed, image.height, image.width, stride, finest)
