"""Learning rate, weight decay and augmentation that change between two stretches of one training, and its legs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from search_spaces.trial_config import OptimizationChoice, ScheduleChoice, TrialConfig
from segdata.errors import TrialSiteError
from trainables import ray_trainable
from trainables.description import DataDescription
from trainables.in_flight import ConfiguredRatesHook
from trainables.ray_trainable import paused_or
from trainables.requests import TrialRequest
from trainables.schedules import schedule_config
from trainables.training_parts import register_training_parts
from trainables.trial_files import EpochScores, Outcome, TrialFiles

EPOCHS, AN_EPOCH, TAKEN_AT = 4, 10, 2
SHARES = (1.0, 0.1)  # of a head and of an encoder with a tenth of its learning rate
SCORES = (0.5, 0.4, 0.4, 0.4)  # that do not get better

Messages = list[dict[str, Any]]
Train = Callable[[TrialRequest], Messages]
TrialOf = Callable[..., TrialConfig]
RequestOf = Callable[..., TrialRequest]


class Stretch:
    """Optimizer and schedules of a trial with this learning rate and weight decay, perhaps from a state of another."""

    def __init__(self, schedule: ScheduleChoice, lr: float, decay: float, state: dict[str, Any] | None = None) -> None:
        register_training_parts()
        config = schedule_config("semantic", schedule, AN_EPOCH, "mIoU")
        groups = [
            {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr * share, "weight_decay": decay * keeps}
            for share, keeps in zip(SHARES, (1.0, 0.0), strict=True)
        ]
        self.optimizer = torch.optim.SGD(groups, lr=1.0)
        self.schedulers = [
            PARAM_SCHEDULERS.build(dict(part), default_args={"optimizer": self.optimizer})
            for part in config["param_scheduler"]
        ]
        if state is not None:
            runner: Any = SimpleNamespace(optim_wrapper=SimpleNamespace(param_groups=self.optimizer.param_groups))
            ConfiguredRatesHook().after_load_checkpoint(runner, state)
            self.optimizer.load_state_dict(state["optimizer"])
            for scheduler, own in zip(self.schedulers, state["param_schedulers"], strict=True):
                scheduler.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        schedulers = [scheduler.state_dict() for scheduler in self.schedulers]
        return {"optimizer": self.optimizer.state_dict(), "param_schedulers": schedulers}

    def rates(self, begin: int, end: int) -> list[tuple[float, ...]]:
        """Trains through epochs and returns (learning rates, weight decays) at each iteration."""
        found = []
        for epoch in range(begin, end):
            for _ in range(AN_EPOCH):
                groups = self.optimizer.param_groups
                found.append(tuple(group[name] for name in ("lr", "weight_decay") for group in groups))
                self.optimizer.step()
                self.step(by_epoch=False)
            self.step(by_epoch=True)
            for scheduler in self.schedulers:
                if getattr(scheduler, "need_val_args", False):
                    scheduler.step({"mIoU": SCORES[epoch]})
        return found

    def step(self, *, by_epoch: bool) -> None:
        for scheduler in self.schedulers:
            if scheduler.by_epoch == by_epoch:
                scheduler.step()


@pytest.mark.parametrize(
    "schedule",
    [
        ScheduleChoice(EPOCHS, shape="constant", warm_up=0.0),  # no schedule at all
        ScheduleChoice(EPOCHS, shape="constant", warm_up=0.75),  # taken over while it rises
        ScheduleChoice(EPOCHS, shape="step", warm_up=0.1, step_1=0.25, step_2=0.75, step_gamma=0.5),
        ScheduleChoice(EPOCHS, shape="step"),
        ScheduleChoice(EPOCHS, shape="cosine", warm_up=0.1),
        ScheduleChoice(EPOCHS, shape="cosine", final_lr_factor=0.25),
        ScheduleChoice(EPOCHS, shape="poly", warm_up=0.1),
        ScheduleChoice(EPOCHS, shape="poly", final_lr_factor=0.1),
        ScheduleChoice(EPOCHS, shape="one-cycle"),
        ScheduleChoice(EPOCHS, shape="one-cycle", warm_up=0.8),
        ScheduleChoice(EPOCHS, shape="plateau", plateau_patience=0, step_gamma=0.5),
    ],
    ids=lambda schedule: f"{schedule.shape}-{schedule.warm_up}-{schedule.final_lr_factor}",
)
def test_after_a_takeover_rates_are_what_they_would_be_from_the_start(schedule: ScheduleChoice) -> None:
    donor = Stretch(schedule, lr=0.2, decay=0.01)
    donor.rates(0, TAKEN_AT)
    taken = Stretch(schedule, lr=0.05, decay=0.3, state=donor.state()).rates(TAKEN_AT, EPOCHS)
    expected = Stretch(schedule, lr=0.05, decay=0.3).rates(0, EPOCHS)[TAKEN_AT * AN_EPOCH :]
    assert taken == [pytest.approx(rates, rel=1e-9, abs=1e-15) for rates in expected]
    assert {rates[2:] for rates in taken} == {(0.3, 0.0)}  # the group that is kept free of decay stays so


def test_a_state_of_the_same_values_is_loaded_to_the_last_bit() -> None:
    schedule = ScheduleChoice(EPOCHS, shape="cosine")
    whole, broken = Stretch(schedule, 0.3, 0.1), Stretch(schedule, 0.3, 0.1)
    broken.rates(0, TAKEN_AT)
    resumed = Stretch(schedule, 0.3, 0.1, broken.state())
    assert resumed.rates(TAKEN_AT, EPOCHS) == whole.rates(0, EPOCHS)[TAKEN_AT * AN_EPOCH :]


def test_a_handed_state_is_taken_once_and_a_kill_in_between_is_mended(tmp_path: Path) -> None:
    donor, poor = TrialFiles(tmp_path / "0001"), TrialFiles(tmp_path / "0002")
    for files, state in ((donor, "good"), (poor, "poor")):
        files.directory.mkdir()
        files.last.write_text(state)
        files.keep_state(3)
    poor.hand(donor, 3)
    donor.last.with_suffix(".tmp").write_text("later")
    donor.last.with_suffix(".tmp").replace(donor.last)
    donor.drop_states()  # it ended before the other one went on
    poor.take_over(poor.directory / "handed-0003.pth")  # killed before it was noted
    poor.take_handed(3)
    assert poor.last.read_text() == "good"
    poor.last.write_text("trained on")
    poor.take_handed(3)  # its worker died: it goes on from where it was
    assert poor.last.read_text() == "trained on"
    assert sorted(path.name for path in poor.directory.iterdir()) == ["last.pth", "states", "taken.json"]


def test_without_the_handed_state_nothing_is_mixed(tmp_path: Path) -> None:
    donor, poor = TrialFiles(tmp_path / "0001"), TrialFiles(tmp_path / "0002")
    poor.directory.mkdir()
    poor.last.write_text("poor")
    with pytest.raises(TrialSiteError, match=r"states/0003.pth: expected the state of the trial to go on from"):
        poor.hand(donor, 3)
    with pytest.raises(TrialSiteError, match="handed-0003.pth: expected the state of the trial to go on from"):
        poor.take_handed(3)
    assert poor.last.read_text() == "poor"


def test_a_leg_that_ends_with_the_plan_is_complete(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path)
    files.last.write_text("state")
    config = {"trial": TrialConfig(schedule=ScheduleChoice(3)).to_dict(), "until": 2}
    files.append_history(EpochScores(2, {}))
    assert paused_or(Outcome("completed"), config, files) == Outcome("paused", "waits after epoch 2")
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["0002.pth"]
    assert paused_or(Outcome("crashed", "x"), config, files) == Outcome("crashed", "x")
    assert paused_or(Outcome("completed"), config | {"until": None}, files) == Outcome("completed")
    files.append_history(EpochScores(3, {}))
    assert paused_or(Outcome("completed"), config, files) == Outcome("completed")


def test_a_trials_own_deadline_counts_the_time_that_it_ran_in_earlier_legs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_trainable, "time", SimpleNamespace(time=lambda: 1000.0))
    context: Any = SimpleNamespace(trial_timeout_s=60.0, deadline_unix_s=None)
    assert ray_trainable.first_deadline(context, 45.0) == 1015.0


def with_values(trial: TrialConfig, **values: Any) -> TrialConfig:
    for field, value in values.items():
        trial = trial.with_value(field.replace("__", "."), value)
    return trial


def state_of(path: Path) -> dict[str, Any]:
    """Returns what a checkpoint of this test's own trial holds; MMEngine's message hub is no plain value."""
    found: dict[str, Any] = torch.load(path, weights_only=False)
    return found


@pytest.mark.slow
def test_a_trial_in_legs_equals_an_unbroken_one(
    litter: DataDescription,
    tiny_trial: TrialOf,
    request_of: RequestOf,
    train: Train,
    untimed: Callable[[Any], str],
    tmp_path: Path,
) -> None:
    whole = request_of(tiny_trial("segformer", epochs=3), litter, tmp_path / "whole")
    unbroken, legs = train(whole), []
    broken = replace(whole, directory=tmp_path / "broken")
    for until in (1, 1, 2, None):  # the second one was killed before it was noted that it waits
        legs.append(train(replace(broken, until=until)))
    assert [[row["epoch"] for row in leg] for leg in legs] == [[1], [], [2], [3]]
    assert untimed([row for leg in legs for row in leg]) == untimed(unbroken)


@pytest.mark.slow
def test_values_change_in_a_real_optimizer_and_pipeline(
    litter: DataDescription, tiny_trial: TrialOf, request_of: RequestOf, train: Train, tmp_path: Path
) -> None:
    """By part of the network, with norms free of decay, over a takeover from a trial that has none at all."""
    choice = OptimizationChoice("adamw", 2e-3, weight_decay=0.0, batch_size=4, backbone_lr_factor=0.1, norm_decay=False)
    trial = replace(tiny_trial("segformer", epochs=3), optimization=choice)
    donor = request_of(with_values(trial, augmentation__brightness=0.0), litter, tmp_path / "donor", until=1)
    train(donor)
    changed = with_values(trial, optimization__lr=5e-4, optimization__weight_decay=0.04, augmentation__brightness=1.0)
    poor = request_of(changed, litter, tmp_path / "poor", until=2)
    files = TrialFiles(poor.directory)
    files.directory.mkdir()
    files.take_over(TrialFiles(donor.directory).last)
    (row,) = train(poor)
    assert row["epoch"] == 2
    fresh = request_of(changed, litter, tmp_path / "fresh", until=2)
    (_, expected) = train(fresh)
    assert row["lr"] == pytest.approx(expected["lr"], rel=1e-9)
    found, same = (
        [
            (group["initial_lr"], group["lr"], group["weight_decay"])
            for group in state_of(path)["optimizer"]["param_groups"]
        ]
        for path in (files.last, TrialFiles(fresh.directory).last)
    )
    assert found == [pytest.approx(group) for group in same]
    assert sorted({group[0] for group in found}) == pytest.approx([5e-5, 5e-4])
    assert {group[2] for group in found} == {0.0, 0.04}
    unchanged = replace(poor, trial=with_values(changed, augmentation__brightness=0.0), directory=tmp_path / "plain")
    TrialFiles(unchanged.directory).directory.mkdir()
    TrialFiles(unchanged.directory).take_over(TrialFiles(donor.directory).last)
    (plain,) = train(unchanged)
    assert plain["lr"] == row["lr"] and plain["train_loss"] != row["train_loss"]  # it saw other images
