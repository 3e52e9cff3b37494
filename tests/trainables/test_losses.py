"""The losses of pixels against values worked out by hand, their gradients, and how a choice of them lands."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.trial_config import LossChoice, ModelChoice, TrialConfig
from segdata.statistics import PixelStatistics
from trainables.config import build_config
from trainables.description import DataDescription
from trainables.loss_config import class_weights
from trainables.losses import (
    LovaszSoftmaxLoss,
    SoftDiceLoss,
    SoftIoULoss,
    SoftmaxCrossEntropyLoss,
    SoftmaxFocalLoss,
    register_losses,
)

ALL_LOSSES = (LovaszSoftmaxLoss, SoftDiceLoss, SoftIoULoss, SoftmaxCrossEntropyLoss, SoftmaxFocalLoss)
# Three labelled pixels of classes 0, 1, 2 with these probabilities, and one that is ignored.
PROBABILITIES = [[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]]
LABELS = [0, 1, 2, 255]

Nested = dict[str, Any]


def pixels() -> tuple[Tensor, Tensor]:
    """The four pixels as an image of 2 x 2: logits (1, 3, 2, 2) and labels (1, 2, 2)."""
    logits = torch.tensor(PROBABILITIES, dtype=torch.float64).log().T.reshape(1, 3, 2, 2)
    return logits, torch.tensor(LABELS).reshape(1, 2, 2)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (SoftmaxCrossEntropyLoss(), -(math.log(0.5) + math.log(0.6) + math.log(0.8)) / 3),
        (
            SoftmaxCrossEntropyLoss(class_weight=[1.0, 2.0, 0.5]),
            -(math.log(0.5) + 2 * math.log(0.6) + 0.5 * math.log(0.8)) / 3,
        ),
        (
            SoftmaxFocalLoss(gamma=2.0),
            -(0.5**2 * math.log(0.5) + 0.4**2 * math.log(0.6) + 0.2**2 * math.log(0.8)) / 3,
        ),
        (SoftmaxFocalLoss(gamma=0.0), -(math.log(0.5) + math.log(0.6) + math.log(0.8)) / 3),
        # Sums of probabilities over the labelled pixels: 0.8, 0.95 and 1.25; each class has one true pixel.
        (SoftIoULoss(), 1 - (0.5 / (1.8 - 0.5) + 0.6 / (1.95 - 0.6) + 0.8 / (2.25 - 0.8)) / 3),
        (SoftDiceLoss(), 1 - (2 * 0.5 / 1.8 + 2 * 0.6 / 1.95 + 2 * 0.8 / 2.25) / 3),
        # Classes 0 and 1: the true pixel has the largest error, so the whole IoU is lost with it: 0.5 and 0.4.
        # Class 2: errors 0.25 (pixel 0), 0.2 (pixel 1), 0.2 (pixel 2, the true one); IoU falls 1 -> 1/2 -> 1/3 -> 0.
        (LovaszSoftmaxLoss(), (0.5 + 0.4 + (0.25 / 2 + 0.2 / 6 + 0.2 / 3)) / 3),
        (LovaszSoftmaxLoss(loss_weight=0.5), 0.5 * 0.375),
    ],
)
def test_a_loss_is_what_its_formula_says(loss: torch.nn.Module, expected: float) -> None:
    assert float(loss(*pixels())) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ALL_LOSSES)
def test_gradients_are_those_of_the_loss(kind: type[torch.nn.Module]) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    label = torch.randint(0, 4, (2, 3, 3), generator=generator)
    label[0, 0] = 255
    assert torch.autograd.gradcheck(lambda values: kind()(values, label), logits)


@pytest.mark.parametrize("kind", ALL_LOSSES)
def test_ignored_pixels_count_nowhere(kind: type[torch.nn.Module]) -> None:
    logits, label = pixels()
    logits.requires_grad_()
    loss = kind()(logits, label)
    loss.backward()
    assert logits.grad is not None and logits.grad[0, :, 1, 1].abs().sum() == 0
    assert logits.grad[0, :, 0, 0].abs().sum() > 0
    shifted = logits.detach().clone()
    shifted[0, :, 1, 1] = torch.tensor([-50.0, 50.0, 0.0])
    assert float(kind()(shifted, label)) == float(loss.detach())
    # A pixel sampler that leaves pixels out does so by weights of 0.
    weight = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    known = torch.tensor(LABELS[:3] + [0]).reshape(1, 2, 2)
    assert float(kind()(shifted, known, weight=weight)) == float(loss.detach())


@pytest.mark.parametrize("kind", ALL_LOSSES)
def test_a_batch_without_a_labelled_pixel_has_loss_0_and_trains_nothing(kind: type[torch.nn.Module]) -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = kind()(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None and bool((logits.grad == 0).all())


@pytest.mark.parametrize("kind", ALL_LOSSES)
def test_one_labelled_pixel_is_enough(kind: type[torch.nn.Module]) -> None:
    label = torch.full((1, 2, 2), 255)
    label[0, 0, 0] = 1
    assert 0 < float(kind()(torch.zeros(1, 3, 2, 2), label)) < math.inf


@pytest.mark.parametrize("kind", [LovaszSoftmaxLoss, SoftIoULoss])
def test_of_sure_predictions_losses_of_regions_are_1_minus_the_mean_iou(kind: type[torch.nn.Module]) -> None:
    label = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2]]).reshape(1, 2, 4)
    predicted = torch.tensor([[0, 0, 1, 1], [1, 2, 2, 0]]).reshape(1, 2, 4)
    logits = 200.0 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1).double()
    # Class 0: 2 of {3 true + 1 false} = 2/4; class 1: 2 of {3 + 1} = 2/4; class 2: 1 of {2 + 1} = 1/3; no class 3.
    assert float(kind()(logits, label)) == pytest.approx(1 - (0.5 + 0.5 + 1 / 3) / 3, abs=1e-9)


@pytest.mark.parametrize("kind", ALL_LOSSES)
def test_half_precision_logits_give_the_loss_of_full_precision(kind: type[torch.nn.Module]) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 64, 64, generator=generator).bfloat16()
    label = torch.randint(0, 4, (2, 64, 64), generator=generator)
    assert float(kind()(logits, label)) == float(kind()(logits.float(), label))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_a_pixel_that_is_surely_right_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[80.0], [0.0]]).reshape(1, 2, 1, 1).requires_grad_()
    SoftmaxFocalLoss(gamma=gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        # Raw weights of the shares 1/2, 1/4, 1/4: (2, 4, 4), (sqrt 2, 2, 2), (1/2, 1, 1); the average pixel then weighs
        # 3, (sqrt 2 + 2) / 2 and 3/4. The last class does not occur.
        ("inverse", [2 / 3, 4 / 3, 4 / 3, 1.0]),
        ("inverse-sqrt", [2 / (1 + math.sqrt(2)), 4 / (2 + math.sqrt(2)), 4 / (2 + math.sqrt(2)), 1.0]),
        ("median", [2 / 3, 4 / 3, 4 / 3, 1.0]),
    ],
)
def test_class_weights_follow_the_shares_of_pixels(balance: str, expected: list[float]) -> None:
    assert class_weights((0.5, 0.25, 0.25, 0.0), balance) == pytest.approx(expected)


def test_no_balance_and_no_pixels_weigh_nothing() -> None:
    assert class_weights((0.5, 0.5), "none") is None
    assert class_weights((math.nan, math.nan), "inverse") == [1.0, 1.0]


def losses_of(choice: LossChoice, data: DataDescription, model: str = "deeplabv3plus") -> Nested:
    built: Nested = build_config(TrialConfig(ModelChoice(model), loss=choice), data, seed=7)["model"]
    return built


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (LossChoice(kind="dice"), [("SoftDiceLoss", 1.0)]),
        (LossChoice(kind="focal"), [("SoftmaxFocalLoss", 1.0)]),
        (LossChoice(kind="ce+focal"), [("SoftmaxCrossEntropyLoss", 0.8), ("SoftmaxFocalLoss", 0.2)]),
        (LossChoice(kind="ce+soft-iou"), [("SoftmaxCrossEntropyLoss", 0.6), ("SoftIoULoss", 0.4)]),
        (LossChoice(kind="ce+dice"), [("SoftmaxCrossEntropyLoss", 0.5), ("SoftDiceLoss", 0.5)]),
        (LossChoice(kind="ce+lovasz", mix=0.25), [("SoftmaxCrossEntropyLoss", 0.75), ("LovaszSoftmaxLoss", 0.25)]),
        (LossChoice(kind="ce+lovasz", mix=1.0), [("SoftmaxCrossEntropyLoss", 0.0), ("LovaszSoftmaxLoss", 1.0)]),
    ],
)
@pytest.mark.parametrize("model", ["deeplabv3plus", "segformer"])
def test_a_chosen_loss_lands_in_the_decode_head_alone(
    model: str, choice: LossChoice, expected: list[tuple[str, float]], litter: DataDescription
) -> None:
    found, stock = losses_of(choice, litter, model), losses_of(LossChoice(), litter, model)
    terms = found["decode_head"].pop("loss_decode")
    assert [(term["type"], term["loss_weight"]) for term in terms] == [(name, pytest.approx(w)) for name, w in expected]
    assert all(term["loss_name"].startswith("loss_") for term in terms)
    assert len({term["loss_name"] for term in terms}) == len(terms)
    stock["decode_head"].pop("loss_decode")
    assert found == stock


def test_cross_entropy_is_the_zoos_own_unless_classes_are_balanced(litter: DataDescription) -> None:
    assert losses_of(LossChoice(kind="ce", class_balance="none"), litter) == losses_of(LossChoice(), litter)
    assert isinstance(litter.statistics, PixelStatistics)
    (term,) = losses_of(LossChoice(class_balance="median"), litter)["decode_head"]["loss_decode"]
    assert term["class_weight"] == class_weights(litter.statistics.class_frequencies, "median")


def test_class_weights_and_gamma_land_in_the_terms_that_take_them(litter: DataDescription) -> None:
    assert isinstance(litter.statistics, PixelStatistics)
    shares = (0.5, 0.3, 0.2) + (0.0,) * (len(litter.classes) - 3)
    data = replace(litter, statistics=replace(litter.statistics, class_frequencies=shares))
    choice = LossChoice(kind="ce+focal", focal_gamma=3.5, class_balance="inverse")
    cross_entropy, focal = losses_of(choice, data)["decode_head"]["loss_decode"]
    assert cross_entropy["class_weight"] == focal["class_weight"] == class_weights(shares, "inverse")
    assert focal["gamma"] == 3.5 and "gamma" not in cross_entropy
    _, region = losses_of(replace(choice, kind="ce+dice", focal_gamma=None), data)["decode_head"]["loss_decode"]
    assert "class_weight" not in region


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "all-ignored"])
@pytest.mark.parametrize("kind", ["ce", "focal", "dice", "lovasz", "soft-iou", "ce+focal", "ce+lovasz"])
def test_a_real_decode_head_adds_up_the_shares(kind: str, labelled: bool, litter: DataDescription) -> None:
    from mmengine.registry import DefaultScope
    from mmengine.structures import PixelData
    from mmseg.models.decode_heads import FCNHead
    from mmseg.structures import SegDataSample

    register_losses()
    choice = LossChoice(kind=kind, class_balance="inverse" if "ce" in kind else None)
    terms = losses_of(choice, litter)["decode_head"]["loss_decode"]
    classes = len(litter.classes)
    torch.manual_seed(3)
    sizes = {"in_channels": 4, "channels": 4, "num_convs": 0, "concat_input": False}
    with DefaultScope.overwrite_default_scope("mmseg"):
        head = FCNHead(**sizes, num_classes=classes, loss_decode=terms)
    label = torch.arange(64).reshape(1, 8, 8) % classes if labelled else torch.full((1, 8, 8), 255)
    sample = SegDataSample(gt_sem_seg=PixelData(data=label))
    losses = head.loss((torch.randn(1, 4, 8, 8),), [sample], {})
    values = [value for name, value in losses.items() if "loss" in name]
    assert len(values) == len(terms)
    total = sum(values)
    total.backward()
    value = float(total.detach())
    assert math.isfinite(value) and (value > 0) == labelled
    assert all(bool(weight.grad.isfinite().all()) for weight in head.parameters() if weight.grad is not None)
