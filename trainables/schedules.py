"""Training loops and learning-rate schedule of a trial's config. Pure functions; imports search_spaces.

A plan is counted in epochs, or in iterations that are cut into "epochs" of the distance between two validations, so
that resume, pruning and history are the same for both.
"""

from typing import Any, Literal

from search_spaces.knobs import KNOBS
from search_spaces.trial_config import ScheduleChoice
from trainables.description import Task

__all__ = ["Mode", "put_iterations", "schedule_config"]

Nested = dict[str, Any]
Mode = Literal["max", "min"]

WARM_UP_ITERS = 500  # the zoo's warm-up; at most a tenth of a short training
ONE_CYCLE_RISE = 0.3  # share of the plan (Smith and Topin, arXiv 1708.07120; torch's OneCycleLR)
STEP_FRACTIONS = (2 / 3, 11 / 12)  # the zoo's 1x schedule: epochs 8 and 11 of 12
STOCK_SHAPE: dict[Task, str] = {"instance": "step", "semantic": "poly"}
STOCK_METRIC: dict[Task, str] = {"instance": "segm_mAP", "semantic": "mIoU"}


def put_iterations(loader: Nested, schedule: ScheduleChoice) -> None:
    """Gives the training loader of a plan in iterations the sampler that counts them; else changes nothing."""
    if schedule.max_iters is not None:
        loader["sampler"] = {
            "type": "StepSampler",
            "batch_size": loader["batch_size"],
            "max_iters": schedule.max_iters,
            "validation_iters": schedule.iterations_an_epoch,
        }


def schedule_config(
    task: Task, schedule: ScheduleChoice, iterations_an_epoch: int, metric: str | None = None, mode: Mode = "max"
) -> Nested:
    """Returns loops and learning-rate schedule: warm-up, then the chosen shape over the rest of the plan.

    Args:
        task: Decides the stock shape: steps for instance, a polynomial for semantic models.
        schedule: What was chosen.
        iterations_an_epoch: Batches of training images; not used by a plan in iterations.
        metric: The score that a plateau watches; None = the task's usual one.
        mode: Its direction.
    """
    epochs = schedule.planned_epochs
    total = epochs * iterations_an_epoch if schedule.max_iters is None else schedule.max_iters
    shape = schedule.shape or STOCK_SHAPE[task]
    if shape == "one-cycle":
        schedulers = [one_cycle(schedule, total)]
    else:
        rising = warm_up(schedule, total)
        begin = rising[0]["end"] if rising else 0
        schedulers = [*rising, *after_warm_up(shape, schedule, begin, total, metric or STOCK_METRIC[task], mode)]
    return {
        "train_cfg": {
            "type": "EpochBasedTrainLoop",
            "max_epochs": epochs,
            "val_interval": schedule.validation_interval or 1,
        },
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "param_scheduler": schedulers,
    }


def warm_up(schedule: ScheduleChoice, total: int) -> list[Nested]:
    """Returns the rise from a hundredth of the learning rate: over the chosen share, else 500 iterations or a tenth."""
    end = min(WARM_UP_ITERS, total // 10) if schedule.warm_up is None else round(schedule.warm_up * total)
    if end < 2:  # MMEngine's LinearLR never leaves its start value in a single iteration
        return []
    return [{"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": end}]


def after_warm_up(
    shape: str, schedule: ScheduleChoice, begin: int, total: int, metric: str, mode: Mode
) -> list[Nested]:
    """Returns what follows the warm-up, which ends at the iteration `begin`."""
    if shape == "step":
        return [steps(schedule, total)]
    if shape == "poly":
        return [polynomial(schedule, begin, total)] if begin < total else []
    if shape == "cosine":
        return [cosine(schedule, begin, total)] if begin < total else []
    if shape == "plateau":
        return [plateau(schedule, metric, mode)]
    return []


def steps(schedule: ScheduleChoice, total: int) -> Nested:
    """Returns a learning rate that falls at the zoo's epochs, or at the chosen shares of all iterations."""
    gamma = schedule.step_gamma or KNOBS["step_gamma"].default
    chosen = (schedule.step_1, schedule.step_2, schedule.step_3)
    if all(share is None for share in chosen) and schedule.max_iters is None:
        epochs = schedule.planned_epochs
        milestones = sorted({max(1, round(epochs * fraction)) for fraction in STEP_FRACTIONS})
        end, by_epoch = epochs, True
    else:
        shares = [
            stock if share is None else share for share, stock in zip(chosen, (*STEP_FRACTIONS, 1.0), strict=True)
        ]
        milestones = sorted(round(total * share) for share in shares if share < 1.0)
        end, by_epoch = total, False
    return {
        "type": "MultiStepLR",
        "begin": 0,
        "end": end,
        "by_epoch": by_epoch,
        "milestones": milestones,
        "gamma": gamma,
    }


def polynomial(schedule: ScheduleChoice, begin: int, end: int) -> Nested:
    """Returns a learning rate that falls to zero, or to a share of itself, between two iterations."""
    power = schedule.poly_power or KNOBS["poly_power"].default
    if schedule.final_lr_factor:  # PolyLR's floor is one number for all parts, whatever their own learning rate
        shape: Nested = {"type": "PolyShareLR", "final_factor": schedule.final_lr_factor}
    else:
        shape = {"type": "PolyLR", "eta_min": 0.0}
    return shape | {"power": power, "begin": begin, "end": end, "by_epoch": False}


def cosine(schedule: ScheduleChoice, begin: int, end: int) -> Nested:
    """Returns a learning rate that falls along half a cosine between two iterations."""
    return {
        "type": "CosineAnnealingLR",
        "T_max": max(1, end - begin - 1),
        "eta_min_ratio": schedule.final_lr_factor or 0.0,
        "begin": begin,
        "end": end,
        "by_epoch": False,
    }


def one_cycle(schedule: ScheduleChoice, total: int) -> Nested:
    """Returns a learning rate that rises from 1/25 and falls to almost nothing, each along half a cosine."""
    final = schedule.final_lr_factor
    return {
        "type": "OneCycleShareLR",
        "rise": ONE_CYCLE_RISE if schedule.warm_up is None else schedule.warm_up,
        "final_factor": KNOBS["final_lr_factor"].default_for({"schedule": "one-cycle"}) if final is None else final,
        "begin": 0,
        "end": total,
        "by_epoch": False,
    }


def plateau(schedule: ScheduleChoice, metric: str, mode: Mode) -> Nested:
    """Returns a learning rate that falls when the score of the validations has stopped getting better."""
    patience = schedule.plateau_patience
    return {
        "type": "ReduceOnPlateauLR",
        "monitor": metric,
        "rule": {"max": "greater", "min": "less"}[mode],
        "factor": schedule.step_gamma or KNOBS["step_gamma"].default,
        "patience": KNOBS["plateau_patience"].default if patience is None else patience,
        "by_epoch": True,
    }
