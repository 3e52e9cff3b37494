"""The augmentation steps of a trial's training pipeline, as plain dicts in the order of the knobs' rows."""

from collections.abc import Sequence
from typing import Any

from search_spaces.augmentations import AUGMENTATION_STEPS, AUGMENTATION_STRENGTH, MIXING_STEPS, RARE_KNOBS
from search_spaces.knobs import KNOBS
from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError
from trainables.description import Task

__all__ = ["augmentation_steps", "needs_other_images"]

Nested = dict[str, Any]


def augmentation_steps(
    augmentation: Sequence[tuple[str, Scalar]], task: Task, class_frequencies: Sequence[float]
) -> list[Nested]:
    """Returns the steps between resizing and the stock flip.

    Args:
        augmentation: (knob, value) pairs of a trial.
        task: The data's; a step for the other task is refused.
        class_frequencies: How often each class occurs in the training data, in any unit; steps that favour rare
            classes draw a class by one over it.

    Raises:
        SpaceError: A step does not serve the task, or a knob has no effect without another that is not set.
    """
    values = dict(augmentation)
    for name in values:
        require_effect(name, values, task)
    steps: list[Nested] = []
    for name in AUGMENTATION_STEPS:
        if name not in values:
            continue
        if name in MIXING_STEPS:
            steps.append(mixing_step(name, values, class_frequencies))
        else:
            strength = values.get(AUGMENTATION_STRENGTH.name, 1.0)
            steps.append({"type": "Augment", "name": name, "prob": values[name], "strength": strength})
    return steps


def mixing_step(name: str, values: dict[str, Scalar], class_frequencies: Sequence[float]) -> Nested:
    step: Nested = {"type": "MixImages", "name": name, "prob": values[name]}
    if f"{name}_rare" in {knob.name for knob in RARE_KNOBS}:
        step |= {"rare": values.get(f"{name}_rare", 0.0), "class_frequencies": tuple(class_frequencies)}
    return step


def require_effect(name: str, values: dict[str, Scalar], task: Task) -> None:
    """Refuses a knob that would change nothing; for models with short names the space has done so."""
    knob = KNOBS[name]
    if task not in knob.tasks:
        raise SpaceError.of(
            f"expected augmentation for {task} data, but got {name}, which is for {' and '.join(knob.tasks)} data",
            where=f"space.{name}",
            cure=f"Drop {name}.",
        )
    if knob.beside and not set(knob.beside) & set(values):
        raise SpaceError.of(
            f"expected {' or '.join(knob.beside[:3])} beside {name}, but got none",
            where=f"space.{name}",
            cure=f"Add {knob.beside[0]}, or drop {name}.",
        )


def needs_other_images(steps: Sequence[Nested]) -> bool:
    """Says whether a step mixes several images, so that the data set must be wrapped."""
    return any(step["type"] == "MixImages" for step in steps)
