"""Which further epochs of a trial keep their weights, and that they do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.trial_config import ScheduleChoice, TrialConfig
from trainables.description import DataDescription
from trainables.fork_server import start_child
from trainables.kept_epochs import epochs_to_keep
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

EVERY = ScheduleChoice(12)


@pytest.mark.parametrize(
    ("schedule", "count", "kept"),
    [
        (EVERY, 0, ()),
        (EVERY, 1, (12,)),
        (EVERY, 2, (7, 12)),
        (EVERY, 3, (7, 9, 12)),  # 7 8 9 10 11 12 at places 0, 2.5, 5; a half goes to the even place
        (EVERY, 6, (7, 8, 9, 10, 11, 12)),
        (EVERY, 50, (7, 8, 9, 10, 11, 12)),
        (ScheduleChoice(24, validation_interval=6), 3, (18, 24)),
        (ScheduleChoice(10, validation_interval=4), 3, (8, 10)),  # the end is validated too
        (ScheduleChoice(1), 2, (1,)),
        (ScheduleChoice(max_iters=1000, validation_iters=300), 9, (3, 4)),  # counted in validations
    ],
)
def test_epochs_lie_evenly_in_the_second_half_of_the_plan(
    schedule: ScheduleChoice, count: int, kept: tuple[int, ...]
) -> None:
    assert epochs_to_keep(schedule, count) == kept


@pytest.mark.slow
def test_a_trial_keeps_them_also_when_it_is_broken_off(
    litter: DataDescription,
    tiny_trial: Callable[..., TrialConfig],
    request_of: Callable[..., TrialRequest],
    train: Callable[[TrialRequest], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    request = request_of(tiny_trial("segformer", epochs=4), litter, tmp_path, keep_epochs=2)
    child = start_child("trainables.trial:train", request, tmp_path / "train.log")
    try:
        for _ in range(3):
            message = child.receive(120)
            assert isinstance(message, tuple) and message[0] == "epoch"
            if message[1]["epoch"] < 3:
                child.answer("go on")
    finally:
        child.stop()  # it waits for the word after epoch 3
    files = TrialFiles(tmp_path)
    assert files.kept_epochs() == (3,)
    train(replace(request))
    assert files.kept_epochs() == (3, 4)
    weights = [torch.load(files.epoch_weights(epoch), weights_only=True) for epoch in (3, 4)]
    assert [one["meta"]["epoch"] for one in weights] == [3, 4]
    best = torch.load(files.best, weights_only=True)
    assert weights[0]["state_dict"].keys() == best["state_dict"].keys()
    name = next(name for name, value in best["state_dict"].items() if value.is_floating_point())
    assert not torch.equal(weights[0]["state_dict"][name], weights[1]["state_dict"][name])
