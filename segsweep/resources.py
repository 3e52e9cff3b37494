"""What one trial gets of a node, and whether any node could ever give it. Imports ray.

Ray has no public reader of what a machine offers before it is started, nor of the autoscaler's node types: this file
holds both shims, and tests pin them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.state import state as ray_state
from ray._private.utils import get_num_cpus
from ray.tune import PlacementGroupFactory

from segdata.errors import InputError
from segsweep.nodes_to_come import BOOTSTRAP_FILE, HEAD, nodes_to_come
from segsweep.resources_config import ModelResourcesConfig, ResourcesConfig

__all__ = [
    "TrialResources",
    "cluster_nodes",
    "gpus_in_reach",
    "is_head",
    "places",
    "this_machine",
    "trial_resources",
]

Node = Mapping[str, float]

ROUNDING = 1e-9  # three thirds of a GPU are one


@dataclass(frozen=True, slots=True)
class TrialResources:
    """CPUs and GPUs of one trial, how many trials run at a time, and what trials of some models get instead."""

    cpu: float
    gpu: float
    concurrent: int
    models: Mapping[str, "TrialResources"] = field(default_factory=dict)

    def of(self, model: str | None) -> "TrialResources":
        """Returns what a trial of a model gets."""
        return self.models.get(model or "", self)

    @property
    def least_cpu(self) -> float:
        """CPUs that any trial gets at least, above 0."""
        return min(one.cpu for one in (self, *self.models.values()))

    def placement(self, config: Mapping[str, Any]) -> PlacementGroupFactory:
        """Returns what Tune is asked for by a trial's config; without one, what most trials get.

        Tune hands a warm actor on between trials whose placements are equal, and only between those.
        """
        model = config["trial"]["model"]["name"] if "trial" in config else None
        return PlacementGroupFactory([self.of(model).request()])

    @property
    def devices(self) -> float:
        """What device hours count: GPUs of a trial, or its CPUs if it has no GPU."""
        return self.gpu or self.cpu

    @property
    def told(self) -> str:
        """In words."""
        return f"{self.cpu:g} CPU" + (f", {self.gpu:g} GPU" if self.gpu else "")

    def request(self) -> dict[str, float]:
        """Returns what Ray is asked for."""
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


def gpus_in_reach(wanted: ModelResourcesConfig, otherwise: float | None = None) -> float:
    """Returns the GPUs that a trial asks for (a cluster may have them), else `otherwise`, else those that are here."""
    if wanted.gpu_memory_gb is not None:
        return 1.0  # a share of one
    if wanted.gpu is not None:
        return wanted.gpu
    return this_machine()[0]["GPU"] if otherwise is None else otherwise


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
    heads = [node for node in ray.nodes() if HEAD in node["Resources"]]  # type: ignore[no-untyped-call]
    return any(node["NodeManagerAddress"] == here for node in heads)


def trial_resources(
    wanted: ResourcesConfig, concurrent: int | None, nodes: Iterable[Node], gpus_gb: Sequence[float] = ()
) -> TrialResources:
    """Decides the resources of a trial.

    `auto`: one trial a GPU where there are GPUs (or a share of one, if more trials are asked for), else the CPUs are
    divided among the trials that run at a time (as many as there are CPUs, up to four).

    Args:
        wanted: What the sweep file says.
        concurrent: Trials at a time, if it says so.
        nodes: What each node offers, and each that may come.
        gpus_gb: Memory of the GPUs in GiB, as far as it is known.

    Raises:
        InputError: No node could ever supply what a trial asks for.
    """
    nodes = list(nodes)
    gpus = sum(node.get("GPU", 0) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes)
    trials = concurrent or int(gpus or min(4, cpus)) or 1
    asked = asked_gpu(wanted, gpus_gb, "resources")
    gpu = asked if asked is not None else gpu_share(gpus, trials)
    suited = [node for node in nodes if node.get("GPU", 0) >= gpu]
    at_a_time = concurrent or (max(1, int(gpus / gpu + ROUNDING)) if gpu else trials)
    cpu = wanted.cpu if wanted.cpu is not None else cpu_share(suited, at_a_time)
    if wanted.cpu is not None and concurrent is None:
        slots = sum(places(node, cpu, gpu) for node in suited)
        at_a_time = max(1, min(at_a_time, slots) if gpu else slots)
    refuse_impossible(cpu, gpu, nodes, "resources")
    models = {}
    for name, own in wanted.models.items():
        where = f"resources.models.{name}"
        own_gpu = asked_gpu(own, gpus_gb, where)
        models[name] = TrialResources(own.cpu or cpu, gpu if own_gpu is None else own_gpu, at_a_time)
        refuse_impossible(models[name].cpu, models[name].gpu, nodes, where)
    return TrialResources(cpu, gpu, at_a_time, models)


def asked_gpu(wanted: ModelResourcesConfig, gpus_gb: Sequence[float], where: str) -> float | None:
    """Returns the GPUs that a trial asks for, or its share by memory: as many as the smallest GPU holds; None = auto.

    Raises:
        InputError: The memory of GPUs is not known, or none holds that much.
    """
    if wanted.gpu_memory_gb is None:
        return wanted.gpu
    if not gpus_gb:
        raise InputError.of(
            "expected a GPU whose memory nvidia-smi tells, but no node that is up has one",
            where=f"{where}.gpu_memory_gb",
            cure="Write a share instead (`gpu: 0.5`), or start a node with a GPU first.",
        )
    trials = int(min(gpus_gb) / wanted.gpu_memory_gb + ROUNDING)
    if not trials:
        raise InputError.of(
            f"expected at most {min(gpus_gb):.1f} GiB a trial, the memory of the smallest GPU, "
            f"but got {wanted.gpu_memory_gb:g}",
            where=f"{where}.gpu_memory_gb",
            cure="Ask for less, or take the smaller GPUs out of the cluster.",
        )
    return 1.0 / trials


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


def refuse_impossible(cpu: float, gpu: float, nodes: Sequence[Node], where: str) -> None:
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
                where=f"{where}.{name.lower()}",
                cure=cure,
            )
    raise InputError.of(
        f"expected a node or node type with {cpu:g} CPUs and {gpu:g} GPUs together, but got none",
        where=where,
        cure=cure,
    )
