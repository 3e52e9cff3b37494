"""All that is checked about a sweep before anything is started or written; `segsweep check` and a launch ask the same.

Imports neither ray nor, without a warm start, mlflow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from search_spaces.trial_config import Scalar
from segdata.errors import InputError
from segsweep.data_roles import SweepRoles, check_images, read_roles
from segsweep.initial_weights import check_weights, other_sweeps, try_local_weights
from segsweep.own_metrics import try_own_metrics
from segsweep.population_checks import check_population
from segsweep.preflight import check_configs, fitted_values
from segsweep.priors import require_published
from segsweep.run_folder import Origin, RunFolder
from segsweep.search.grid import check_grid
from segsweep.starting_points import starting_points
from segsweep.sweep_file import Sweep
from segsweep.wishes import Wish
from trainables.description import DataDescription

__all__ = ["Checked", "check_sweep", "refuse_other_data"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a launch needs to know, all of it checked and nothing written yet."""

    roles: SweepRoles
    data: DataDescription
    origin: Origin
    fitted: Mapping[str, Scalar]
    local: Mapping[str, Path]  # what `init: sweep:NAME` stands for
    points: tuple[Wish, ...]  # to begin a new sweep with


def check_sweep(sweep: Sweep, folder: RunFolder, console: Console) -> Checked:
    """Reads and checks data and space, the quick things first; says what of an earlier sweep has no place here.

    Raises:
        InputError: Something about them is wrong, or the data is not what the sweep was started with.
    """
    config, source = sweep.config, sweep.source or "sweep"
    check_grid(config.search.sampler, sweep.space, sweep.source)
    require_published(sweep.space, config.search.priors, source)
    check_population(config, sweep.space, lambda key: f"{source}: {'.'.join(map(str, key))}")  # a budget may have grown
    points = () if folder.exists else starting_points(sweep, console)
    roles = read_roles(sweep)
    origin = folder.read_origin() if folder.exists else Origin.new(sweep, roles.fingerprint)
    refuse_other_data(origin, roles, folder)
    check_images(roles)
    try_own_metrics(sweep.own_metrics, dict(config.objectives), roles.roles["val"].truth, sweep.source)
    data = roles.describe(folder.data)
    check_configs(sweep.space, data)
    local = other_sweeps(sweep, folder)
    check_weights(sweep, local)
    try_local_weights(sweep, data, local)
    return Checked(roles, data, origin, fitted_values(sweep.space, data), local, points)


def refuse_other_data(origin: Origin, roles: SweepRoles, folder: RunFolder) -> None:
    """Raises InputError if the data is not what the sweep was started with."""
    if origin.fingerprint != roles.fingerprint:
        raise InputError.of(
            f"expected the data that the sweep was started with (fingerprint {origin.fingerprint}), "
            f"but got other data ({roles.fingerprint})",
            where=f"data of {folder.sweep_file}",
            cure="Put the data back, or start a new sweep: scores on different data do not compare.",
        )
