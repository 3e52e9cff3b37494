"""Compiled loops over run lengths: reading, writing and voting. Legend as in `ensembling.run_lengths`.

COCO's compressed string holds, for each mask, the lengths of its alternating background and foreground runs in
column-major order; from the fourth length on it stores the difference to the length two before, each number in groups
of five bits, lowest first, as characters from "0", with bit 5 telling that another group follows and the last group's
bit 4 telling the sign. Imports numpy and `compiled`.
"""

import numpy as np
import numpy.typing as npt

from ensembling.compiled import compiled

__all__ = ["outline", "parse", "vote", "write"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
NEVER = np.iinfo(np.int64).max  # where a mask without further runs goes on
Parsed = tuple[Ints, Ints, Ints]  # starts (R,), ends (R,), offsets (N + 1,)


@compiled
def parse(text: Bytes, lengths_N: Ints) -> Parsed:
    """Reads the foreground runs of masks from their concatenated strings; `lengths_N` tells the characters of each."""
    numbers = 0
    for character in text:
        numbers += ((character - 48) & 32) == 0
    starts = np.empty(numbers, dtype=np.int64)
    ends = np.empty(numbers, dtype=np.int64)
    offsets = np.zeros(len(lengths_N) + 1, dtype=np.int64)
    at = runs = 0
    for mask in range(len(lengths_N)):
        stop = at + lengths_N[mask]
        position = before = two_before = index = 0
        first = runs
        while at < stop:
            number, at = read_number(text, at, stop)
            if index > 2:
                number += two_before
            two_before, before = before, number
            if index % 2 == 1 and number > 0:
                if runs > first and ends[runs - 1] == position:
                    ends[runs - 1] = position + number
                else:
                    starts[runs], ends[runs] = position, position + number
                    runs += 1
            position += number
            index += 1
        offsets[mask + 1] = runs
    return starts[:runs].copy(), ends[:runs].copy(), offsets


@compiled
def read_number(text: Bytes, at: int, stop: int) -> tuple[int, int]:
    """Reads a signed number that starts at a character; returns it and where the next one starts."""
    number = shift = 0
    more = True
    while more and at < stop:
        code = int(text[at]) - 48
        number |= (code & 31) << shift
        shift += 5
        more = (code & 32) != 0
        if not more and (code & 16) != 0:
            number |= -1 << shift
        at += 1
    return number, at


@compiled
def outline(starts: Ints, ends: Ints, offsets: Ints, height: int) -> tuple[Floats, Floats]:
    """Returns area in pixels (N,) and box xyxy in pixels (N, 4) of each mask; zeros for one without a pixel."""
    masks = len(offsets) - 1
    areas, boxes = np.zeros(masks), np.zeros((masks, 4))
    for mask in range(masks):
        first, last = offsets[mask], offsets[mask + 1]
        if first == last:
            continue
        top, bottom = height, 0
        for run in range(first, last):
            areas[mask] += ends[run] - starts[run]
            row, length = starts[run] % height, ends[run] - starts[run]
            if row + length > height:  # goes on in the next column
                top, bottom = 0, height
            else:
                top, bottom = min(top, row), max(bottom, row + length)
        column = starts[first] // height
        boxes[mask] = column, top, (ends[last - 1] - 1) // height + 1, bottom
    return areas, boxes


@compiled
def vote(starts: Ints, ends: Ints, offsets: Ints, voters: Ints, groups: Ints, ticks_V: Ints, needed_K: Ints) -> Parsed:
    """Returns the runs where at least `needed_K` ticks of a cluster's masks are foreground.

    Args:
        voters: Masks of the first cluster, then of the second, and so on.
        groups: (K + 1,) where each cluster starts in `voters`.
        ticks_V: What each voter counts for.
    """
    clusters = len(groups) - 1
    most = 0
    for mask in voters:
        most += offsets[mask + 1] - offsets[mask]
    won_starts, won_ends = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    won_offsets = np.zeros(clusters + 1, dtype=np.int64)
    for k in range(clusters):
        own = slice(groups[k], groups[k + 1])
        at = won_offsets[k]
        runs = sweep(starts, ends, offsets, voters[own], ticks_V[own], needed_K[k], won_starts[at:], won_ends[at:])
        won_offsets[k + 1] = at + runs
    runs = won_offsets[clusters]
    return won_starts[:runs].copy(), won_ends[:runs].copy(), won_offsets


@compiled
def sweep(
    starts: Ints, ends: Ints, offsets: Ints, voters: Ints, ticks: Ints, needed: int, won_starts: Ints, won_ends: Ints
) -> int:
    """Goes through all starts and ends of a cluster's runs in turn; writes the runs that win, returns their number."""
    run, ahead = np.empty(len(voters), dtype=np.int64), np.empty(len(voters), dtype=np.int64)
    inside = np.zeros(len(voters), dtype=np.bool_)
    for i in range(len(voters)):
        run[i] = offsets[voters[i]]
        ahead[i] = starts[run[i]] if run[i] < offsets[voters[i] + 1] else NEVER
    level = runs = 0
    while True:
        position = NEVER
        for i in range(len(voters)):
            position = min(position, ahead[i])
        if position == NEVER:
            return runs
        was = level >= needed
        for i in range(len(voters)):
            while ahead[i] == position:
                if inside[i]:
                    level -= ticks[i]
                    run[i] += 1
                    ahead[i] = starts[run[i]] if run[i] < offsets[voters[i] + 1] else NEVER
                else:
                    level += ticks[i]
                    ahead[i] = ends[run[i]]
                inside[i] = not inside[i]
        if was and level < needed:
            won_ends[runs] = position
            runs += 1
        elif not was and level >= needed:
            won_starts[runs] = position


@compiled
def write(starts: Ints, ends: Ints, offsets: Ints, pixels: int) -> tuple[Bytes, Ints]:
    """Writes masks as concatenated strings, byte for byte as pycocotools does, and where each ends (N,)."""
    masks = len(offsets) - 1
    widest = 1
    while pixels >= 1 << (5 * widest - 1):
        widest += 1
    text = np.empty((2 * len(starts) + masks) * widest, dtype=np.uint8)
    stops = np.empty(masks, dtype=np.int64)
    at = 0
    for mask in range(masks):
        position = before = two_before = 0
        runs = offsets[mask + 1] - offsets[mask]
        for index in range(2 * runs + 1):
            if index == 2 * runs:
                goal = pixels
                if runs > 0 and position == pixels:
                    break  # the foreground reaches the last pixel
            elif index % 2 == 0:
                goal = starts[offsets[mask] + index // 2]
            else:
                goal = ends[offsets[mask] + index // 2]
            length = goal - position
            number = length - two_before if index > 2 else length
            position, two_before, before = goal, before, length
            more = True
            while more:
                code = number & 31
                number >>= 5
                more = number != (-1 if code & 16 else 0)
                text[at] = code + (32 if more else 0) + 48
                at += 1
        stops[mask] = at
    return text[:at].copy(), stops
