"""Who goes on from whom in population-based training, and with which values: pure functions of scores and a seed.

M. Jaderberg et al., Population Based Training of Neural Networks, 2017, arXiv 1711.09846: truncation selection, then
perturbation by a fifth or resampling. All trials are compared at the same epoch (ADR 017), so that whoever goes on from
another one is at the same place of its plan, and a decision that a kill cut short is made again as it was.
"""

import math
from collections.abc import Sequence

import numpy as np

from search_spaces.in_flight import IN_FLIGHT
from search_spaces.parameters import Choice, Domain
from search_spaces.space import Space
from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError
from segsweep.search.mutations import Mutation
from segsweep.search.study import Mode, TrialRecord
from segsweep.search_config import PbtConfig

__all__ = ["exchanges", "explored", "first_values", "perturbed_knobs"]

FACTORS = (0.8, 1.2)
ATTEMPTS = 20  # at values that the space allows


def perturbed_knobs(config: PbtConfig, space: Space) -> tuple[str, ...]:
    """Returns the knobs that an exchange changes."""
    searched = [parameter.knob for parameter in space.parameters]
    return config.perturb or tuple(name for name in IN_FLIGHT if name in searched)


def first_values(record: TrialRecord) -> Mutation:
    """Returns the values that a trial starts with, of the knobs that can change."""
    return Mutation(0, None, {name: value for name, value in record.sample.items() if name in IN_FLIGHT})


def exchanges(
    records: Sequence[TrialRecord], epoch: int, config: PbtConfig, space: Space, mode: Mode, seed: int
) -> dict[int, Mutation]:
    """Returns which trials go on from which others after an epoch, by number.

    The worst `quantile` of all go on from one of the best `quantile` each, if that was better. The untuned baseline
    keeps to its own values; others may go on from it. A trial without a score there goes on from others too.

    Args:
        records: The trials that have come that far and go on.
        epoch: The last one of all of them.
        config: How many are exchanged and how much is changed.
        space: What is searched.
        mode: Direction of the score.
        seed: Of the sweep; beside it the draws depend on epoch and trial only.
    """
    sign = 1.0 if mode == "max" else -1.0
    scores = {record.number: sign * record.scores.get(epoch, -sign * math.inf) for record in records}
    ranked = sorted(records, key=lambda record: (-scores[record.number], record.number))
    count = min(math.ceil(config.quantile * len(ranked)), len(ranked) // 2)
    best, worst = ranked[:count], ranked[len(ranked) - count :]
    found: dict[int, Mutation] = {}
    for record in worst:
        donors = [donor for donor in best if scores[donor.number] > scores[record.number]]
        if donors and record.origin != "baseline":
            rng = np.random.default_rng([seed, epoch, record.number])
            donor = donors[int(rng.integers(len(donors)))]
            found[record.number] = Mutation(epoch, donor.number, explored(donor, config, space, rng))
    return found


def explored(donor: TrialRecord, config: PbtConfig, space: Space, rng: np.random.Generator) -> dict[str, Scalar]:
    """Returns a trial's values with the perturbed knobs changed to allowed ones; unchanged if no try is allowed."""
    own = {parameter.knob: donor.in_force[parameter.knob] for parameter in space.parameters}
    domains = {parameter.knob: parameter.domain for parameter in space.parameters}
    names = perturbed_knobs(config, space)
    for _ in range(ATTEMPTS):
        tried = own | {name: changed(domains[name], own[name], config, rng) for name in names}
        try:
            whole = space.complete(tried)
        except SpaceError:  # forbidden together
            continue
        return {name: whole[name] for name in donor.in_force if name in IN_FLIGHT}
    return {name: value for name, value in donor.in_force.items() if name in IN_FLIGHT}


def changed(domain: Domain, value: Scalar, config: PbtConfig, rng: np.random.Generator) -> Scalar:
    """Returns a value drawn anew, or a fifth larger or smaller; in a list or on a grid, one place further at least."""
    if rng.random() < config.resample_probability:
        return domain.sample(rng)
    up = bool(rng.random() < 0.5)
    moved = value if isinstance(domain, Choice) else domain.nearest(float(value) * FACTORS[up])
    values = domain.discrete()
    if values is None or moved != value:
        return moved
    ordered = sorted(values, key=float)
    place = ordered.index(min(ordered, key=lambda other: abs(float(other) - float(value))))
    return ordered[min(max(place + (1 if up else -1), 0), len(ordered) - 1)]
