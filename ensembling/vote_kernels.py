"""Compiled loops of the semantic votes, over a block of pixels that stays in the processor's cache.

Legend: M members, C classes, P pixels of an image, B pixels of a block, which starts at pixel `start`. Probabilities
are floats 0..1, or bytes in steps of 1/255. Imports numpy and `compiled`.

Sums are exact, so that the order of members is irrelevant: what is added in float64 is whole (a member's number in
steps of 1 / `grid`, rounded, times its votes), and the sums stay below 2^53.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ensembling.compiled import compiled

__all__ = [
    "add",
    "add_confident",
    "add_logs",
    "add_logs_of_bytes",
    "add_rounded",
    "finish_confident",
    "finish_geometric",
    "highest_bits",
    "labels_of_grid",
    "largest",
    "winners",
]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]
# What is added to every probability before its logarithm is taken: half a step of 8 bits.
HALF_STEP = 0.5 / 255.0


@compiled
def add(part_CP: Array, share: Any, start: int, sum_CB: Array) -> None:
    """Adds share x probability to the sums; in whole numbers where both are whole."""
    classes, pixels = sum_CB.shape
    for c in range(classes):
        row, part = sum_CB[c], part_CP[c, start : start + pixels]
        for p in range(pixels):
            row[p] += share * part[p]


@compiled
def add_rounded(part_CP: Array, votes: float, grid: float, start: int, sum_CB: Floats) -> None:
    """Adds votes x probability in steps; `grid` is how many steps 1 of the member's numbers has."""
    classes, pixels = sum_CB.shape
    for c in range(classes):
        row, part = sum_CB[c], part_CP[c, start : start + pixels]
        for p in range(pixels):
            row[p] += votes * np.rint(part[p] * grid)


@compiled
def highest_bits(bits_CP: Array, start: int, pixels: int) -> Any:
    """Largest of the block's floats, read as whole numbers: those of 0..1 come first, then all others and NaN."""
    highest = bits_CP[0, start] * 0
    for c in range(len(bits_CP)):
        bits = bits_CP[c, start : start + pixels]
        for p in range(pixels):
            highest = max(highest, bits[p])
    return highest


@compiled
def largest(sum_CB: Array, best_B: Array, label_B: Bytes) -> None:
    """Writes the class with the largest sum, of equal ones the lower; `best_B` is scratch of the sums' dtype."""
    classes, pixels = sum_CB.shape
    for p in range(pixels):
        best_B[p], label_B[p] = sum_CB[0, p], 0
    for c in range(1, classes):
        row = sum_CB[c]
        for p in range(pixels):
            more = row[p] > best_B[p]
            best_B[p] = row[p] if more else best_B[p]
            label_B[p] = c if more else label_B[p]


@compiled
def add_confident(
    part_CP: Array, votes: float, scale: float, grid: float, one: float, start: int, sum_CB: Floats, weight_B: Floats
) -> None:
    """Adds a member whose weight at a pixel is its votes x its largest probability there.

    `scale` makes numbers of members comparable, and `one` is what a probability of 1 then is.
    """
    classes, pixels = sum_CB.shape
    most = np.zeros(pixels)
    for c in range(classes):
        part = part_CP[c, start : start + pixels]
        for p in range(pixels):
            most[p] = max(most[p], part[p] * scale)
    for p in range(pixels):
        weight_B[p] += votes * np.rint(most[p] * one * grid)
    for c in range(classes):
        row, part = sum_CB[c], part_CP[c, start : start + pixels]
        for p in range(pixels):
            row[p] += votes * np.rint(most[p] * part[p] * scale * grid)


@compiled
def finish_confident(sum_CB: Floats, weight_B: Floats) -> None:
    """Divides by the weights; a pixel without any probability stays 0."""
    classes, pixels = sum_CB.shape
    for c in range(classes):
        for p in range(pixels):
            sum_CB[c, p] = min(sum_CB[c, p] / weight_B[p], 1.0) if weight_B[p] > 0 else 0.0


@compiled
def add_logs(
    part_CP: Array, votes: float, log_grid: float, grid: float, start: int, sum_CB: Floats, total_B: Floats
) -> None:
    """Adds votes x log(probability + half a step), and votes x the pixel's sum over the classes, each in its steps."""
    classes, pixels = sum_CB.shape
    for c in range(classes):
        row, part = sum_CB[c], part_CP[c, start : start + pixels]
        for p in range(pixels):
            row[p] += votes * np.rint(np.log(part[p] + HALF_STEP) * log_grid)
            total_B[p] += votes * np.rint(part[p] * grid)


