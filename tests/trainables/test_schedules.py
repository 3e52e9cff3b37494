"""Learning-rate curves on a real optimizer against closed forms, and plans in epochs and in iterations."""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from search_spaces.trial_config import ModelChoice, ScheduleChoice, TrialConfig
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.schedules import schedule_config
from trainables.step_sampler import StepSampler
from trainables.training_parts import register_training_parts

EPOCHS, AN_EPOCH = 4, 10
TOTAL = EPOCHS * AN_EPOCH
BASES = (0.2, 0.02)  # of a head and of an encoder with a tenth of its learning rate

Curve = list[tuple[float, ...]]


@pytest.fixture(autouse=True)
def registered() -> None:
    register_training_parts()


def curve(schedule: ScheduleChoice, task: Any = "semantic", scores: Sequence[float] = ()) -> Curve:
    """Returns the learning rates of both groups at each iteration, as MMEngine's hook steps the schedules."""
    config = schedule_config(task, schedule, AN_EPOCH, "mIoU")
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in BASES]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedulers = [PARAM_SCHEDULERS.build(dict(part), default_args={"optimizer": optimizer}) for part in parts(config)]
    values: Curve = []
    for epoch in range(config["train_cfg"]["max_epochs"]):
        for _ in range(AN_EPOCH):
            values.append(tuple(group["lr"] for group in optimizer.param_groups))
            optimizer.step()
            step(schedulers, by_epoch=False)
        step(schedulers, by_epoch=True)
        for scheduler in schedulers:
            if getattr(scheduler, "need_val_args", False):
                scheduler.step({"mIoU": scores[epoch]})
    return values


def parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = config["param_scheduler"]
    return found


def step(schedulers: Sequence[Any], *, by_epoch: bool) -> None:
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def assert_shares(values: Curve, share: Callable[[int], float], begin: int = 0) -> None:
    """Both groups follow the same share of their own learning rate."""
    for iteration in range(begin, TOTAL):
        expected = tuple(base * share(iteration) for base in BASES)
        assert values[iteration] == pytest.approx(expected, rel=1e-9, abs=1e-15), iteration


def left(iteration: int, begin: int = 0) -> float:
    """Share of the plan after `begin` that is left; 0 at the last iteration."""
    return 1 - (iteration - begin) / (TOTAL - begin - 1)


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        (ScheduleChoice(EPOCHS, shape="constant", warm_up=0.0), lambda i: 1.0),
        (ScheduleChoice(EPOCHS, shape="poly", warm_up=0.0), lambda i: left(i) ** 0.9),
        (ScheduleChoice(EPOCHS, shape="poly", warm_up=0.0, poly_power=2.0), lambda i: left(i) ** 2),
        (
            ScheduleChoice(EPOCHS, shape="poly", warm_up=0.0, poly_power=2.0, final_lr_factor=0.1),
            lambda i: 0.1 + 0.9 * left(i) ** 2,
        ),
        (ScheduleChoice(EPOCHS, shape="cosine", warm_up=0.0), lambda i: (1 - math.cos(math.pi * left(i))) / 2),
        (
            ScheduleChoice(EPOCHS, shape="cosine", warm_up=0.0, final_lr_factor=0.25),
            lambda i: 0.25 + 0.75 * (1 - math.cos(math.pi * left(i))) / 2,
        ),
        # Of 40 iterations, 0.25, 0.5 and 0.9 are the iterations 10, 20 and 36.
        (
            ScheduleChoice(EPOCHS, shape="step", warm_up=0.0, step_1=0.25, step_2=0.5, step_3=0.9, step_gamma=0.5),
            lambda i: 0.5 ** sum(i >= milestone for milestone in (10, 20, 36)),
        ),
        (
            ScheduleChoice(EPOCHS, shape="step", warm_up=0.0, step_1=0.5, step_2=1.0),
            lambda i: 0.1 if i >= 20 else 1.0,
        ),
    ],
)
def test_a_curve_is_its_closed_form_in_every_group(schedule: ScheduleChoice, share: Callable[[int], float]) -> None:
    assert_shares(curve(schedule), share)


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        ("constant", lambda i: 1.0),
        ("poly", lambda i: left(i, 20) ** 0.9),
        ("cosine", lambda i: (1 - math.cos(math.pi * left(i, 20))) / 2),
    ],
)
def test_a_warm_up_rises_over_its_share_and_the_shape_takes_the_rest(shape: str, share: Callable[[int], float]) -> None:
    values = curve(ScheduleChoice(EPOCHS, shape=shape, warm_up=0.5))
    for iteration in range(20):  # from a hundredth to all of it
        rising = 0.01 + 0.99 * iteration / 19
        assert values[iteration] == pytest.approx(tuple(base * rising for base in BASES))
    assert_shares(values, share, begin=20)


@pytest.mark.parametrize(("rise", "given"), [(0.3, None), (0.5, 0.5)])
def test_one_cycle_is_torchs_in_every_group(rise: float, given: float | None) -> None:
    values = curve(ScheduleChoice(EPOCHS, shape="one-cycle", warm_up=given))
    for group, base in enumerate(BASES):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        oracle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=base, total_steps=TOTAL, pct_start=rise, cycle_momentum=False
        )
        for iteration in range(TOTAL):
            assert values[iteration][group] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
            optimizer.step()
            if iteration < TOTAL - 1:
                oracle.step()


