"""What a new sweep tries after its baseline: the user's own points, then the best of an earlier sweep, then what the
zoos have published good scores of.
"""

from collections.abc import Mapping, Sequence

from rich.console import Console

from search_spaces.trial_config import Scalar
from segdata.errors import InputError
from segsweep.priors import choose_priors, gpu_memory_gb
from segsweep.sweep_file import Sweep
from segsweep.warm_start import dropped_text, warm_start
from segsweep.wishes import Wish, wished_parameters

__all__ = ["prior_points", "starting_points"]


def starting_points(sweep: Sweep, console: Console) -> tuple[Wish, ...]:
    """Returns the points in the order in which they are tried, and says what of an earlier sweep has no place.

    Raises:
        InputError: A point is not of the space, or the earlier sweep can't be read or used.
    """
    search = sweep.config.search
    found = []
    for number, point in enumerate(search.points, start=1):
        try:
            parameters = wished_parameters(sweep.space, {knob: str(value) for knob, value in point.items()})
        except InputError as error:
            raise InputError(f"{sweep.source or 'sweep'}: search.points[{number - 1}]: {error}") from error
        found.append(Wish(f"point-{number:04d}", parameters))
    if search.warm_start is not None:
        from segtrack.reader import read_sweep  # MLflow takes seconds to load

        project = search.warm_start.project or sweep.project
        earlier = read_sweep(sweep.tracking_uri, project, search.warm_start.sweep)
        start = warm_start(sweep.space, earlier, sweep.config.metric, sweep.config.mode, search.warm_start.top)
        for line in dropped_text(start.dropped):
            console.print(line, highlight=False, markup=False)
        found += [Wish(f"warm-{number:04d}", point) for number, point in enumerate(start.points, start=1)]
    return tuple(found)


def prior_points(
    sweep: Sweep, fitted: Mapping[str, Scalar], earlier: Sequence[Wish], gpu: float, console: Console, *, here: bool
) -> tuple[Wish, ...]:
    """Returns the points that published scores speak for, and says which and why.

    Args:
        sweep: With its space.
        fitted: Values that stand in for stock ones, as in the baseline.
        earlier: Points that are tried before.
        gpu: GPUs of a trial, or its share of one.
        console: Where the lines go.
        here: Whether trials run on this machine alone, whose GPUs can be asked for their memory.
    """
    wanted = sweep.config.search.priors
    if not wanted:
        return ()
    memory_gb = gpu_memory_gb(gpu, here=here)
    if gpu and memory_gb is None:
        console.print("priors: the memory of the trials' GPUs is not known, so none is left out", highlight=False)
    chosen = choose_priors(sweep.space, fitted, earlier, wanted, memory_gb)
    for line in chosen.lines(sweep.config.task, wanted, memory_gb):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return chosen.wishes(sweep.space)
