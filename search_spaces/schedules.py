"""The knobs of how long a trial trains."""

from search_spaces.knob import Knob
from search_spaces.parameters import Int

__all__ = ["EPOCHS", "SCHEDULE_KNOBS"]

EPOCHS = Knob(
    name="epochs",
    domain=Int(1, 10_000),
    field="schedule.epochs",
    help="passes over the training images; the schedule's milestones are fractions of them",
    source="000: epochs 15 / 12 / 10 / 9 (fewer is better); 003: train longer",
    default=12,
    paths={"*": ("train_cfg.max_epochs",)},
)

SCHEDULE_KNOBS = (EPOCHS,)
