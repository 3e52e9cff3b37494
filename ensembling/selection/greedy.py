"""Greedy forward selection with replacement, started from the best few, bagged.

R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of models", ICML 2004,
sections 2.1 to 2.3. Pure: candidates are numbers, and what they are worth is asked. Imports numpy.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import combinations

import numpy as np

from ensembling.selection.blends import Weights, whole_weights
from ensembling.selection.candidates import SelectionRules

__all__ = ["bagged", "best_first", "forward", "is_gain", "pruned"]

Rate = Callable[[Sequence[Weights]], Sequence[float]]  # what ensembles are worth, more is better, -inf for none
Fits = Callable[[Collection[int]], bool]  # whether these members are within the limits

_LEAST_GAIN = 1e-5  # share of what is there already; less is no gain
_START = 5  # at most so many of the best begin
_PAIRED = 8  # of so many of the best each pair is looked at
_LEAST_IN_A_BAG = 5
_PATIENCE = 2  # additions in a row that bring nothing


def is_gain(worth: float, than: float) -> bool:
    """Tells whether an ensemble is worth enough more than another to prefer it though it costs more, or was later."""
    return worth > than if than == -math.inf else worth - than > _LEAST_GAIN * abs(than)


def best_first(pool: Sequence[int], rate: Rate) -> list[int]:
    """Returns the candidates in the order of their own worth, of equal ones the lower number first."""
    worth = dict(zip(pool, rate([{index: 1} for index in pool]), strict=True))
    return sorted(pool, key=lambda index: (-worth[index], index))


def forward(pool: Sequence[int], rate: Rate, fits: Fits, rounds: int) -> dict[int, int]:
    """Adds, again and again, the candidate with which the ensemble is worth most, until nothing is gained.

    It begins with the best one to five candidates, or with two of the best eight, whichever is worth most: two that
    complete each other are not found from the best one on. A candidate may be added again; of equal ones that is
    preferred which is in already, then the lower number.

    Args:
        pool: Candidates, of which at least one fits.
        rate: What ensembles are worth.
        fits: Whether members are within the limits.
        rounds: Additions at most.

    Returns:
        How often each was added; the ensemble on the way that was worth most, of equal ones the first.
    """
    usable = [index for index in pool if fits([index])]
    best, best_worth = _start(usable, rate, fits)
    current, idle = best, 0
    for _ in range(rounds):
        options = [current + Counter([index]) for index in usable if fits([*current, index])]
        options = [option for option in options if len(option) > 1]  # one candidate twice is that candidate
        if not options:
            break
        ranked = zip(rate(options), options, strict=True)
        worth, chosen = min(ranked, key=lambda row: (-row[0], len(row[1]), sorted(row[1].items())))
        current = chosen
        if is_gain(worth, best_worth):
            best, best_worth, idle = chosen, worth, 0
        elif (idle := idle + 1) == _PATIENCE:
            break
    return dict(best)


def _start(usable: Sequence[int], rate: Rate, fits: Fits) -> tuple[Counter[int], float]:
    """Returns what to begin with, and what it is worth; of equal ones the fewest, then the best candidates."""
    ranked = best_first(usable, rate)
    few: list[int] = []
    options: list[Counter[int]] = []
    for index in ranked:
        if len(few) < _START and fits([*few, index]):
            few.append(index)
            options.append(Counter(few))
    options += [Counter(pair) for pair in combinations(ranked[:_PAIRED], 2) if fits(pair)]
    worths = rate(options)
    place = max(range(len(options)), key=lambda number: (worths[number], -len(options[number]), -number))
    return options[place], worths[place]


def bagged(pool: Sequence[int], rate: Rate, fits: Fits, rules: SelectionRules) -> dict[int, int]:
    """Runs the forward selection on several random bags of candidates and adds their counts up.

    Each bag's counts are scaled to one sum, so that all bags weigh the same. Where the sum of all is beyond the limits,
    members of the largest weight are taken as long as they fit.

    Args:
        pool: Candidates, of which at least one fits.
        rate: What ensembles are worth.
        fits: Whether members are within the limits.
        rules: Bags, share, rounds, seed.

    Returns:
        Weights, whole numbers.
    """
    usable = [index for index in pool if fits([index])]
    size = max(math.ceil(rules.bag_share * len(usable)), min(_LEAST_IN_A_BAG, len(usable)))
    if size == len(usable):
        return forward(usable, rate, fits, rules.rounds)
    rng = np.random.default_rng(rules.seed)
    weights: dict[int, float] = {}
    for _ in range(rules.bags):
        bag = sorted(rng.choice(usable, size, replace=False).tolist())
        counts = forward(bag, rate, fits, rules.rounds)
        for index, count in counts.items():
            weights[index] = weights.get(index, 0.0) + count / sum(counts.values())
    kept: list[int] = []
    for index in sorted(weights, key=lambda known: (-weights[known], known)):
        if fits([*kept, index]):
            kept.append(index)
    return whole_weights({index: weights[index] for index in sorted(kept)})


def pruned(weights: Weights, rate: Rate, least_gain: float = 0.0) -> dict[int, int]:
    """Leaves out, one after the other, members that add no more than `least_gain`; the others keep their weights.

    Each time the one goes without which the ensemble is worth most; of equal ones that of the least weight, then of the
    higher number.
    """
    kept = dict(weights)
    worth = rate([kept])[0]
    while len(kept) > 1:
        others = [{other: weight for other, weight in kept.items() if other != index} for index in kept]
        rated = zip(rate(others), kept, others, strict=True)
        best, _, rest = max(rated, key=lambda row: (row[0], -kept[row[1]], row[1]))
        if best < worth - least_gain:
            break
        kept, worth = rest, best
    return kept
