"""Each preset's baseline and three random samples can be configured, and train a step in a size for a CPU."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search_spaces.conditions import worlds
from search_spaces.knobs import KNOBS
from search_spaces.models import MODELS
from search_spaces.preset import PRESETS, read_preset
from search_spaces.preset_merge import preset_space
from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError
from trainables.config import DEFAULT_BATCH_SIZE, build_config
from trainables.description import DataDescription
from trainables.fork_server import Ended
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles
from trainables.weights_plan import initial_parts

SAMPLES = 3
AT_A_TIME = 2
CROP_PX = 64


def trials_of(name: str) -> list[TrialConfig]:
    """Returns the baseline of a preset and three samples, all of models that train on a CPU."""
    space = preset_space(read_preset(name))
    generator = np.random.default_rng(7)
    trials = [space.decode(space.baseline())]
    while len(trials) <= SAMPLES:
        trial = space.decode(space.sample(generator))
        if not MODELS[trial.model.name].needs_gpu:
            trials.append(trial)
    return trials


def shrunk(trial: TrialConfig, data: DataDescription) -> TrialConfig:
    """Returns the trial at 64 px, from scratch, for one step, and as narrow as its encoder can be made."""
    schedule = replace(trial.schedule, validation_interval=1)
    if trial.schedule.max_iters is None:
        schedule = replace(schedule, epochs=1)
    else:
        schedule = replace(schedule, max_iters=1, validation_iters=1)
    model = replace(trial.model, init="none", head_width=0.125)
    small = replace(
        trial,
        model=model,
        schedule=schedule,
        input=replace(trial.input, image_width=CROP_PX, image_height=CROP_PX, crop_size=None),
        optimization=replace(trial.optimization, batch_size=2),
    )
    narrow = replace(small, model=replace(model, width=0.25))
    try:
        build_config(narrow, data, seed=0)
    except InputError:  # its encoder has one width only
        return small
    return narrow


def data_of(name: str, one_step: dict[str, DataDescription]) -> DataDescription:
    return one_step[read_preset(name).task]


@pytest.mark.parametrize("name", PRESETS)
def test_the_baseline_and_samples_of_a_preset_can_be_configured(
    name: str, one_step: dict[str, DataDescription]
) -> None:
    data = data_of(name, one_step)
    for trial in trials_of(name):
        config = build_config(trial, data, seed=0)
        assert config["train_dataloader"]["batch_size"] == (
            trial.optimization.batch_size or DEFAULT_BATCH_SIZE[data.task]
        )
        small = shrunk(trial, data)
        assert small.model.name == trial.model.name and small.augmentation == trial.augmentation


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_the_baseline_and_samples_of_a_preset_train_a_step(
    name: str, one_step: dict[str, DataDescription], run_job: Callable[..., Ended], tmp_path: Path
) -> None:
    data = data_of(name, one_step)
    metric = "segm_mAP" if data.task == "instance" else "mIoU"

    def train(number: int, trial: TrialConfig) -> tuple[Ended, TrialFiles]:
        files = TrialFiles(tmp_path / str(number))
        request = TrialRequest(shrunk(trial, data), data, files.directory, metric, "max", seed=7)
        return run_job("trainables.trial:train", request, files.log), files

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = list(pool.map(train, range(SAMPLES + 1), trials_of(name)))
    for ended, files in outcomes:
        assert ended == Ended("done"), f"{ended.reason}\n{files.log.read_text()[-3000:]}"
        (row,) = files.read_history()
        assert math.isfinite(row.scores["train_loss"])


@pytest.mark.parametrize("name", PRESETS)
def test_initial_weights_are_published_for_all_that_a_preset_combines(name: str) -> None:
    """A model without such weights on its encoder would end the sweep before it starts."""
    space, missing = preset_space(read_preset(name)), []
    for world in worlds(space.parameters, ("model", "backbone", "init"), space.fixed):
        trial = TrialConfig()
        for knob in {"model", "backbone", "init"} & set(world):
            trial = trial.with_value(KNOBS[knob].field, world[knob])
        try:
            initial_parts(trial.model, space.task)
        except InputError as error:
            missing.append(str(error))
    assert not missing, "\n".join(missing)
