"""The knobs of how long a trial trains, in which shape its learning rate runs, and which epoch it keeps."""

from search_spaces.knob import Knob
from search_spaces.models import MODELS
from search_spaces.parameters import Choice, Float, Int
from search_spaces.trial_config import DEFAULT_EPOCHS

__all__ = ["EPOCHS", "SCHEDULE_KNOBS", "VALIDATION_INTERVAL"]

EPOCHS = Knob(
    name="epochs",
    domain=Int(1, 10_000),
    field="schedule.epochs",
    help="passes over the training images; the schedule's milestones are fractions of them",
    source="000: epochs 15 / 12 / 10 / 9 (fewer is better); 003: train longer",
    default=DEFAULT_EPOCHS,
    paths={"*": ("train_cfg.max_epochs",)},
    excludes=("max_iters",),
)
VALIDATION_INTERVAL = Knob(
    name="validation_interval",
    domain=Int(1, 10_000),
    field="schedule.validation_interval",
    help="epochs from one validation, report and checkpoint to the next; the last epoch always has one",
    source="003: checkpoint chosen from the metric log; small data sets have short epochs",
    default=1,
    paths={"*": ("train_cfg.val_interval",)},
    excludes=("max_iters",),
)
MAX_ITERS = Knob(
    name="max_iters",
    domain=Int(1, 10_000_000),
    field="schedule.max_iters",
    help="batches to train on, instead of `epochs`; reports and ASHA then count validations",
    source="003: 5000 iterations, then 9000",
    paths={"*": ("train_dataloader.sampler.max_iters",)},
    excludes=("epochs", "validation_interval"),
)
VALIDATION_ITERS = Knob(
    name="validation_iters",
    domain=Int(1, 10_000_000),
    field="schedule.validation_iters",
    help="batches from one validation, report and checkpoint to the next; a tenth of `max_iters` if not set",
    source="003: stop before the end (iteration 2099 was best)",
    paths={"*": ("train_dataloader.sampler.validation_iters",)},
    beside=("max_iters",),
)
SCHEDULE = Knob(
    name="schedule",
    domain=Choice(("step", "cosine", "poly", "one-cycle", "plateau", "constant")),
    field="schedule.shape",
    help="shape of the learning rate after warm-up",
    source="002: scheduler search; 003: steps; 004: LR schedules",
    default_by={
        "model": {model.name: {"instance": "step", "semantic": "poly"}[model.task] for model in MODELS.values()},
    },
)
WARM_UP = Knob(
    name="warm_up",
    domain=Float(0.0, 0.9),
    field="schedule.warm_up",
    help="share of the plan in which the learning rate rises; stock: 500 batches, a tenth at most (one-cycle: 0.3)",
    source="MMDetection: schedule_1x",
)
STEP_1 = Knob(
    name="step_1",
    domain=Float(0.0, 1.0),
    field="schedule.step_1",
    help="share of the plan after which the learning rate falls; 1 = never",
    source="003: steps (3000, 3500, 4500) of 5000, [6000, 8000] of 9000",
    default=2 / 3,
    needs={"schedule": ("step",)},
    at_most="step_2",
)
STEP_2 = Knob(
    name="step_2",
    domain=Float(0.0, 1.0),
    field="schedule.step_2",
    help="share of the plan after which the learning rate falls again; 1 = never",
    source="003: steps (3000, 3500, 4500) of 5000, [6000, 8000] of 9000",
    default=11 / 12,
    needs={"schedule": ("step",)},
    at_most="step_3",
)
STEP_3 = Knob(
    name="step_3",
    domain=Float(0.0, 1.0),
    field="schedule.step_3",
    help="share of the plan after which the learning rate falls a third time; 1 = never",
    source="003: steps (3000, 3500, 4500) of 5000",
    default=1.0,
    needs={"schedule": ("step",)},
)
STEP_GAMMA = Knob(
    name="step_gamma",
    domain=Float(0.001, 0.99),
    field="schedule.step_gamma",
    help="factor on the learning rate at each step, or on each plateau",
    source="003: step the LR; 004: LR schedules",
    default=0.1,
    needs={"schedule": ("step", "plateau")},
)
POLY_POWER = Knob(
    name="poly_power",
    domain=Float(0.1, 10.0),
    field="schedule.poly_power",
    help="power of the share of the plan that is left; 1 = a straight line",
    source="MMSegmentation: schedule_80k",
    default=0.9,
    needs={"schedule": ("poly",)},
)
FINAL_LR_FACTOR = Knob(
    name="final_lr_factor",
    domain=Float(0.0, 1.0),
    field="schedule.final_lr_factor",
    help="learning rate at the end of the plan, as a share of `lr`",
    source="004: LR schedules",
    default=0.0,
    default_by={"schedule": {"one-cycle": 4e-6}},
    needs={"schedule": ("cosine", "poly", "one-cycle")},
)
PLATEAU_PATIENCE = Knob(
    name="plateau_patience",
    domain=Int(0, 1000),
    field="schedule.plateau_patience",
    help="validations without a better score that are borne before the learning rate falls",
    source="004: LR schedules",
    default=2,
    paths={"*": ("param_scheduler[type=ReduceOnPlateauLR].patience",)},
    needs={"schedule": ("plateau",)},
)
BEST_BY = Knob(
    name="best_by",
    domain=Choice(("score", "loss")),
    field="schedule.best_by",
    help="which epoch's weights are kept: best validation score, or lowest mean training loss between validations",
    source="003: checkpoint chosen from the metric log (total loss); 004: best checkpoint by mIoU, not by loss",
    default="score",
)

SCHEDULE_KNOBS = (
    EPOCHS,
    VALIDATION_INTERVAL,
    MAX_ITERS,
    VALIDATION_ITERS,
    SCHEDULE,
    WARM_UP,
    STEP_1,
    STEP_2,
    STEP_3,
    STEP_GAMMA,
    POLY_POWER,
    FINAL_LR_FACTOR,
    PLATEAU_PATIENCE,
    BEST_BY,
)
