"""What is checked before Ray starts and money is spent: every network of the space can be configured for this data.

Imports trainables' config (mmengine, no network is built).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from search_spaces.landing import get_path, landings
from search_spaces.parameters import Choice
from search_spaces.space import Space
from search_spaces.trial_config import Scalar, ScheduleChoice, TrialConfig
from segdata.errors import InputError
from trainables.config import build_config
from trainables.description import DataDescription, Task
from trainables.devices import needs_gpu, refuse_on_cpu

__all__ = ["check_configs", "check_devices", "fitted_values", "longest_plan"]

SAMPLES = 64  # draws that look for further networks and branches beyond the baseline

FITTED = ("detections_per_image", "anchor_scale")  # by trainables.fitting


def check_configs(space: Space, data: DataDescription) -> None:
    """Builds the config of the baseline and of one sample of every (model, backbone, optimizer) that draws find.

    Raises:
        InputError: A value of the space cannot land in a model's config.
    """
    for trial in distinct_trials(space):
        build_config(trial, data, seed=0)


def check_devices(space: Space, task: Task, gpu: float, by_model: Mapping[str, float] | None = None) -> None:
    """Refuses models and precisions that train on a GPU only, where a trial gets `gpu` (a share, or 0) of one.

    Args:
        space: What is searched.
        task: The sweep's.
        gpu: Of a trial.
        by_model: Of trials of some models instead.

    Raises:
        InputError: A trial gets none, and the space holds such a model or precision.
    """
    models = options_of(space, "model")
    without = [name for name in models if not (by_model or {}).get(name, gpu)]
    for name in without:
        if needs_gpu(name, task):
            raise refuse_on_cpu(name, "space.model")
    if (without or not (gpu or models)) and "fp16" in options_of(space, "precision"):
        raise InputError.of(
            "expected a GPU for precision fp16, but trials get none",
            where="space.precision",
            cure="Use bf16 or fp32, or run where a trial gets a GPU (`resources: {gpu: 1}`, --address).",
        )


def options_of(space: Space, knob: str) -> tuple[str, ...]:
    """Returns all that a knob of choices can be in a trial."""
    if knob in space.fixed:
        return (str(space.fixed[knob]),)
    searched = [parameter.domain for parameter in space.parameters if parameter.knob == knob]
    return tuple(str(option) for domain in searched if isinstance(domain, Choice) for option in domain.values)


def distinct_trials(space: Space) -> Iterator[TrialConfig]:
    """Yields the baseline, then one trial of each combination of structural choices that turns up."""
    generator = np.random.default_rng(0)
    seen = set()
    for sample in [space.baseline(), *(space.sample(generator) for _ in range(SAMPLES))]:
        trial = space.decode(sample)
        key = (trial.model.name, trial.model.backbone, trial.optimization.optimizer, trial.model.init)
        if key not in seen:
            seen.add(key)
            yield trial


def fitted_values(space: Space, data: DataDescription) -> dict[str, Scalar]:
    """Returns what the data set fits searched knobs to when nothing is said about them: knob -> value.

    They stand in for stock values in the untuned baseline, which would otherwise be weaker than no search at all.
    """
    searched = {parameter.knob for parameter in space.parameters} & set(FITTED)
    trial = space.decode(space.baseline())
    unsaid = replace(trial, thresholds=replace(trial.thresholds, **dict.fromkeys(searched)))
    if unsaid == trial:
        return {}
    config = build_config(unsaid, data, seed=0)
    places = {landing.knob: landing.path for landing in landings(trial, config) if landing.knob in searched}
    return {knob: get_path(config, path)[0] for knob, path in places.items()}


def longest_plan(space: Space) -> int:
    """Returns the largest number of epochs (of validations, where `max_iters` is set) that a trial may plan."""
    epochs, iterations, stretches = (values_of(space, name) for name in ("epochs", "max_iters", "validation_iters"))
    plans: list[ScheduleChoice] = []
    for count in iterations:
        if count is None:
            plans.extend(ScheduleChoice(epochs=known) for known in epochs)
        else:
            plans.extend(ScheduleChoice(max_iters=count, validation_iters=stretch) for stretch in stretches)
    return max(plan.planned_epochs for plan in plans)


def values_of(space: Space, knob: str) -> list[int | None]:
    """Returns the ends of all that a whole-numbered knob can be, and None if there may be trials that do not set it."""
    if knob in space.fixed:
        return [int(space.fixed[knob])]
    searched = [parameter for parameter in space.parameters if parameter.knob == knob]
    found: list[int | None] = [int(edge) for parameter in searched for edge in parameter.domain.edges()]
    return [*found, None] if all(parameter.when for parameter in searched) else found
