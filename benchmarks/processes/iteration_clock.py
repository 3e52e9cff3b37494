"""Imported in a training process, a trial's or a stock one: notes when each iteration has ended.

Beside this file, which is therefore copied to where the notes are wanted, iterations.txt gets a line an iteration:
epoch, Unix seconds, CPU seconds of this process, most bytes that torch has held of a GPU. A line with the epoch -1 says
that training has ended.
"""

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import EpochBasedTrainLoop

NOTES = Path(__file__).with_name("iterations.txt")
THE_END = -1

stock_run, stock_run_iter = EpochBasedTrainLoop.run, EpochBasedTrainLoop.run_iter


def note(epoch: int) -> None:
    """Adds a line."""
    held = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    with NOTES.open("a") as stream:
        stream.write(f"{epoch} {time.time()} {time.process_time()} {held}\n")


def run_iter(loop: Any, *batch: Any) -> None:
    """One iteration with all its hooks."""
    stock_run_iter(loop, *batch)
    note(loop.epoch)


def run(loop: Any) -> Any:
    """A whole training, its validations and checkpoints included."""
    result = stock_run(loop)
    note(THE_END)
    return result


EpochBasedTrainLoop.run, EpochBasedTrainLoop.run_iter = run, run_iter  # a trial imports modules and calls nothing
