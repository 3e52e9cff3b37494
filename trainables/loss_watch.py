"""Ends a trial whose loss is no number any more, or grows without end: the rest would be paid for nothing."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from segdata.errors import TrialError

__all__ = ["LossWatchHook"]

WINDOW = 10  # batches: reading a loss makes a GPU wait, so that they are read together
BORNE_IN_FP16 = 20  # losses in a row: the scaler passes over such steps and lowers its factor
DIVERGED = 100.0  # times the lowest mean of a window
LEAST = 0.1  # of the first window's mean: near zero, a hundredfold is still little


class LossWatchHook(Hook):
    """Reads the loss of every training batch.

    The trial has diverged when the mean of ten losses exceeds a hundred times the lowest such mean before, where
    nothing counts as lower than a tenth of the first.

    Args:
        precision: As the knob.
    """

    def __init__(self, precision: str | None) -> None:
        self.borne = BORNE_IN_FP16 if precision == "fp16" else 0
        self.recent: list[torch.Tensor] = []
        self.in_a_row = 0
        self.first: float | None = None
        self.lowest = math.inf

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Called after each batch."""
        if outputs is not None and "loss" in outputs:
            self.recent.append(torch.as_tensor(outputs["loss"]).detach())
        if len(self.recent) == WINDOW:
            self.read(runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Called before the epoch is validated."""
        if self.recent:
            self.read(runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Called with what is about to be written."""
        checkpoint["loss_watch"] = {"first": self.first, "lowest": self.lowest, "in_a_row": self.in_a_row}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Called with what was read."""
        known = checkpoint.get("loss_watch")
        if known is not None:
            self.first, self.lowest, self.in_a_row = known["first"], known["lowest"], known["in_a_row"]

    def read(self, step: int) -> None:
        """Judges the losses since the last reading; `step` counts batches up to the last of them."""
        losses = torch.stack(self.recent).double().tolist()
        start, self.recent = step - len(losses) + 1, []
        for number, loss in enumerate(losses, start=start):
            self.in_a_row = 0 if math.isfinite(loss) else self.in_a_row + 1
            if self.in_a_row > self.borne:
                raise diverged(f"it was {loss}", number - self.in_a_row + 1)
        known = [loss for loss in losses if math.isfinite(loss)]
        if len(known) == WINDOW:
            self.compare(sum(known) / WINDOW, step)

    def compare(self, mean: float, step: int) -> None:
        """Compares the mean of a window with those before."""
        self.first = mean if self.first is None else self.first
        floor = max(self.lowest, LEAST * self.first)
        if self.lowest < math.inf and mean > DIVERGED * floor > 0:
            raise diverged(f"its mean over {WINDOW} batches rose from {self.lowest:.4g} to {mean:.4g}", step)
        self.lowest = min(self.lowest, mean)


def diverged(found: str, step: int) -> TrialError:
    """Returns the error."""
    return TrialError.of(
        f"expected the training loss to stay finite and to fall, but {found}",
        where=f"batch {step} of the training",
        cure="Lower the range of lr, add warm_up or gradient_clip",
    )
