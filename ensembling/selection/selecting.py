"""Choosing an ensemble: members and weights, then settings, then the guard, then what each member adds.

Imports `segdata.errors` and this package.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ensembling.fusion import method_for
from ensembling.selection.blends import Blend, Weights
from ensembling.selection.candidates import (
    Candidate,
    SelectionRules,
    cost_of,
    models_of,
    require_one_fits,
    within_limits,
)
from ensembling.selection.greedy import Fits, Rate, bagged, best_first, forward, is_gain, pruned
from ensembling.selection.library import ALL, HALVES, Library
from ensembling.selection.tuning import settings_with, tuned
from ensembling.settings import FusionSettings
from segdata.errors import InputError

__all__ = ["Estimate", "SelectedMember", "Selection", "select_ensemble"]

_PLAIN = FusionSettings()
# Codec -> the method by which an ensemble of one is that one.
_ALONE = {"coco-rle": "wbf", "prob8": "soft-vote", "labels": "hard-vote"}


@dataclass(frozen=True, slots=True)
class SelectedMember:
    """A member of the chosen ensemble; scores on the images that the selection saw.

    Attributes:
        candidate: Who it is.
        weight: Its share; all shares add up to 1.
        alone: Score of its own prediction set.
        without: Score of the ensemble without it, settings and other weights kept; None where it is the only member.
        joined: Score of the ensemble of those before it and itself, in the order of the members.
    """

    candidate: Candidate
    weight: float
    alone: float
    without: float | None
    joined: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Scores on images that the choice did not see: chosen on the one half, scored on the other; mean of both ways.

    The two are to be compared with each other, not with scores of all images: average precision of a half is another.

    Attributes:
        ensemble: Of the greedy selection, with the settings that it begins with.
        single: Of the best single candidate.
    """

    ensemble: float
    single: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen ensemble; scores on the images that the selection saw, so they are too good.

    Attributes:
        method: One of `ensembling.fusion.METHODS`.
        settings: Of the fusion.
        members: By falling weight, of equal ones by name.
        score: Of the ensemble.
        best_single: The name of the best candidate within the limits, and its score.
        fell_back: Whether no ensemble was better than that candidate, which then is the only member.
        default_score: Score with the weights that the selection gave and the settings that it began with.
        evaluations: How many ensembles were judged for it, single candidates among them. Those of the estimate, and
            those that the library knew from another selection, are not counted.
        estimate: What to expect on other images; None where it was not asked for, or can't be had.
    """

    method: str
    settings: FusionSettings
    members: tuple[SelectedMember, ...]
    score: float
    best_single: tuple[str, float]
    fell_back: bool
    default_score: float
    evaluations: int
    estimate: Estimate | None

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of all networks that it needs."""
        return models_of([member.candidate for member in self.members])

    @property
    def milliseconds(self) -> float | None:
        """What it takes to predict an image; None where a member's are not known."""
        return cost_of([member.candidate for member in self.members])


