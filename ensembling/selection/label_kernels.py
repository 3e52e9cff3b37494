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
def count_pairs(truth_P: Bytes, label_P: Bytes, classes: int, ignore_index: int) -> Ints:
    """Counts pixels by (true class, predicted class), (C, C); all labels but the ignored ones are below C."""
    counts = np.zeros((256, classes), dtype=np.int64)
    for p in range(len(truth_P)):
        counts[truth_P[p], label_P[p]] += 1
    counts[ignore_index] = 0
    return counts[:classes].copy()
