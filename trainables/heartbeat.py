"""Signs of life of a training process, so that whoever waits for it can tell slow from stuck. Imports mmengine."""

import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

__all__ = ["HeartbeatHook"]

EVERY_S = 1.0


class HeartbeatHook(Hook):
    """Sends ("alive", {"place": ...}) as batches of training and validation end, at most once a second.

    Args:
        connection: To the one who waits.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.last_s = 0.0

    def before_train(self, runner: Runner) -> None:
        """Called once everything is in place."""
        self.beat(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Called after each batch of training."""
        self.beat(runner)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Called after each batch of validation."""
        self.beat(runner)

    def beat(self, runner: Runner) -> None:
        """Sends unless it has just done so."""
        now_s = time.monotonic()
        if now_s - self.last_s >= EVERY_S:
            place = f"after batch {runner.iter} of the training, in epoch {runner.epoch + 1}"
            self.connection.send(("alive", {"place": place}))
            self.last_s = now_s