def select_ensemble(
    library: Library,
    *,
    method: str,
    rules: SelectionRules = SelectionRules(),  # noqa: B008 (it never changes)
    fixed: Mapping[str, Any] = MappingProxyType({}),
) -> Selection:
    """Chooses members, weights and settings for one method of fusion.

    A greedy choice is never worse on these images than the best single candidate within the limits: where no ensemble
    is better than it, it is the only member. All candidates are all, however good that is.

    Args:
        library: Candidates and truth; several methods may be tried on one.
        method: One of `ensembling.fusion.METHODS` for the candidates' task.
        rules: How to choose, and the limits of cost.
        fixed: Settings of the fusion that are not tuned.

    Raises:
        InputError: The method can't read a candidate, a fixed setting is not known, no candidate is within the limits,
            or none has a score.
    """
    method_for(method, library.sets)
    before = library.evaluations
    choice = _Choice(library, method, settings_with(fixed), rules)
    require_one_fits(library.candidates, rules)
    best = choice.best_single()
    begun = choice.weights(ALL)
    weights, settings = tuned(
        lambda tried, with_settings: library.gains([Blend.of(method, tried, with_settings)])[0],
        method=method,
        names={index: library.candidates[index].name for index in begun},
        weights=begun,
        fixed=fixed,
        trials=rules.tuning_trials,
        seed=rules.seed,
    )
    if rules.select == "greedy":
        weights = pruned(weights, choice.rate(ALL, settings), rules.least_gain)
        kept = choice.guarded(Blend.of(method, weights, settings), best)
    else:
        kept = Blend.of(method, weights, settings)
    own = library.gains([_own(best)])[0]
    return Selection(
        method=kept.method or method,
        settings=kept.settings,
        members=_members(library, kept),
        score=library.score_of(library.gains([kept])[0]),
        best_single=(library.candidates[best].name, library.score_of(own)),
        fell_back=kept.members == (best,),
        default_score=library.score_of(choice.rate(ALL)([begun])[0]),
        evaluations=library.evaluations - before,
        estimate=choice.estimate(),
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """One method's choice of members, with the settings that it begins with."""

    library: Library
    method: str
    settings: FusionSettings
    rules: SelectionRules

    def rate(self, images: int, settings: FusionSettings | None = None) -> Rate:
        """Returns what tells the worth of weights on some of the images."""
        used = self.settings if settings is None else settings

        def rate(tried: Sequence[Weights]) -> list[float]:
            return self.library.gains([Blend.of(self.method, weights, used) for weights in tried], images)

        return rate

    @property
    def fits(self) -> Fits:
        """Tells whether members are within the limits."""

        def fits(members: Collection[int]) -> bool:
            return within_limits([self.library.candidates[index] for index in set(members)], self.rules)

        return fits

    def best_single(self, images: int = ALL) -> int:
        """Returns the candidate within the limits whose own prediction set is best.

        Raises:
            InputError: None has a score.
        """
        usable = [index for index in range(len(self.library.candidates)) if self.fits([index])]
        gains = self.library.gains([_own(index) for index in usable], images)
        gain, best = max(zip(gains, usable, strict=True), key=lambda row: (row[0], -row[1]))
        if gain == float("-inf") and images == ALL:
            raise InputError.of(
                f"expected a score of {self.library.metric} for a candidate, but got none",
                where="truth",
                cure="Choose by a metric of what the labelled images hold, or on other images.",
            )
        return best

    def weights(self, images: int) -> dict[int, int]:
        """Returns members and weights, chosen on some of the images."""
        pool = range(len(self.library.candidates))
        rate, fits = self.rate(images), self.fits
        if self.rules.select == "all":
            kept: list[int] = []
            for index in best_first(pool, rate):
                kept += [index] if fits([*kept, index]) else []
            return {index: 1 for index in sorted(kept)}
        least = self.rules.least_gain
        many = pruned(bagged(pool, rate, fits, self.rules), rate, least)
        single = self.library.gains([_own(self.best_single(images))], images)[0]
        if is_gain(rate([many])[0], single):
            return many
        one_bag = pruned(forward(pool, rate, fits, self.rules.rounds), rate, least)
        return max([many, one_bag], key=lambda weights: rate([weights])[0])

    def guarded(self, found: Blend, best: int) -> Blend:
        """Returns what was found, or the best single candidate alone, where nothing is gained on that."""
        own = self.library.gains([_own(best)])[0]
        gain = self.library.gains([found])[0]
        if is_gain(gain, own) or (found.members == (best,) and gain >= own):
            return found
        alone = Blend.of(self.method, {best: 1}, self.settings)
        if self.library.gains([alone])[0] >= own:
            return alone
        return Blend.of(_ALONE[self.library.sets[best].meta.codec], {best: 1}, _PLAIN)

    def estimate(self) -> Estimate | None:
        """Chooses on each half of the images and scores on the other; None where there is nothing to choose."""
        if not (self.rules.estimate and self.rules.select == "greedy" and self.library.can_halve):
            return None
        ensembles, singles = [], []
        for chosen_on, scored_on in HALVES:
            single = _own(self.best_single(chosen_on))
            many = Blend.of(self.method, self.weights(chosen_on), self.settings)
            gains = self.library.gains([many, single], chosen_on)
            kept = many if is_gain(gains[0], gains[1]) else single
            ensembles += self.library.gains([kept], scored_on)
            singles += self.library.gains([single], scored_on)
        means = (self.library.score_of(sum(gains) / len(gains)) for gains in (ensembles, singles))
        return Estimate(*means)


def _own(index: int) -> Blend:
    """A candidate's prediction set as it is."""
    return Blend(None, ((index, 1),), _PLAIN)


def _members(library: Library, blend: Blend) -> tuple[SelectedMember, ...]:
    """Returns the members by falling weight, and what each adds."""
    weights = dict(blend.weights)
    ranked = sorted(weights, key=lambda index: (-weights[index], index))

    def score(tried: Weights) -> float:
        return library.score_of(library.gains([Blend.of(blend.method, tried, blend.settings)])[0])

    def without(index: int) -> float | None:
        others = {other: weight for other, weight in weights.items() if other != index}
        return score(others) if others else None

    return tuple(
        SelectedMember(
            candidate=library.candidates[index],
            weight=weights[index] / sum(weights.values()),
            alone=library.score_of(library.gains([_own(index)])[0]),
            without=without(index),
            joined=score({member: weights[member] for member in ranked[: place + 1]}),
        )
        for place, index in enumerate(ranked)
    )