@compiled
def add_logs_of_bytes(
    part_CP: Bytes, votes: float, log_grid: float, grid: float, start: int, sum_CB: Floats, total_B: Floats
) -> None:
    """The same for probabilities in steps of 1/255."""
    classes, pixels = sum_CB.shape
    logs, plain = np.empty(256), np.empty(256)
    for value in range(256):
        logs[value] = votes * np.rint(np.log(value / 255.0 + HALF_STEP) * log_grid)
        plain[value] = votes * np.rint(value / 255.0 * grid)
    for c in range(classes):
        row, part = sum_CB[c], part_CP[c, start : start + pixels]
        for p in range(pixels):
            row[p] += logs[part[p]]
            total_B[p] += plain[part[p]]


@compiled
def finish_geometric(sum_CB: Floats, total_B: Floats, log_unit: float, unit: float) -> None:
    """Turns sums of logarithms into probabilities whose sum over the classes is `total_B` x `unit`."""
    classes, pixels = sum_CB.shape
    found = np.zeros(pixels)
    for c in range(classes):
        for p in range(pixels):
            sum_CB[c, p] = max(np.exp(sum_CB[c, p] * log_unit) - HALF_STEP, 0.0)
            found[p] += sum_CB[c, p]
    for p in range(pixels):
        found[p] = total_B[p] * unit / found[p] if found[p] > 0 else 0.0
    for c in range(classes):
        for p in range(pixels):
            sum_CB[c, p] = min(sum_CB[c, p] * found[p], 1.0)


@compiled
def labels_of_grid(prob_Chw: npt.NDArray[np.float32], stride: int, height: int, width: int) -> Bytes:
    """Class with the largest probability at each pixel, (height, width), bilinear between the centres of blocks.

    Pixels at one place of their blocks have the same shares of the blocks to their left and right: they are taken
    together.
    """
    classes, rows, columns = prob_Chw.shape
    label_HW = np.empty((height, width), dtype=np.uint8)
    row = np.empty(columns + 2, np.float32)  # with the first and last block again at the ends
    best, found = np.empty((stride, columns), np.float32), np.empty((stride, columns), np.uint8)
    for y in range(height):
        place = min(max((y + 0.5) / stride - 0.5, 0.0), rows - 1.0)
        above, lower = int(place), np.float32(place - int(place))
        below = min(above + 1, rows - 1)
        best[:], found[:] = -1.0, 0
        for c in range(classes):
            upper_row, lower_row = prob_Chw[c, above], prob_Chw[c, below]
            for j in range(columns):
                row[j + 1] = upper_row[j] + (lower_row[j] - upper_row[j]) * lower
            row[0], row[columns + 1] = row[1], row[columns]
            for phase in range(stride):
                offset = (phase + 0.5) / stride - 0.5
                left = row[0:columns] if offset < 0 else row[1 : columns + 1]
                right = row[1 : columns + 1] if offset < 0 else row[2 : columns + 2]
                share = np.float32(offset + 1.0 if offset < 0 else offset)
                most, label = best[phase], found[phase]
                for j in range(columns):
                    value = left[j] + (right[j] - left[j]) * share
                    more = value > most[j]
                    most[j] = value if more else most[j]
                    label[j] = c if more else label[j]
        for x in range(width):
            label_HW[y, x] = found[x % stride, x // stride]
    return label_HW


@compiled
def winners(label_MP: Bytes, ticks_M: Array, slack: int, block: int) -> Bytes:
    """Gives each pixel the lowest class whose votes are at most `slack` below the most votes of a class.

    Members are compared pairwise: each collects the votes of those that agree, whatever the number of classes.
    """
    members, pixels = label_MP.shape
    result = np.full(pixels, 255, dtype=np.uint8)
    votes = np.empty((members, block), dtype=ticks_M.dtype)
    most = np.empty(block, dtype=ticks_M.dtype)
    for start in range(0, pixels, block):
        size = min(block, pixels - start)
        for m in range(members):
            votes[m] = ticks_M[m]
        for first in range(members):
            for second in range(first + 1, members):
                mine, other = label_MP[first, start : start + size], label_MP[second, start : start + size]
                my_votes, other_votes = votes[first], votes[second]
                my_ticks, other_ticks = ticks_M[first], ticks_M[second]
                for p in range(size):
                    same = mine[p] == other[p]
                    my_votes[p] += other_ticks if same else other_ticks * 0
                    other_votes[p] += my_ticks if same else my_ticks * 0
        most[:] = votes[0]
        for m in range(1, members):
            row = votes[m]
            for p in range(size):
                most[p] = max(most[p], row[p])
        winner = result[start : start + size]
        for m in range(members):
            row, label = votes[m], label_MP[m, start : start + size]
            for p in range(size):
                winner[p] = min(winner[p], label[p]) if row[p] + slack >= most[p] else winner[p]
    return result
