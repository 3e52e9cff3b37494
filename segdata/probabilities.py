"""Class probabilities in 8 bits at a coarser grid: how `prob8` packs, unpacks and aligns them.

prob_CHW is float, 0 to 1; a packed pixel is the mean over its stride x stride block, times 255, rounded.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["coarsened", "pack", "resample", "unpack", "unpack_whole"]


def pack(prob_CHW: npt.NDArray[Any], stride: int) -> npt.NDArray[np.uint8]:
    """Packs (C, H, W) to uint8 (C, ceil(H/stride), ceil(W/stride)); blocks at the edge repeat the last row, column."""
    packed: npt.NDArray[np.uint8] = np.rint(np.clip(_block_means(prob_CHW, stride), 0, 1) * 255).astype(np.uint8)
    return packed


def coarsened(packed: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.uint8]:
    """Brings packed probabilities of stride 1 to a stride, as `pack` does; twice rounded, so at most 1 away from it."""
    if stride == 1:
        return packed
    means: npt.NDArray[np.uint8] = np.rint(_block_means(packed, stride)).astype(np.uint8)
    return means


def _block_means(prob_CHW: npt.NDArray[Any], stride: int) -> npt.NDArray[Any]:
    """Mean over each stride x stride block."""
    if stride == 1:
        return prob_CHW
    channels, height, width = prob_CHW.shape
    pad = ((0, 0), (0, -height % stride), (0, -width % stride))
    padded = np.pad(prob_CHW, pad, mode="edge")
    blocks = padded.reshape(channels, padded.shape[1] // stride, stride, padded.shape[2] // stride, stride)
    mean: npt.NDArray[Any] = blocks.mean(axis=(2, 4), dtype=np.float64)
    return mean


def unpack(packed: npt.NDArray[np.uint8], height: int, width: int, stride: int) -> npt.NDArray[np.float32]:
    """Unpacks to float32 (C, height, width), bilinear between block centres."""
    if stride == 1:
        return packed.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(unpack_whole(packed, stride)[:, :height, :width])


def unpack_whole(packed: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.float32]:
    """Unpacks as `unpack` does, with the whole of the last blocks: float32 (C, h x stride, w x stride)."""
    prob_Chw = packed.astype(np.float32) / np.float32(255)
    classes, rows, columns = packed.shape
    full_CHW = np.empty((classes, rows * stride, columns * stride), dtype=np.float32)
    for channel, full in zip(prob_Chw, full_CHW, strict=True):
        cv2.resize(channel, full.shape[::-1], dst=full, interpolation=cv2.INTER_LINEAR)
    return full_CHW


def resample(
    packed: npt.NDArray[np.uint8], height: int, width: int, stride: int, finer_stride: int
) -> npt.NDArray[np.float32]:
    """Brings packed probabilities to a finer grid: float32 (C, ceil(height/finer_stride), ceil(width/finer_stride)).

    Bilinear between block centres to the image's size, then the mean over the finer blocks, not rounded to 8 bits.
    """
    means = _block_means(unpack(packed, height, width, stride), finer_stride)
    return np.clip(means, 0, 1).astype(np.float32, copy=False)
