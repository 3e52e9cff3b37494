"""What a training process does after each validation: write history and checkpoints, report, wait for the word.

Order matters for a kill at any point: history first, then `last.pth`; an epoch lost in between is trained again.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from segdata.errors import TrialError
from trainables.trial_files import EpochScores, TrialFiles

__all__ = ["ReportHook"]

Mode = Literal["max", "min"]


class ReportHook(Hook):
    """Records every validation of a trial.

    Args:
        files: The trial's directory.
        metric: Name of the score that decides which epoch is best.
        mode: Direction of `metric`.
        report: Called with the epoch's scores once they are on disk; returns when training may go on.
    """

    priority = "VERY_LOW"

    def __init__(self, files: TrialFiles, metric: str, mode: Mode, report: Callable[[EpochScores], None]) -> None:
        self.files, self.metric, self.mode, self.report = files, metric, mode, report

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Called when all scores of an epoch are known."""
        scores = {name: float(value) for name, value in (metrics or {}).items()}
        if self.metric not in scores:
            raise TrialError(f"expected the score {self.metric!r}, but validation gave {', '.join(sorted(scores))}")
        scores |= training_scores(runner)
        row = EpochScores(runner.epoch, scores)
        earlier = [past.scores[self.metric] for past in self.files.read_history() if past.epoch < row.epoch]
        if is_better(scores[self.metric], earlier, self.mode):
            save_weights(runner, self.files.best, row)
        self.files.append_history(row)
        save_state(runner, self.files.last)
        self.report(row)


def training_scores(runner: Runner) -> dict[str, float]:
    """Returns the last logged loss and learning rate, where there are any."""
    logged = runner.message_hub.log_scalars
    names = {"train/loss": "train_loss", "train/lr": "lr"}
    return {ours: float(logged[theirs].current()) for theirs, ours in names.items() if theirs in logged}


def is_better(score: float, earlier: list[float], mode: Mode) -> bool:
    """Tells whether `score` beats all earlier ones; NaN never does, save as the first (a trial has some best.pth)."""
    if not earlier:
        return True
    known = [past for past in earlier if not math.isnan(past)]
    if math.isnan(score) or not known:
        return not math.isnan(score)
    return score > max(known) if mode == "max" else score < min(known)


def save_weights(runner: Runner, path: Path, row: EpochScores) -> None:
    """Writes weights and plain metadata, loadable with `weights_only=True` and by the stock inferencers."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    metainfo = runner.train_dataloader.dataset.metainfo
    dataset_meta = {"classes": list(metainfo["classes"]), "palette": [list(rgb) for rgb in metainfo["palette"]]}
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    meta = {"dataset_meta": dataset_meta, "epoch": row.epoch, "scores": dict(row.scores)}
    partial = path.with_suffix(".tmp")
    torch.save({"meta": meta, "state_dict": state}, partial)
    partial.replace(path)


def save_state(runner: Runner, path: Path) -> None:
    """Writes what resume needs: weights, optimizer, schedule, counters."""
    partial = path.with_suffix(".tmp")
    # `runner.epoch` already counts the finished epoch here; MMEngine's default would add one more.
    meta = {"epoch": runner.epoch, "iter": runner.iter}
    runner.save_checkpoint(str(partial.parent), partial.name, meta=meta)
    partial.replace(path)
