"""Fusion settings and weights chosen by Optuna; each method's knobs are rows of one table.

Imports Optuna and this package.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState

from ensembling.selection.blends import Weights, whole_weights
from ensembling.selection.greedy import is_gain
from ensembling.settings import FusionSettings
from segdata.errors import InputError

__all__ = ["KNOBS", "Knob", "settings_with", "tuned"]

RateOne = Callable[[Weights, FusionSettings], float]
_DOUBLINGS = 2.0  # a weight is tried from a quarter to four times what the selection gave it
_DOUBLING_STEP = 0.25


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting that is tried.

    Attributes:
        name: Of a field of `FusionSettings`.
        values: Names to choose from, or the lowest and highest number and the step.
        when: (another knob, its value) that it needs to count; None = always.
    """

    name: str
    values: tuple[str, ...] | tuple[float, float, float]
    when: tuple[str, str] | None = None


_IOU = Knob("iou_threshold", (0.3, 0.8, 0.01))
_MASK = Knob("mask_threshold", (0.2, 0.6, 0.01))
_CONFIDENCE = Knob("minimum_confidence", (0.0, 0.3, 0.01))
_OVERLAP = Knob("overlap", ("mask", "box"))
KNOBS: dict[str, tuple[Knob, ...]] = {  # method -> what it reads; a knob stands behind the one that it depends on
    "wbf": (_IOU, _MASK, _CONFIDENCE),
    "mask-fusion": (_IOU, _MASK, _CONFIDENCE),
    "nms": (_IOU, _CONFIDENCE, _OVERLAP),
    "soft-nms": (
        Knob("decay", ("linear", "gaussian")),
        replace(_IOU, when=("decay", "linear")),
        Knob("sigma", (0.1, 1.0, 0.05), when=("decay", "gaussian")),
        _CONFIDENCE,
        _OVERLAP,
    ),
    "nmw": (_IOU, _MASK, _CONFIDENCE, _OVERLAP),
    "soft-vote": (Knob("mean", ("arithmetic", "geometric", "confidence")),),
    "hard-vote": (),
}


def settings_with(fixed: Mapping[str, Any]) -> FusionSettings:
    """Returns the default settings with those that the user fixed.

    Raises:
        InputError: A name is not one of a setting, or a value is out of range.
    """
    known = [field.name for field in fields(FusionSettings)]
    for name in fixed:
        if name not in known:
            raise InputError.of(
                f"expected a setting of fusion ({', '.join(known)}), but got {name!r}",
                where="fixed settings",
                cure="Choose one of these.",
            )
    return FusionSettings(**fixed)


def tuned(
    rate: RateOne,
    *,
    method: str,
    names: Mapping[int, str],
    weights: Weights,
    fixed: Mapping[str, Any],
    trials: int,
    seed: int,
) -> tuple[dict[int, int], FusionSettings]:
    """Tries settings and weights; what it begins with stays unless something is better.

    Args:
        rate: What an ensemble is worth, more is better, -inf for none.
        method: One of `KNOBS`.
        names: What to call the members; they decide the order in which weights are drawn.
        weights: To begin with.
        fixed: Settings that are not tried.
        trials: How many combinations, the first one among them.
        seed: Of the sampler.

    Returns:
        Weights and settings.
    """
    start = settings_with(fixed)
    best, best_worth = (dict(weights), start), rate(weights, start)
    free = tuple(knob for knob in KNOBS[method] if knob.name not in fixed)
    if trials < 2 or (not free and len(weights) == 1):
        return best
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=TPESampler(seed=seed))
    unchanged = {f"weight of {name}": 0.0 for name in names.values()} if len(weights) > 1 else {}
    study.enqueue_trial({knob.name: getattr(start, knob.name) for knob in free} | unchanged)
    for _ in range(trials):
        trial = study.ask()
        settings = replace(start, **_drawn_settings(trial, free, fixed))
        tried = _drawn_weights(trial, weights, names)
        worth = rate(tried, settings)
        if worth == -math.inf:
            study.tell(trial, state=TrialState.FAIL)
            continue
        study.tell(trial, worth)
        if is_gain(worth, best_worth):
            best, best_worth = (tried, settings), worth
    return best


def _drawn_settings(trial: Trial, free: tuple[Knob, ...], fixed: Mapping[str, Any]) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for knob in free:
        if knob.when is not None and {**fixed, **drawn}.get(knob.when[0]) != knob.when[1]:
            continue
        first, *others = knob.values
        if isinstance(first, str):
            drawn[knob.name] = trial.suggest_categorical(knob.name, knob.values)
        else:
            high, step = (float(value) for value in others)
            drawn[knob.name] = round(trial.suggest_float(knob.name, first, high, step=step), 6)
    return drawn


def _drawn_weights(trial: Trial, weights: Weights, names: Mapping[int, str]) -> dict[int, int]:
    """Returns the weights, each doubled or halved up to `_DOUBLINGS` times."""
    if len(weights) == 1:
        return dict(weights)
    doublings = {
        index: trial.suggest_float(f"weight of {names[index]}", -_DOUBLINGS, _DOUBLINGS, step=_DOUBLING_STEP)
        for index in sorted(weights, key=lambda known: names[known])
    }
    if not any(doublings.values()):
        return dict(weights)
    return whole_weights({index: weight * 2.0 ** doublings[index] for index, weight in weights.items()})
