"""What one trial gets of a node, and whether any node could ever give it. Imports ray.

Ray has no public reader of what a machine offers before it is started, nor of the autoscaler's node types: this file
holds both shims, and tests pin them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.state import state as ray_state
from ray._private.utils import get_num_cpus

from segdata.errors import InputError
from segsweep.nodes_to_come import BOOTSTRAP_FILE, nodes_to_come
from segsweep.sweep_config import ResourcesConfig

__all__ = ["TrialResources", "cluster_nodes", "gpus_in_reach", "this_machine", "trial_resources"]

Node = Mapping[str, float]

ROUNDING = 1e-9  # three thirds of a GPU are one


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
        """Computing threads of each training process of a trial."""
        return max(1, int(self.cpu) // self.processes)

    @property
    def processes(self) -> int:
        """Training processes of a trial: one for each of its GPUs."""
        return max(1, int(self.gpu))

    @property
    def loader_workers(self) -> int:
        """Processes that load images for each training process; one with one or two CPUs loads them itself."""
        return min(4, max(0, self.threads - 2))


def this_machine() -> list[Node]:
    """Returns what Ray will find here when it is started, without starting it."""
    manager = get_accelerator_manager_for_resource("GPU")
    gpus = 0 if manager is None else manager.get_current_node_num_accelerators()
    visible = None if manager is None else manager.get_current_process_visible_accelerator_ids()
    if visible is not None:
        gpus = min(gpus, len(visible))
    return [{"CPU": float(get_num_cpus()), "GPU": float(gpus)}]


def gpus_in_reach(wanted: ResourcesConfig) -> float:
    """Returns the GPUs that a trial asks for (a cluster may have them), else those of this machine."""
    return this_machine()[0]["GPU"] if wanted.gpu is None else wanted.gpu


def cluster_nodes() -> list[Node]:
    """Returns the resources of each node of the cluster, and of those that its autoscaler may start.

    KubeRay tells of node types; what `ray up` may start is known on the head only.
    """
    nodes: list[Node] = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    config = ray_state.get_cluster_config()
    types = [] if config is None else [group for group in config.node_group_configs if group.max_count != 0]
    left = Path(BOOTSTRAP_FILE).expanduser()
    come = nodes_to_come(nodes, left) if not types and is_head() and left.is_file() else []
    return [*nodes, *(dict(group.resources) for group in types), *come]


def is_head() -> bool:
    """Tells whether this process is on the cluster's head."""
    here = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    heads = [node for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]  # type: ignore[no-untyped-call]
    return any(node["NodeManagerAddress"] == here for node in heads)


def trial_resources(wanted: ResourcesConfig, concurrent: int | None, nodes: Iterable[Node]) -> TrialResources:
    """Decides the resources of a trial.

    `auto`: one trial a GPU where there are GPUs (or a share of one, if more trials are asked for), else the CPUs are
    divided among the trials that run at a time (as many as there are CPUs, up to four).

    Raises:
        InputError: No node could ever supply what a trial asks for.
    """
    nodes = list(nodes)
    gpus = sum(node.get("GPU", 0) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    trials = concurrent or int(gpus or min(4, cpus)) or 1
    gpu = wanted.gpu if wanted.gpu is not None else gpu_share(gpus, trials)
    suited = [node for node in nodes if node.get("GPU", 0) >= gpu]
    at_a_time = concurrent or (max(1, int(gpus / gpu)) if gpu else trials)
    cpu = wanted.cpu if wanted.cpu is not None else cpu_share(suited, at_a_time)
    if wanted.cpu is not None and concurrent is None:
        slots = sum(places(node, cpu, gpu) for node in suited)
        at_a_time = max(1, min(at_a_time, slots) if gpu else slots)
    refuse_impossible(cpu, gpu, nodes)
    return TrialResources(cpu, gpu, at_a_time)


def gpu_share(gpus: float, trials: int) -> float:
    """Returns a whole GPU a trial, or an equal share where trials outnumber GPUs."""
    if not gpus:
        return 0.0
    return 1.0 if trials <= gpus else 1.0 / math.ceil(trials / gpus)


def cpu_share(nodes: Sequence[Node], trials: int) -> float:
    """Returns the most whole CPUs a trial with which `trials` of them fit side by side, at least 1."""
    largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    fitting = (cpu for cpu in range(largest, 0, -1) if sum(places(node, cpu, 0) for node in nodes) >= trials)
    return float(next(fitting, 1))


def places(node: Node, cpu: float, gpu: float) -> int:
    """Returns how many trials fit on a node at a time."""
    by_cpu = int(node.get("CPU", 0) / cpu + ROUNDING)
    return min(by_cpu, int(node.get("GPU", 0) / gpu + ROUNDING)) if gpu else by_cpu


def refuse_impossible(cpu: float, gpu: float, nodes: Sequence[Node]) -> None:
    """Ray would wait for ever for a node that cannot come."""
    if any(places(node, cpu, gpu) for node in nodes):
        return
    cure = "Ask for less, or run on a cluster with such nodes (--address)."
    for name, amount in (("GPU", gpu), ("CPU", cpu)):
        most = max((node.get(name, 0) for node in nodes), default=0)
        if amount > most:
            raise InputError.of(
                f"expected at most {most:g} {name}s a trial, the most that any node or node type has, "
                f"but got {amount:g}",
                where=f"resources.{name.lower()}",
                cure=cure,
            )
    raise InputError.of(
        f"expected a node or node type with {cpu:g} CPUs and {gpu:g} GPUs together, but got none",
        where="resources",
        cure=cure,
    )
