"""Optimizer and learning-rate schedule of a trial's config. Pure functions; imports search_spaces' TrialConfig."""

from typing import Any

from search_spaces.trial_config import OptimizationChoice
from trainables.description import Task

__all__ = ["DEFAULT_LR", "optimizer_config", "schedule_config"]

Nested = dict[str, Any]

# Optimizer -> (MMEngine type, its other defaults, learning rate where none was chosen).
OPTIMIZERS: dict[str, tuple[str, Nested]] = {
    "sgd": ("SGD", {"momentum": 0.9, "weight_decay": 1e-4}),
    "adam": ("Adam", {"weight_decay": 0.0}),
    "adamw": ("AdamW", {"weight_decay": 0.05}),
    "adadelta": ("Adadelta", {"weight_decay": 0.0}),
}
DEFAULT_LR: dict[str, float] = {"sgd": 0.02, "adam": 1e-4, "adamw": 1e-4, "adadelta": 1.0}
STOCK_SGD_BATCH = 16  # images a step behind the zoo's learning rate of 0.02
WARM_UP_ITERS = 500  # the zoo's warm-up; at most a tenth of a short training
STEP_FRACTIONS = (2 / 3, 11 / 12)  # the zoo's 1x schedule: epochs 8 and 11 of 12
GRADIENT_NORM_LIMIT = 35.0  # keeps training from scratch from running away


def optimizer_config(choice: OptimizationChoice, batch_size: int) -> Nested:
    """Returns `optim_wrapper`: the chosen optimizer with its defaults; chosen values land by the knob rows."""
    name = choice.optimizer or "sgd"
    kind, defaults = OPTIMIZERS[name]
    lr = DEFAULT_LR[name] * (batch_size / STOCK_SGD_BATCH if name == "sgd" else 1.0)
    return {
        "type": "OptimWrapper",
        "optimizer": {"type": kind, "lr": lr, **defaults},
        "clip_grad": {"max_norm": GRADIENT_NORM_LIMIT, "norm_type": 2},
    }


def schedule_config(task: Task, epochs: int, iterations_an_epoch: int, validation_interval: int) -> Nested:
    """Returns loops and LR schedule: warm-up, then steps (instance) or a polynomial (semantic), over the whole plan."""
    total = epochs * iterations_an_epoch
    warm_up = min(WARM_UP_ITERS, total // 10)
    schedulers: list[Nested] = []
    if warm_up >= 2:  # MMEngine's LinearLR never leaves its start value in a single iteration
        schedulers.append({"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": warm_up})
    if task == "instance":
        milestones = sorted({max(1, round(epochs * fraction)) for fraction in STEP_FRACTIONS})
        schedulers.append(
            {
                "type": "MultiStepLR",
                "begin": 0,
                "end": epochs,
                "by_epoch": True,
                "milestones": milestones,
                "gamma": 0.1,
            }
        )
    else:
        schedulers.append(
            {"type": "PolyLR", "eta_min": 0.0, "power": 0.9, "begin": warm_up, "end": total, "by_epoch": False}
        )
    return {
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": epochs, "val_interval": validation_interval},
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "param_scheduler": schedulers,
    }
