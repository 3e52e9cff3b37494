"""All knobs, name -> row, and which of them a model takes."""

from collections.abc import Mapping

from search_spaces.augmentations import AUGMENTATION_KNOBS
from search_spaces.inputs import INPUT_KNOBS
from search_spaces.iou_thresholds import IOU_THRESHOLD_KNOBS
from search_spaces.knob import Knob
from search_spaces.losses import LOSS_KNOBS
from search_spaces.models import MODEL_KNOBS, MODELS
from search_spaces.optimizers import OPTIMIZER_KNOBS
from search_spaces.schedules import SCHEDULE_KNOBS
from search_spaces.trial_config import Scalar

__all__ = ["KNOBS", "ORDERED_KNOBS", "THEMES", "knobs_of", "takes", "takes_value", "unordered"]

THEMES: dict[str, tuple[Knob, ...]] = {
    "model": MODEL_KNOBS,
    "input": INPUT_KNOBS,
    "optimizer": OPTIMIZER_KNOBS,
    "schedule": SCHEDULE_KNOBS,
    "loss": LOSS_KNOBS,
    "augmentation": AUGMENTATION_KNOBS,
    "IoU thresholds and limits": IOU_THRESHOLD_KNOBS,
}
"""Theme as a table heads it -> its knobs."""

KNOBS: dict[str, Knob] = {knob.name: knob for knobs in THEMES.values() for knob in knobs}

ORDERED_KNOBS = frozenset(name for knob in KNOBS.values() if knob.at_most for name in (knob.name, knob.at_most))


def takes(model: str, knob: Knob) -> bool:
    """Says whether `model` takes `knob`; a zoo config may take any that is not ours alone (its paths decide later)."""
    if model not in MODELS:
        return knob.zoo
    return MODELS[model].task in knob.tasks and (knob.models is None or model in knob.models)


def takes_value(model: str, knob: Knob, value: Scalar) -> bool:
    """Says whether `model`, which takes `knob`, can take this value of it."""
    if knob.name == "backbone" and model in MODELS:
        return MODELS[model].takes_backbone(str(value))
    return value in knob.values_by_model.get(model, (value,))


def knobs_of(model: str) -> tuple[Knob, ...]:
    """Returns the knobs that `model` takes, in the order of the table."""
    return tuple(knob for knob in KNOBS.values() if takes(model, knob))


def unordered(values: Mapping[str, Scalar]) -> dict[str, Scalar] | None:
    """Returns the two knobs of which the first exceeds the one that it must not exceed, or None.

    A knob of the pair that is not in `values` counts with its stock value.
    """
    for knob in KNOBS.values():
        if knob.at_most is None or not {knob.name, knob.at_most} & set(values):
            continue
        lower = values.get(knob.name, knob.default_for(values))
        upper = values.get(knob.at_most, KNOBS[knob.at_most].default_for(values))
        if isinstance(lower, int | float) and isinstance(upper, int | float) and lower > upper:
            return {knob.name: lower, knob.at_most: upper}
    return None