def test_one_cycle_ends_at_the_chosen_share_and_may_begin_at_its_top() -> None:
    assert curve(ScheduleChoice(EPOCHS, shape="one-cycle", final_lr_factor=0.5))[-1] == pytest.approx((0.1, 0.01))
    assert curve(ScheduleChoice(EPOCHS, shape="one-cycle", warm_up=0.0))[0] == pytest.approx(BASES)


def test_a_plateau_lowers_the_rate_once_patience_is_spent() -> None:
    schedule = ScheduleChoice(6, shape="plateau", warm_up=0.0, plateau_patience=1, step_gamma=0.5)
    values = curve(schedule, scores=[0.3, 0.5, 0.4, 0.45, 0.6, 0.1])
    # Epoch 2 is best; epochs 3 and 4 are no better, of which one is borne: epoch 5 and 6 have half the rate.
    assert [row[0] for row in values[::AN_EPOCH]] == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.1, 0.1])


def test_a_plateau_watches_the_sweeps_score_in_its_direction(litter: DataDescription) -> None:
    trial = TrialConfig(ModelChoice("segformer"), schedule=ScheduleChoice(shape="plateau", plateau_patience=7))
    of_loss = build_config(trial, litter, seed=7, metric="my_error", mode="min")["param_scheduler"][-1]
    assert (of_loss["monitor"], of_loss["rule"], of_loss["patience"]) == ("my_error", "less", 7)
    stock = build_config(trial, litter, seed=7)["param_scheduler"][-1]
    assert (stock["monitor"], stock["rule"]) == ("mIoU", "greater")


@pytest.mark.parametrize(
    ("task", "shape"), [("instance", "MultiStepLR"), ("semantic", "PolyLR")], ids=["instance", "semantic"]
)
def test_an_untouched_schedule_is_the_zoos(task: Any, shape: str) -> None:
    found = schedule_config(task, ScheduleChoice(12), 100)
    warm_up, main = found["param_scheduler"]
    assert warm_up == {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": 120}
    stock = {
        "MultiStepLR": {"begin": 0, "end": 12, "by_epoch": True, "milestones": [8, 11], "gamma": 0.1},
        "PolyLR": {"eta_min": 0.0, "power": 0.9, "begin": 120, "end": 1200, "by_epoch": False},
    }
    assert main == {"type": shape} | stock[shape]
    assert found["train_cfg"] == {"type": "EpochBasedTrainLoop", "max_epochs": 12, "val_interval": 1}


def test_a_plan_in_iterations_is_cut_at_its_validations(litter: DataDescription) -> None:
    # 003: 5000 iterations with steps at 3000, 3500 and 4500.
    schedule = ScheduleChoice(
        max_iters=5000, validation_iters=600, shape="step", step_1=0.6, step_2=0.7, step_3=0.9, warm_up=0.2
    )
    config = build_config(TrialConfig(ModelChoice("segformer"), schedule=schedule), litter, seed=7)
    assert config["train_cfg"]["max_epochs"] == 9  # 8 * 600 = 4800, then 200
    assert schedule.planned_epochs == 9
    sampler = config["train_dataloader"]["sampler"]
    assert sampler == {"type": "StepSampler", "batch_size": 4, "max_iters": 5000, "validation_iters": 600}
    warm_up, steps = config["param_scheduler"]
    assert warm_up["end"] == 1000
    assert (steps["milestones"], steps["end"], steps["by_epoch"]) == ([3000, 3500, 4500], 5000, False)


@pytest.mark.parametrize(("max_iters", "stretch", "epochs"), [(1000, 100, 10), (1001, 101, 10), (7, 1, 7), (1, 1, 1)])
def test_a_plan_in_iterations_has_ten_validations_if_nothing_is_said(max_iters: int, stretch: int, epochs: int) -> None:
    schedule = ScheduleChoice(max_iters=max_iters)
    assert (schedule.iterations_an_epoch, schedule.planned_epochs) == (stretch, epochs)


def stretches(images: int, batch: int, max_iters: int, validation_iters: int, seed: int = 3) -> list[list[int]]:
    sampler = StepSampler(range(images), batch, max_iters, validation_iters, seed=seed)
    found = []
    for epoch in range(-(-max_iters // validation_iters)):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def test_the_sampler_goes_through_shuffled_passes_over_the_stretches() -> None:
    found = stretches(images=7, batch=2, max_iters=10, validation_iters=4)
    assert [len(stretch) for stretch in found] == [8, 8, 4]
    row = list(chain(*found))
    passes = [row[begin : begin + 7] for begin in (0, 7)]
    assert all(sorted(part) == list(range(7)) for part in passes), "every image once before any comes again"
    assert passes[0] != passes[1]
    assert len(set(row[14:])) == 6


def test_a_stretch_depends_on_seed_and_number_alone() -> None:
    whole = stretches(images=5, batch=3, max_iters=12, validation_iters=4)
    resumed = StepSampler(range(5), 3, 12, 4, seed=3)
    resumed.set_epoch(2)
    assert list(resumed) == whole[2]
    assert stretches(images=5, batch=3, max_iters=12, validation_iters=4, seed=4) != whole
    # Where validations lie does not change what is seen in which order.
    assert list(chain(*stretches(images=5, batch=3, max_iters=12, validation_iters=5))) == list(chain(*whole))
