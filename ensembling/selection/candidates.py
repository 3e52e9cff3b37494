"""What may be chosen and by which rules; whether a choice is within the limits of cost.

Imports our errors only.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segdata.errors import InputError

__all__ = ["Candidate", "SelectionRules", "cost_of", "models_of", "require_one_fits", "within_limits"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the selection may choose: the predictions of one network, of one view of it, or of several folds.

    Attributes:
        name: Its name, unlike the others'.
        predictions: Its prediction set of the images that the selection uses.
        models: Ids of the networks that predict new images for it; views of one network share its id. None = `name`.
        milliseconds: What it takes to predict an image; None = not known.
    """

    name: str
    predictions: Path
    models: tuple[str, ...] | None = None
    milliseconds: float | None = None


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """How an ensemble is chosen.

    Attributes:
        select: "greedy" chooses by forward selection; "all" takes all candidates, the best first as far as the limits
            allow, with equal weights.
        rounds: Members that one forward selection adds at most; one counts anew each time that it is added.
        bags: Forward selections, each from some of the candidates; their counts are added up.
        bag_share: Share of the candidates in a bag, in (0, 1]. Up to five candidates are all in one bag.
        tuning_trials: Settings and weights that Optuna tries; 0 = none.
        least_gain: A member without which the score falls by no more than this is left out, in units of the score.
        seed: Of bags and Optuna.
        most_models: Different networks in the ensemble at most; None = any number.
        most_milliseconds: Milliseconds an image of all members together at most; None = any.
        estimate: Whether the greedy selection is repeated on each half of the images and scored on the other half.
    """

    select: Literal["greedy", "all"] = "greedy"
    rounds: int = 20
    bags: int = 10
    bag_share: float = 0.5
    tuning_trials: int = 60
    least_gain: float = 0.0
    seed: int = 0
    most_models: int | None = None
    most_milliseconds: float | None = None
    estimate: bool = True

    def __post_init__(self) -> None:
        """Refuses values outside their range.

        Raises:
            InputError: Naming the rule, its range and the value found.
        """
        _require(self.select in ("greedy", "all"), "select", "greedy or all", self.select)
        _require(self.rounds >= 1, "rounds", "at least 1", self.rounds)
        _require(self.bags >= 1, "bags", "at least 1", self.bags)
        _require(0.0 < self.bag_share <= 1.0, "bag_share", "above 0 and at most 1", self.bag_share)
        _require(self.tuning_trials >= 0, "tuning_trials", "at least 0", self.tuning_trials)
        _require(0.0 <= self.least_gain < math.inf, "least_gain", "a number from 0", self.least_gain)
        _require(self.seed >= 0, "seed", "at least 0", self.seed)
        _require(self.most_models is None or self.most_models >= 1, "most_models", "at least 1", self.most_models)
        most = self.most_milliseconds
        _require(most is None or 0.0 < most < math.inf, "most_milliseconds", "a number above 0", most)


def models_of(candidates: Collection[Candidate]) -> tuple[str, ...]:
    """Returns the ids of all networks that the candidates need, each once, sorted."""
    return tuple(sorted({model for known in candidates for model in known.models or (known.name,)}))


def cost_of(candidates: Collection[Candidate]) -> float | None:
    """Returns the milliseconds an image of all together; None where one's are not known."""
    known = [candidate.milliseconds for candidate in candidates if candidate.milliseconds is not None]
    return math.fsum(known) if len(known) == len(candidates) else None


def within_limits(candidates: Collection[Candidate], rules: SelectionRules) -> bool:
    """Tells whether an ensemble of these candidates is within the limits of models and milliseconds."""
    if rules.most_models is not None and len(models_of(candidates)) > rules.most_models:
        return False
    if rules.most_milliseconds is None:
        return True
    cost = cost_of(candidates)
    return cost is not None and cost <= rules.most_milliseconds


def require_one_fits(candidates: Sequence[Candidate], rules: SelectionRules) -> None:
    """Checks that a candidate alone is within the limits, and that what they are checked against is known.

    Raises:
        InputError: A candidate's milliseconds are not known though they are limited, or none fits; names the cheapest.
    """
    if rules.most_milliseconds is not None:
        for candidate in candidates:
            if candidate.milliseconds is None:
                raise InputError.of(
                    f"expected the milliseconds an image of {candidate.name}, but got none",
                    where="most_milliseconds",
                    cure="Measure its predictions, or leave this limit out.",
                )
    if any(within_limits([candidate], rules) for candidate in candidates):
        return
    cheapest = min(candidates, key=lambda known: (len(models_of([known])), known.milliseconds or 0.0, known.name))
    if rules.most_models is None or len(models_of([cheapest])) <= rules.most_models:
        cheapest = min(candidates, key=lambda known: (known.milliseconds or 0.0, known.name))
    limits = {"networks": rules.most_models, "milliseconds an image": rules.most_milliseconds}
    told = " and ".join(f"{unit} <= {limit:g}" for unit, limit in limits.items() if limit is not None)
    cost = f"networks: {len(models_of([cheapest]))}"
    cost += "" if cheapest.milliseconds is None else f", milliseconds: {cheapest.milliseconds:g}"
    raise InputError.of(
        f"expected a candidate with {told}, but got none; the cheapest is {cheapest.name} ({cost})",
        where="limits of the ensemble",
        cure="Raise them, or add a cheaper candidate.",
    )


def _require(holds: bool, name: str, wanted: str, found: object) -> None:
    if not holds:
        raise InputError.of(f"expected {wanted}, but got {found}", where=f"selection rule {name}", cure="Change it.")
