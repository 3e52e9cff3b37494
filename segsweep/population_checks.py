"""What population-based training asks of a sweep: knobs that can change in flight, and nothing else that differs."""

from collections.abc import Callable, Sequence

from search_spaces.in_flight import IN_FLIGHT
from search_spaces.space import Space
from segdata.errors import SweepFileError
from segsweep.search_config import PbtConfig
from segsweep.sweep_config import SweepConfig

__all__ = ["SMALLEST_POPULATION", "check_population"]

Locate = Callable[[Sequence[str | int]], str]  # key -> file, line and key

SMALLEST_POPULATION = 4
KEY = ("search", "scheduler", "pbt")


def check_population(config: SweepConfig, space: Space, locate: Locate) -> None:
    """Refuses a sweep with `scheduler: pbt` whose trials can't go on from each other's states.

    Args:
        config: What was written.
        space: What is searched.
        locate: Names a key in messages.

    Raises:
        SweepFileError: With the knobs in question.
    """
    pbt = config.search.scheduler.pbt
    if pbt is None:
        return
    check_perturbed(pbt, space, locate)
    check_all_else_equal(space, locate)
    if config.budget.trials < SMALLEST_POPULATION:
        raise SweepFileError.of(
            f"expected a population of {SMALLEST_POPULATION} trials or more for pbt, but got {config.budget.trials}",
            where=locate(("budget", "trials")),
            cure="Raise it, or choose another scheduler.",
        )
    if config.budget.patience is not None:
        raise SweepFileError.of(
            "expected no patience beside pbt, whose trials all end at about the same time, "
            f"but got {config.budget.patience}",
            where=locate(("budget", "patience")),
            cure="Drop it.",
        )


def check_perturbed(pbt: PbtConfig, space: Space, locate: Locate) -> None:
    """Refuses knobs to perturb that can't change in flight or are not searched, and a space without any."""
    searched = [parameter.knob for parameter in space.parameters if parameter.knob in IN_FLIGHT]
    can = f"a knob that can change in flight ({', '.join(IN_FLIGHT[:2])}, or of the augmentation)"
    if not searched:
        raise SweepFileError.of(
            f"expected a space that searches {can}, but got none",
            where=locate(KEY if pbt.model_fields_set else KEY[:2]),
            cure="Search lr, or choose another scheduler.",
        )
    for index, name in enumerate(pbt.perturb):
        if name in searched and name not in pbt.perturb[:index]:
            continue
        expected = can if name not in IN_FLIGHT else "a knob that the space searches, once"
        raise SweepFileError.of(
            f"expected {expected}, but got {name!r}",
            where=locate((*KEY, "perturb", index)),
            cure=f"Choose from {', '.join(dict.fromkeys(searched))}.",
        )


def check_all_else_equal(space: Space, locate: Locate) -> None:
    """Refuses a space in which trials differ in more than knobs that can change, or such a knob depends on others."""
    names = [parameter.knob for parameter in space.parameters]
    computed = [item.knob for item in space.computed if set(item.terms) & set(names)]
    others = [name for name in dict.fromkeys([*names, *computed]) if name not in IN_FLIGHT]
    if others:
        raise SweepFileError.of(
            "expected trials that can go on from each other's states, which differ in knobs that can change in flight "
            f"only, but the space also searches {', '.join(others)}",
            where=locate(KEY[:2]),
            cure="Put each under `fixed`, or choose another scheduler.",
        )
    conditional = [parameter.knob for parameter in space.parameters if parameter.when]
    conditional += [item.knob for item in space.computed if item.when]
    if conditional:
        raise SweepFileError.of(
            f"expected knobs that every trial has, but got `when` for {', '.join(dict.fromkeys(conditional))}",
            where=locate(KEY[:2]),
            cure="Drop the conditions, or choose another scheduler.",
        )
