"""Forward selection on worths that are written down: what it finds, what it drops, what it keeps to."""

import itertools
from collections.abc import Callable, Collection, Sequence

import numpy as np

from ensembling.selection.blends import Weights
from ensembling.selection.candidates import SelectionRules
from ensembling.selection.greedy import bagged, best_first, forward, pruned

Rate = Callable[[Sequence[Weights]], list[float]]


def share(weights: Weights, index: int) -> float:
    return weights.get(index, 0) / sum(weights.values())


def rate_by(worth: Callable[[Weights], float]) -> Rate:
    return lambda tried: [worth(weights) for weights in tried]


def anything(members: Collection[int]) -> bool:
    return True


def near(target: dict[int, float], numbers: int) -> Rate:
    """Worth less the farther the shares are from the target."""
    return rate_by(lambda weights: -sum(abs(share(weights, i) - target.get(i, 0.0)) for i in range(numbers)))


def test_replacement_gives_weights() -> None:
    assert forward(range(3), near({0: 2 / 3, 2: 1 / 3}, 3), anything, 20) == {0: 2, 2: 1}


def test_two_weak_ones_that_complete_each_other_beat_the_strong_one() -> None:
    """From the best one on, every step is a loss."""
    worths = {(0,): 0.8, (1,): 0.5, (2,): 0.5, (0, 1): 0.7, (0, 2): 0.7, (1, 2): 1.0, (0, 1, 2): 0.7}
    rate = rate_by(lambda weights: worths[tuple(sorted(weights))])
    assert forward(range(3), rate, anything, 20) == {1: 1, 2: 1}


def test_it_stops_where_nothing_is_gained_and_returns_the_shortest() -> None:
    asked: list[int] = []

    def worth(weights: Weights) -> float:
        asked.append(sum(weights.values()))
        return 1.0 if 1 in weights else 0.0

    assert forward(range(4), rate_by(worth), anything, 50) == {1: 1}
    assert max(asked) <= 4  # four to begin with; two additions to the best one, in vain


def test_rounds_are_kept_to() -> None:
    """Each addition of 0 to 1 brings it nearer to a share of 1 in 1000."""
    found = forward(range(2), near({0: 0.999, 1: 0.001}, 2), lambda members: True, 3)
    assert sum(found.values()) <= 2 + 3


def test_limits_bind_every_step() -> None:
    tried: list[Weights] = []

    def worth(weights: Weights) -> float:
        tried.append(weights)
        return float(len(weights))

    def at_most_two(members: Collection[int]) -> bool:
        return len(set(members)) <= 2

    assert len(forward(range(5), rate_by(worth), at_most_two, 10)) == 2
    assert all(len(weights) <= 2 for weights in tried)


def test_the_sum_of_the_bags_is_within_the_limits() -> None:
    target = {index: 1 / 12 for index in range(12)}
    rules = SelectionRules(bags=8, bag_share=0.5)
    free = bagged(range(12), near(target, 12), anything, rules)
    limited = bagged(range(12), near(target, 12), lambda members: len(set(members)) <= 3, rules)
    assert len(free) > 3
    assert len(limited) == 3


def test_bags_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    rng = np.random.default_rng(0)
    target = dict(enumerate((rng.dirichlet(np.ones(12))).tolist()))
    found = [bagged(range(12), near(target, 12), anything, SelectionRules(seed=seed, bags=3)) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_up_to_five_candidates_are_one_bag() -> None:
    rate = near({0: 0.5, 4: 0.5}, 5)
    assert bagged(range(5), rate, anything, SelectionRules(bag_share=0.2)) == forward(range(5), rate, anything, 20)


def test_what_adds_nothing_is_dropped_the_least_weight_first() -> None:
    def worth(weights: Weights) -> float:
        return 1.0 if 2 in weights or 3 in weights else 0.0

    assert pruned({0: 3, 1: 1, 2: 2, 3: 5}, rate_by(worth)) == {3: 5}


def test_what_adds_something_stays() -> None:
    kept = {0: 2, 1: 1, 5: 1}
    assert pruned(kept, rate_by(lambda weights: float(len(weights)))) == kept


def test_what_adds_less_than_is_asked_for_is_dropped() -> None:
    """0 adds 0.5, 1 adds 0.25, 2 adds 0.125."""
    rate = rate_by(lambda weights: sum(0.5 ** (index + 1) for index in weights))
    assert pruned({0: 1, 1: 1, 2: 1}, rate, 0.1) == {0: 1, 1: 1, 2: 1}
    assert pruned({0: 1, 1: 1, 2: 1}, rate, 0.125) == {0: 1, 1: 1}
    assert pruned({0: 1, 1: 1, 2: 1}, rate, 0.25) == {0: 1}


def test_the_best_come_first_and_those_without_score_last() -> None:
    worths = {0: 0.5, 1: -float("inf"), 2: 0.7, 3: 0.5}
    assert best_first(range(4), rate_by(lambda weights: worths[next(iter(weights))])) == [2, 0, 3, 1]


def test_all_permutations_of_the_candidates_give_one_result() -> None:
    for order in itertools.permutations(range(4)):
        assert forward(order, near({1: 0.5, 3: 0.5}, 4), anything, 20) == {1: 1, 3: 1}


def test_a_tie_is_passed_on_the_way_to_two_thirds() -> None:
    """Both alone and both together are worth the same; only two to one is worth more."""
    rate = rate_by(lambda weights: 1.0 if weights == {0: 2, 1: 1} else 0.5)
    assert forward(range(2), rate, anything, 20) == {0: 2, 1: 1}
