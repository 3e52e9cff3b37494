"""A loss that is no number, or grows without end, ends the trial at the batch where it happened."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from mmengine.runner import Runner

from segdata.errors import TrialError
from trainables.loss_watch import BORNE_IN_FP16, WINDOW, LossWatchHook


def feed(hook: LossWatchHook, losses: list[float], start: int = 0) -> None:
    """Hands losses to the hook as a Runner does, and ends the epoch after the last."""
    runner = SimpleNamespace(iter=start)
    for loss in losses:
        hook.after_train_iter(cast(Runner, runner), 0, None, {"loss": torch.tensor(loss)})
        runner.iter += 1
    hook.after_train_epoch(cast(Runner, runner))


@pytest.mark.parametrize(("bad", "step"), [(math.nan, 13), (math.inf, 13), (math.nan, 3)])
def test_a_loss_that_is_no_number_is_recorded_with_its_batch(bad: float, step: int) -> None:
    losses = [1.0] * 15
    losses[step - 1] = bad
    with pytest.raises(TrialError, match=rf"batch {step} of the training: .*it was {bad}. Lower the range of lr"):
        feed(LossWatchHook(None), losses)


def test_an_epoch_shorter_than_a_window_is_read_at_its_end() -> None:
    with pytest.raises(TrialError, match="batch 42 of the training"):
        feed(LossWatchHook(None), [1.0, math.nan, 1.0], start=40)


def test_fp16_bears_what_its_scaler_passes_over_but_not_for_ever() -> None:
    feed(LossWatchHook("fp16"), [1.0, *[math.inf] * BORNE_IN_FP16, 1.0])
    with pytest.raises(TrialError, match="batch 2 of the training"):
        feed(LossWatchHook("fp16"), [1.0, *[math.inf] * (BORNE_IN_FP16 + 1)])


def test_a_loss_that_rises_a_hundredfold_has_diverged() -> None:
    hook = LossWatchHook(None)
    feed(hook, [2.0] * WINDOW + [150.0] * WINDOW)
    with pytest.raises(TrialError, match=r"batch 30 of the training: .*rose from 2 to 201"):
        feed(hook, [201.0] * WINDOW, start=2 * WINDOW)


def test_a_rise_from_near_zero_is_borne() -> None:
    feed(LossWatchHook(None), [2.0] * WINDOW + [1e-6] * WINDOW + [3.0] * WINDOW)


def test_a_resumed_trial_knows_what_was_lowest() -> None:
    hook, resumed = LossWatchHook(None), LossWatchHook(None)
    feed(hook, [2.0] * WINDOW)
    checkpoint: dict[str, Any] = {}
    hook.before_save_checkpoint(cast(Runner, None), checkpoint)
    resumed.after_load_checkpoint(cast(Runner, None), checkpoint)
    with pytest.raises(TrialError, match="rose from 2 to 1000"):
        feed(resumed, [1000.0] * WINDOW)
