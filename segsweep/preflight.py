"""What is checked before Ray starts and money is spent: every network of the space can be configured for this data.

Imports trainables' config (mmengine, no network is built).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from search_spaces.landing import get_path, landings
from search_spaces.space import Space
from search_spaces.trial_config import Scalar, TrialConfig
from segdata.errors import InputError
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.weights import require_weights

__all__ = ["check_configs", "fitted_values", "longest_plan"]

SAMPLES = 64  # draws that look for further networks and branches beyond the baseline

FITTED = ("detections_per_image", "anchor_scale")  # by trainables.fitting


def check_configs(space: Space, data: DataDescription, folder: Path) -> None:
    """Builds the config of the baseline and of one sample of every (model, backbone, optimizer) that draws find.

    Raises:
        InputError: A value of the space cannot land in a model's config, or initial weights are out of reach.
    """
    for trial in distinct_trials(space):
        refuse_missing_weights(trial, folder)
        require_weights(build_config(trial, data, seed=0))


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


def refuse_missing_weights(trial: TrialConfig, folder: Path) -> None:
    """`init` must be `none`, `imagenet` (fetched by MMEngine's downloader, once a node) or a file that is there."""
    init = trial.model.init
    if init in ("none", "imagenet") or (folder / init).is_file():
        return
    raise InputError.of(
        f"expected none, imagenet or an existing checkpoint, but got {init!r}",
        where="init",
        cure="Check the path; relative ones start at the sweep file's folder.",
    )


def longest_plan(space: Space) -> int:
    """Returns the largest number of epochs that a trial of the space may plan."""
    searched = [parameter for parameter in space.parameters if parameter.knob == "epochs"]
    plans = [int(edge) for parameter in searched for edge in parameter.domain.edges()]
    if all(parameter.when for parameter in searched):  # there may be trials in which no case applies
        plans.append(int(space.fixed.get("epochs", TrialConfig().schedule.epochs)))
    return max(plans)
