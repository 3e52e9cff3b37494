"""Optimizer and learning-rate schedule of a trial's config. Pure functions; imports search_spaces."""

from typing import Any

from search_spaces.knobs import KNOBS
from search_spaces.models import MODELS
from search_spaces.trial_config import ScheduleChoice, TrialConfig
from trainables.description import Task

__all__ = ["optimizer_config", "schedule_config"]

Nested = dict[str, Any]

# Optimizer -> MMEngine type; its other stock values come from the knobs' rows.
OPTIMIZERS: dict[str, str] = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adadelta": "Adadelta"}
STOCK_SGD_BATCH = 16  # images a step behind the zoo's learning rates for SGD
WARM_UP_ITERS = 500  # the zoo's warm-up; at most a tenth of a short training
STEP_FRACTIONS = (2 / 3, 11 / 12)  # the zoo's 1x schedule: epochs 8 and 11 of 12
GRADIENT_LIMIT = {"max_norm": 35.0, "norm_type": 2}  # keeps training from scratch from running away


def optimizer_config(trial: TrialConfig, batch_size: int, zoo: Nested) -> Nested:
    """Returns `optim_wrapper`: the chosen optimizer, else the model's own; chosen values land by the knob rows.

    Args:
        trial: What was chosen.
        batch_size: Images a step; SGD's stock learning rate is scaled to it (Goyal et al. 2017, arXiv 1706.02677).
        zoo: The zoo's whole config, whose optimizer a model keeps that has no short name.
    """
    chosen, model = trial.optimization.optimizer, trial.model.name
    if chosen is None and model not in MODELS:
        return zoo_optimizer(zoo, batch_size)
    name = str(chosen or KNOBS["optimizer"].default_for({"model": model}))
    lr = KNOBS["lr"].default_for({"optimizer": chosen} if chosen else {"model": model})
    assert isinstance(lr, float), f"no stock learning rate for {name}"
    optimizer: Nested = {
        "type": OPTIMIZERS[name],
        "lr": lr * batch_size / STOCK_SGD_BATCH if name == "sgd" else lr,
        "weight_decay": KNOBS["weight_decay"].default_for({"optimizer": name}),
    }
    if name == "sgd":
        optimizer["momentum"] = KNOBS["momentum"].default
    return {"type": "OptimWrapper", "optimizer": optimizer, "clip_grad": dict(GRADIENT_LIMIT)}


def zoo_optimizer(zoo: Nested, batch_size: int) -> Nested:
    """Returns a zoo config's own optimizer in full precision, SGD's learning rate scaled to the batch."""
    wrapper = {"clip_grad": dict(GRADIENT_LIMIT)} | dict(zoo["optim_wrapper"]) | {"type": "OptimWrapper"}
    for of_mixed_precision in ("loss_scale", "dtype", "use_fsdp"):
        wrapper.pop(of_mixed_precision, None)
    if wrapper["optimizer"]["type"] == "SGD":
        stock_batch = zoo.get("auto_scale_lr", {}).get("base_batch_size", STOCK_SGD_BATCH)
        wrapper["optimizer"] = wrapper["optimizer"] | {"lr": wrapper["optimizer"]["lr"] * batch_size / stock_batch}
    return wrapper


def schedule_config(task: Task, schedule: ScheduleChoice, iterations_an_epoch: int) -> Nested:
    """Returns loops and LR schedule: warm-up, then steps (instance) or a polynomial (semantic), over the whole plan."""
    epochs, total = schedule.epochs, schedule.epochs * iterations_an_epoch
    warm_up = min(WARM_UP_ITERS, total // 10)
    schedulers: list[Nested] = []
    if warm_up >= 2:  # MMEngine's LinearLR never leaves its start value in a single iteration
        schedulers.append({"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": warm_up})
    else:
        warm_up = 0
    schedulers.append(steps(epochs) if task == "instance" else polynomial(warm_up, total))
    return {
        "train_cfg": {
            "type": "EpochBasedTrainLoop",
            "max_epochs": epochs,
            "val_interval": schedule.validation_interval,
        },
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "param_scheduler": schedulers,
    }


def steps(epochs: int) -> Nested:
    """Returns a learning rate divided by 10 twice, at the zoo's fractions of the plan."""
    milestones = sorted({max(1, round(epochs * fraction)) for fraction in STEP_FRACTIONS})
    return {
        "type": "MultiStepLR",
        "begin": 0,
        "end": epochs,
        "by_epoch": True,
        "milestones": milestones,
        "gamma": 0.1,
    }


def polynomial(begin: int, end: int) -> Nested:
    """Returns a learning rate that falls to zero between two iterations."""
    return {"type": "PolyLR", "eta_min": 0.0, "power": 0.9, "begin": begin, "end": end, "by_epoch": False}
