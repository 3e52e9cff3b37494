"""What a training process does after each validation: write history and checkpoints, report, wait for the word.

Order matters for a kill at any point: history first, then `last.pth`; an epoch lost in between is trained again.
"""

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from segdata.errors import TrialError
from trainables.costs import CostHook, validated_model
from trainables.data_parallel import mean_of_all
from trainables.trial_files import EpochScores, TrialFiles

__all__ = ["BestBy", "MeanLossHook", "ReportHook"]

Mode = Literal["max", "min"]
BestBy = Literal["score", "loss", "last"]


class MeanLossHook(Hook):
    """Takes the mean training loss since the last validation, over all processes of the trial.

    Attributes:
        mean: As of the validation that goes on; None where nothing was trained before it.
    """

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []
        self.mean: float | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """Called after each batch."""
        if outputs is not None and "loss" in outputs:
            self.losses.append(torch.as_tensor(outputs["loss"]).detach())  # a number would make a GPU wait

    def before_val_epoch(self, runner: Runner) -> None:
        """Called before each validation."""
        self.mean = float(mean_of_all(torch.stack(self.losses).double().mean())) if self.losses else None
        self.losses = []


class ReportHook(Hook):
    """Records every validation of a trial.

    Args:
        files: The trial's directory.
        metric: Name of the score that decides which epoch is best.
        mode: Direction of `metric`.
        losses: Knows the training loss.
        costs: Knows what the network costs.
        report: Called with the epoch's scores once they are on disk; returns when training may go on.
        best_by: What makes an epoch the best: its score; the lowest training loss, of those that have a score; or that
            it is the last one so far.
        kept: Epochs whose weights are kept as well.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        files: TrialFiles,
        metric: str,
        mode: Mode,
        losses: MeanLossHook,
        costs: CostHook,
        report: Callable[[EpochScores], None],
        *,
        best_by: BestBy = "score",
        kept: Collection[int] = (),
    ) -> None:
        self.files, self.metric, self.mode, self.report = files, metric, mode, report
        self.losses, self.costs, self.best_by = losses, costs, best_by
        self.kept = frozenset(kept)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Called when all scores of an epoch are known."""
        scores = {name: float(value) for name, value in (metrics or {}).items()}
        if self.metric not in scores:
            raise TrialError(f"expected the score {self.metric!r}, but validation gave {', '.join(sorted(scores))}")
        past = [row for row in self.files.read_history() if row.epoch < runner.epoch]
        scores |= self.training_scores(runner) | self.costs.measure(runner, past)
        row = EpochScores(runner.epoch, scores)
        if self.is_best(scores, [earlier.scores for earlier in past]):
            save_weights(runner, self.files.best, row)
        if row.epoch in self.kept:
            self.files.epochs.mkdir(exist_ok=True)
            save_weights(runner, self.files.epoch_weights(row.epoch), row)
        self.files.append_history(row)
        save_state(runner, self.files.last)
        self.report(row)

    def training_scores(self, runner: Runner) -> dict[str, float]:
        """Returns the mean training loss since the last validation and the last learning rate, where there are any."""
        logged = runner.message_hub.log_scalars
        scores: dict[str, float] = {}
        if "train/lr" in logged:  # of one group of several; base_lr, where there is one, is the trial's own
            scores["lr"] = float(logged["train/base_lr" if "train/base_lr" in logged else "train/lr"].current())
        if self.losses.mean is not None:
            scores["train_loss"] = self.losses.mean
        return scores

    def is_best(self, scores: Mapping[str, float], earlier: list[Mapping[str, float]]) -> bool:
        """Tells whether an epoch with these scores beats all earlier ones."""
        if self.best_by == "last":
            return True
        if self.best_by == "score":
            return is_better(scores[self.metric], [past[self.metric] for past in earlier], self.mode)
        return is_better(self.judged(scores), [self.judged(past) for past in earlier], "min")

    def judged(self, scores: Mapping[str, float]) -> float:
        """Returns the training loss of an epoch; NaN, which never is best, if its score is."""
        return math.nan if math.isnan(scores[self.metric]) else scores.get("train_loss", math.nan)


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
    model = validated_model(runner)
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
