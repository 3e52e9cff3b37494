"""The chosen loss of a semantic model's decoder, with class weights from the training pixels. Pure functions."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from search_spaces.knobs import KNOBS
from search_spaces.trial_config import LossChoice
from segdata.errors import InputError

__all__ = ["class_weights", "put_loss"]

Nested = dict[str, Any]

CE = "SoftmaxCrossEntropyLoss"
FOCAL = "SoftmaxFocalLoss"
TERMS = {"ce": CE, "focal": FOCAL, "dice": "SoftDiceLoss", "lovasz": "LovaszSoftmaxLoss", "soft-iou": "SoftIoULoss"}


def put_loss(model: Nested, choice: LossChoice, class_frequencies: Sequence[float]) -> None:
    """Gives the decode head (the last one of several) the chosen loss; auxiliary heads keep theirs.

    A plain cross entropy without class weights is left as the zoo has it.

    Raises:
        InputError: The head has no loss of pixels.
    """
    kind, balance = choice.kind or "ce", choice.class_balance or "none"
    if kind == "ce" and balance == "none":
        return
    heads = model["decode_head"]
    head = heads[-1] if isinstance(heads, list | tuple) else heads
    if "loss_decode" not in head:
        raise InputError.of(
            f"expected a decoder that classifies pixel by pixel, but got a {head['type']}",
            where="knob loss",
            cure="Drop loss and class_balance for this model.",
        )
    stock = head["loss_decode"]
    scale = (stock[0] if isinstance(stock, list | tuple) else stock).get("loss_weight", 1.0)
    weights = class_weights(class_frequencies, balance)
    head["loss_decode"] = [
        term(name, share * scale, weights, choice.focal_gamma) for name, share in shares(kind, choice.mix)
    ]


def shares(kind: str, mix: float | None) -> list[tuple[str, float]]:
    """Returns (term, share) of a loss; the shares add up to 1."""
    first, _, second = kind.partition("+")
    if not second:
        return [(first, 1.0)]
    stock = KNOBS["loss_mix"].default_for({"loss": kind})
    share = float(stock or 0.0) if mix is None else mix
    return [(first, 1.0 - share), (second, share)]


def term(name: str, weight: float, weights: list[float] | None, gamma: float | None) -> Nested:
    """Returns the config of one term; those of regions count every class alike and take no class weights."""
    found: Nested = {"type": TERMS[name], "loss_weight": weight, "loss_name": f"loss_{name.replace('-', '_')}"}
    if name in ("ce", "focal") and weights is not None:
        found["class_weight"] = weights
    if name == "focal":
        found["gamma"] = KNOBS["focal_gamma"].default if gamma is None else gamma
    return found


def class_weights(frequencies: Sequence[float], balance: str) -> list[float] | None:
    """Returns a weight for each class, None for no balance.

    With f the class's share of the labelled training pixels: inverse 1 / f, inverse-sqrt 1 / sqrt(f), median
    (Eigen and Fergus, arXiv 1411.4734) median(f) / f over the classes that occur. They are scaled so that the average
    training pixel weighs 1. A class that does not occur weighs 1: no training pixel asks for its weight.
    """
    if balance == "none":
        return None
    present = [share for share in frequencies if share > 0]
    if not present:
        return [1.0] * len(frequencies)
    rules: dict[str, Callable[[float], float]] = {
        "inverse": lambda share: 1 / share,
        "inverse-sqrt": lambda share: 1 / math.sqrt(share),
        "median": lambda share: median(present) / share,
    }
    raw = [rules[balance](share) if share > 0 else None for share in frequencies]
    average = sum(share * weight for share, weight in zip(frequencies, raw, strict=True) if weight is not None)
    return [1.0 if weight is None else weight / average for weight in raw]
