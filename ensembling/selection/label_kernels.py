"""Compiled loops that turn summed votes into labels and count them against the truth.

Legend: C classes, P pixels of an image. Imports numpy and `compiled`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ensembling.compiled import compiled

__all__ = ["count_pairs", "largest_in_table"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@compiled
def largest_in_table(sum_CP: Array, table: Bytes, label_P: Bytes) -> None:
    """Writes the class whose sum stands for the largest byte, of equal ones the lower."""
    classes, pixels = sum_CP.shape
    for p in range(pixels):
        most, label = table[sum_CP[0, p]], 0
        for c in range(1, classes):
            value = table[sum_CP[c, p]]
            if value > most:
                most, label = value, c
        label_P[p] = label


@compiled
def count_pairs(truth_P: Bytes, label_P: Bytes, classes: int) -> Ints:
    """Counts pixels by (true class, predicted class), (C, C); true labels from C on are not counted.

    Neighbours are mostly alike: four tables in turn, since an addition waits for the last one to the same number.
    """
    counts = np.zeros((4, classes + 1, classes), dtype=np.int64)
    pixels = len(truth_P)
    whole = pixels - pixels % 4
    for start in range(0, whole, 4):
        for turn in range(4):
            counts[turn, min(truth_P[start + turn], classes), label_P[start + turn]] += 1
    for p in range(whole, pixels):
        counts[0, min(truth_P[p], classes), label_P[p]] += 1
    total: Ints = counts[:, :classes].sum(axis=0)
    return total
