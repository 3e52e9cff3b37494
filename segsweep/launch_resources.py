"""What the trials of a launch get of the nodes that it runs on; refused with the sweep file's name. Imports ray."""

from collections.abc import Iterable, Mapping, Sequence

from segdata.errors import InputError
from segsweep.preflight import check_devices
from segsweep.resources import TrialResources, trial_resources
from segsweep.sweep_file import Sweep

__all__ = ["launch_resources"]


def launch_resources(sweep: Sweep, nodes: Iterable[Mapping[str, float]], gpus_gb: Sequence[float]) -> TrialResources:
    """Returns what trials get; arguments as in `trial_resources`.

    Raises:
        InputError: No node could ever supply it, or the space holds models that want a GPU where trials get none.
    """
    config = sweep.config
    try:
        resources = trial_resources(config.resources, config.budget.concurrent, nodes, gpus_gb)
        by_model = {name: own.gpu for name, own in resources.models.items()}
        check_devices(sweep.space, config.task, resources.gpu, by_model)
    except InputError as error:
        raise InputError(f"{sweep.source or 'sweep'}: {error}") from error
    return resources
