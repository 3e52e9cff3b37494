"""Class probabilities in 8 bits at a coarser grid: how `prob8` packs and unpacks them.

prob_CHW is float, 0 to 1; a packed pixel is the mean over its stride x stride block, times 255, rounded.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["pack", "unpack"]


def pack(prob_CHW: npt.NDArray[Any], stride: int) -> npt.NDArray[np.uint8]:
    """Packs (C, H, W) to uint8 (C, ceil(H/stride), ceil(W/stride)); blocks at the edge repeat the last row, column."""
    channels, height, width = prob_CHW.shape
    pad = ((0, 0), (0, -height % stride), (0, -width % stride))
    padded = np.pad(prob_CHW, pad, mode="edge") if stride > 1 else prob_CHW
    blocks = padded.reshape(channels, padded.shape[1] // stride, stride, padded.shape[2] // stride, stride)
    mean = blocks.mean(axis=(2, 4), dtype=np.float64) if stride > 1 else prob_CHW
    packed: npt.NDArray[np.uint8] = np.rint(np.clip(mean, 0, 1) * 255).astype(np.uint8)
    return packed


def unpack(packed: npt.NDArray[np.uint8], height: int, width: int, stride: int) -> npt.NDArray[np.float32]:
    """Unpacks to float32 (C, height, width), bilinear between block centres."""
    prob_CHW = packed.astype(np.float32) / np.float32(255)
    if stride == 1:
        return prob_CHW
    size = (packed.shape[2] * stride, packed.shape[1] * stride)
    full = [cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR)[:height, :width] for channel in prob_CHW]
    return np.stack(full).astype(np.float32, copy=False)
