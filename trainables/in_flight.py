"""Values that change between two stretches of one training: what the config says holds, whatever the state says.

Imports mmengine.
"""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

__all__ = ["ConfiguredRatesHook", "LegHook"]

Nested = dict[str, Any]

LEARNING_RATES = {"base_values", "_last_value"}  # of each group, in the state of a schedule


class ConfiguredRatesHook(Hook):
    """Puts the configured learning rate and weight decay into a state before it is loaded.

    The state has those that it was trained with, group by group, in optimizer and schedules. Where they are the
    configured ones, nothing changes. A learning rate keeps its place in the schedule: all that is derived from it
    changes by the same factor. So from then on it is what it would be had the trial begun with it.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: Nested) -> None:
        """Called with a state that is about to be loaded, when optimizer and schedules are built as configured."""
        if "optimizer" not in checkpoint:  # weights to start from
            return
        loaded = groups_of(checkpoint["optimizer"])
        configured = runner.optim_wrapper.param_groups
        assert len(loaded) == len(configured), "a state is taken over by the same network only"
        factors = [factor_between(old, own) for old, own in zip(loaded, configured, strict=True)]
        for own, old, factor in zip(configured, loaded, factors, strict=True):
            old["weight_decay"] = own["weight_decay"]
            if factor != 1.0:
                old["lr"] *= factor
                if "initial_lr" in old:
                    old["initial_lr"] = own["initial_lr"]
        for schedule in checkpoint.get("param_schedulers", ()):
            if schedule["param_name"] == "lr":
                for name in LEARNING_RATES & schedule.keys():
                    pairs = zip(schedule[name], factors, strict=True)
                    schedule[name] = [value * factor for value, factor in pairs]


def groups_of(optimizer: Nested) -> list[Nested]:
    """Returns the parameter groups of an optimizer's state, and the one that MMEngine adds to tell its settings."""
    settings = optimizer.get("base_param_settings")
    return [*optimizer["param_groups"], *([] if settings is None else [settings])]


def factor_between(old: Nested, new: Nested) -> float:
    """Returns what takes one group's learning rate, before any schedule, to the other's."""
    was, will = (float(group["initial_lr" if "initial_lr" in group else "lr"]) for group in (old, new))
    return 1.0 if was == will else will / was


class LegHook(Hook):
    """Ends training after the first validation at or past an epoch; at once, if the state is that far already."""

    def __init__(self, until: int) -> None:
        self.until = until

    def before_train(self, runner: Runner) -> None:
        """Called before the first epoch."""
        self.stop_if_due(runner)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Called after each validation."""
        self.stop_if_due(runner)

    def stop_if_due(self, runner: Runner) -> None:
        """Tells the loop to end if the leg is over."""
        if runner.epoch >= self.until:
            runner.train_loop.stop_training = True
