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

__all__ = ["fuse_hard", "fuse_soft"]

Floats = npt.NDArray[np.float64]


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
    parts = [_aligned(member, image, stride) for member in sets]
    weights = share_M.tolist()
    if writer.codec == "labels" and stride == 1:
        writer.add_labels(image, soft_vote_labels(parts, weights, mean=settings.mean))
        return
    voted_CHW = soft_vote(parts, weights, mean=settings.mean)
    if writer.codec == "labels":
        writer.add_labels(image, labels_of_grid(voted_CHW, stride, image.height, image.width))
        return
    np.multiply(voted_CHW, np.float32(255), out=voted_CHW)
    writer.add_packed(image, np.rint(voted_CHW, out=voted_CHW).astype(np.uint8))


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


def _aligned(
    member: PredictionSet, image: PredictedImage, stride: int
) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
    packed = member.packed(image.file_name)
    if member.meta.stride == stride:
        return packed
    return resample(packed, image.height, image.width, member.meta.stride, stride)
