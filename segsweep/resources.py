"""What one trial gets of a node, and whether any node could ever give it. Imports ray."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ray
from ray._private.state import state as ray_state  # the autoscaler's node types have no public reader

from segdata.errors import InputError
from segsweep.sweep_config import ResourcesConfig

__all__ = ["TrialResources", "node_resources", "trial_resources"]


@dataclass(frozen=True, slots=True)
class TrialResources:
    """CPUs and GPUs of one trial, and how many trials run at a time."""

    cpu: float
    gpu: float
    concurrent: int

    def request(self) -> dict[str, float]:
        """Returns what Tune is asked for."""
        return {"CPU": self.cpu, "GPU": self.gpu} if self.gpu else {"CPU": self.cpu}

    @property
    def threads(self) -> int:
        """Computing threads of a trial's process."""
        return max(1, int(self.cpu))

    @property
    def loader_workers(self) -> int:
        """Processes that load images; a trial with one or two CPUs loads them itself."""
        return min(4, max(0, int(self.cpu) - 2))


def node_resources() -> list[Mapping[str, float]]:
    """Returns the resources of each node there is, and of each node type that the autoscaler may start."""
    nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    largest = ray_state.get_max_resources_from_cluster_config()
    return [*nodes, largest] if largest else list(nodes)


def trial_resources(
    wanted: ResourcesConfig, concurrent: int | None, nodes: Iterable[Mapping[str, float]]
) -> TrialResources:
    """Decides the resources of a trial.

    `auto`: one trial a GPU where there are GPUs (or a share of one, if more trials are asked for), else the CPUs are
    divided among the trials that run at a time (as many as there are CPUs, up to four).

    Raises:
        InputError: No node could ever supply what a trial asks for.
    """
    nodes = list(nodes)
    cpus, gpus = sum(n.get("CPU", 0) for n in nodes), sum(n.get("GPU", 0) for n in nodes)
    trials = concurrent or int(gpus or min(4, cpus)) or 1
    gpu = wanted.gpu if wanted.gpu is not None else gpu_share(gpus, trials)
    at_a_time = concurrent or max(1, int(gpus / gpu) if gpu else trials)
    cpu = wanted.cpu if wanted.cpu is not None else max(1.0, math.floor(cpus / at_a_time))
    if wanted.cpu is not None and concurrent is None:
        at_a_time = max(1, min(at_a_time, int(cpus / cpu))) if gpu else max(1, int(cpus / cpu))
    for name, amount in (("CPU", cpu), ("GPU", gpu)):
        most = max((node.get(name, 0) for node in nodes), default=0)
        if amount > most:
            raise InputError.of(
                f"expected at most {most:g} {name}s a trial, the most that any node or node type has, but got {amount:g}",
                where=f"resources.{name.lower()}",
                cure="Ask for less, or start the sweep on a cluster with such nodes (--address).",
            )
    return TrialResources(cpu, gpu, at_a_time)


def gpu_share(gpus: float, trials: int) -> float:
    """Returns a whole GPU a trial, or an equal share where trials outnumber GPUs."""
    if not gpus:
        return 0.0
    return 1.0 if trials <= gpus else 1.0 / math.ceil(trials / gpus)
