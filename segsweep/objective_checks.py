"""What can be wrong about a sweep's objectives and limits, found before anything is started."""

from collections.abc import Callable, Sequence

from search_spaces.wording import nearest_name
from segdata.errors import SweepFileError
from segscore.metrics import METRICS
from segsweep.sweep_config import SweepConfig
from trainables.limits import COSTS

__all__ = ["check_objectives"]

Locate = Callable[[Sequence[str | int]], str]  # key -> file, line and key


def check_objectives(config: SweepConfig, locate: Locate) -> None:
    """Checks the objectives and the limits; of the first objective only that it is no cost.

    Raises:
        SweepFileError: With file, line, key, what was found and the cure.
    """
    known = (*config.metrics(), *config.own_metrics, *COSTS)
    if config.metric in COSTS:
        problem = f"expected a score first, which decides whose weights are kept, but got the cost {config.metric}"
        cure = f"Write metric: [{config.metrics()[0]}, {config.metric}]"
        raise SweepFileError.of(problem, where=locate(("metric",)), cure=cure)
    for index, (name, mode) in enumerate(config.objectives[1:], start=1):
        check_objective(config, index, name, mode, locate)
    for index, limit in enumerate(config.limits):
        key = locate(("constraints", index))
        if limit.name not in known:
            problem = f"expected a limit on a metric of the task {config.task} or on a cost, but got {limit.name!r}"
            raise SweepFileError.of(problem, where=key, cure=nearest_name(limit.name, known))
        if (limit.name, limit.operator) in [(other.name, other.operator) for other in config.limits[:index]]:
            problem = f"expected one limit {limit.name} {limit.operator}, but got two"
            raise SweepFileError.of(problem, where=key, cure="Remove one")
    if len(config.objectives) > 1:
        check_search(config, locate)


def check_objective(config: SweepConfig, index: int, name: str, mode: str, locate: Locate) -> None:
    """Checks one of the further objectives."""
    known, key = (*config.metrics(), *config.own_metrics, *COSTS), locate(("metric", index))
    if name not in known:
        problem = f"expected a metric of the task {config.task} or a cost, but got {name!r}"
        raise SweepFileError.of(problem, where=key, cure=nearest_name(name, known))
    if name in [other.name for other in config.objectives[:index]]:
        raise SweepFileError.of(f"expected each objective once, but got {name} twice", where=key, cure="Remove one")
    if name in COSTS and mode != "min":
        problem = f"expected min for {name}, which is a cost, but got {mode}"
        raise SweepFileError.of(problem, where=locate(("mode", index)), cure="Write min")
    if name in METRICS and mode != "max":
        problem = f"expected max, because more {name} is better, but got {mode}"
        raise SweepFileError.of(problem, where=locate(("mode", index)), cure="Write max")


def check_search(config: SweepConfig, locate: Locate) -> None:
    """Refuses what can't search for several objectives."""
    sampler, scheduler = config.search.sampler, config.search.scheduler
    if sampler.cmaes is not None:
        problem = "expected a sampler for several objectives, but got cmaes, which knows one"
        raise SweepFileError.of(
            problem, where=locate(("search", "sampler")), cure="Take tpe, nsga2, gp, random or grid"
        )
    chosen = next((name for name in type(scheduler).model_fields if getattr(scheduler, name) is not None), None)
    if chosen is not None:
        problem = f"expected scheduler: none with several objectives, but got {chosen}, which compares one score"
        raise SweepFileError.of(problem, where=locate(("search", "scheduler")), cure="Write scheduler: none")
