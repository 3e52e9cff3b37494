"""What a new sweep tries after its baseline: the user's own points, then the best of an earlier sweep."""

from rich.console import Console

from segdata.errors import InputError
from segsweep.sweep_file import Sweep
from segsweep.warm_start import dropped_text, warm_start
from segsweep.wishes import Wish, wished_parameters
from segtrack.reader import read_sweep

__all__ = ["starting_points"]


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
        project = search.warm_start.project or sweep.project
        earlier = read_sweep(sweep.tracking_uri, project, search.warm_start.sweep, sweep.config.mode)
        start = warm_start(sweep.space, earlier, sweep.config.metric, search.warm_start.top, sweep.config.mode)
        for line in dropped_text(start.dropped):
            console.print(line, highlight=False, markup=False)
        found += [Wish(f"warm-{number:04d}", point) for number, point in enumerate(start.points, start=1)]
    return tuple(found)
