"""The combinations of a space in which every knob has a list of values, each once.

Optuna's own two samplers of this kind do not serve: `GridSampler` knows no conditions and takes a trial's number for
its combination; `BruteForceSampler` counts a trial that a kill cut short as tried.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

from search_spaces.space import Parameter, Space
from search_spaces.trial_config import Scalar
from segdata.errors import InputError
from segsweep.search_config import SamplerConfig

__all__ = ["MOST_COMBINATIONS", "check_grid", "combinations", "identity"]

MOST_COMBINATIONS = 100_000
Identity = frozenset[tuple[str, bool, Scalar]]


def check_grid(sampler: SamplerConfig, space: Space, source: object) -> None:
    """Refuses a space that has no grid, or too large a one, where the sampler is grid.

    Args:
        sampler: The sweep's.
        space: What it is to search.
        source: The sweep file, for messages.

    Raises:
        InputError: With the knobs that have no list of values, or how many combinations there are.
    """
    if sampler.grid is None:
        return
    where = f"{source or 'sweep'}: search.sampler"
    unbounded = [parameter.id for parameter in space.parameters if parameter.domain.size() is None]
    if unbounded:
        raise InputError.of(
            f"expected a list of values for every knob, as grid tries them all, but got a range of real numbers for "
            f"{', '.join(unbounded)}",
            where=where,
            cure="Give each a step or a choice, or choose another sampler.",
        )
    size = space.size()
    if size is None or size > MOST_COMBINATIONS:
        found = "too many to count" if size is None else f"{size}"
        raise InputError.of(
            f"expected at most {MOST_COMBINATIONS} combinations for grid, but got {found}",
            where=where,
            cure="Give fewer values or longer steps, or choose another sampler.",
        )


def combinations(space: Space, seed: int) -> list[dict[str, Scalar]]:
    """Returns all allowed samples in an order shuffled by `seed`: cut short, they are spread over the space."""
    found = [sample for sample in walk(space, space.parameters, {}) if space.forbidden(sample) is None]
    random.Random(seed).shuffle(found)
    return found


def walk(space: Space, parameters: Sequence[Parameter], sample: Mapping[str, Scalar]) -> Iterator[dict[str, Scalar]]:
    """Yields the samples that begin with `sample`, over the remaining parameters, parents first."""
    if not parameters:
        yield dict(sample)
        return
    first, rest = parameters[0], parameters[1:]
    if not space.active(first, {**space.fixed, **sample}):
        yield from walk(space, rest, sample)
        return
    values = first.domain.discrete()
    assert values is not None  # `check_grid` has seen to that
    for value in values:
        yield from walk(space, rest, {**sample, first.knob: value})


def identity(space: Space, sample: Mapping[str, Scalar]) -> Identity:
    """Returns what two samples share that are the same combination; 1 and true differ."""
    searched = {parameter.knob for parameter in space.parameters} & set(sample)
    return frozenset((name, isinstance(sample[name], bool), sample[name]) for name in searched)
