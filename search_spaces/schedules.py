"""The knobs of how long a trial trains."""

from search_spaces.knob import Knob
from search_spaces.parameters import Int

__all__ = ["EPOCHS", "SCHEDULE_KNOBS", "VALIDATION_INTERVAL"]

EPOCHS = Knob(
    name="epochs",
    domain=Int(1, 10_000),
    field="schedule.epochs",
    help="passes over the training images; the schedule's milestones are fractions of them",
    source="000: epochs 15 / 12 / 10 / 9 (fewer is better); 003: train longer",
    default=12,
    paths={"*": ("train_cfg.max_epochs",)},
)

VALIDATION_INTERVAL = Knob(
    name="validation_interval",
    domain=Int(1, 10_000),
    field="schedule.validation_interval",
    help="epochs from one validation, report and checkpoint to the next; the last epoch always has one",
    source="003: checkpoint chosen from the metric log; small data sets have short epochs",
    default=1,
    paths={"*": ("train_cfg.val_interval",)},
)

SCHEDULE_KNOBS = (EPOCHS, VALIDATION_INTERVAL)
