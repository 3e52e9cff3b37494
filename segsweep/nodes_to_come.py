"""Which machines a cluster made by `ray up` may still start.

Ray tells a driver of node types only where KubeRay reports them. `ray up` leaves its own file on the head, from which
the autoscaler there works: who is on the head can read it too.
"""

import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["BOOTSTRAP_FILE", "HEAD", "hosts_to_come", "nodes_to_come"]

BOOTSTRAP_FILE = "~/ray_bootstrap_config.yaml"  # the presets hand it to `ray start --autoscaling-config`
COUNTED = ("CPU", "GPU")
HEAD = "node:__internal_head__"  # what Ray counts as a resource of the head


def nodes_to_come(present: Sequence[Mapping[str, float]], file: Path) -> list[dict[str, float]]:
    """Returns the resources of each worker that is not up yet; none for kinds whose size the file does not say.

    Args:
        present: Resources of the nodes that are up, the head among them.
        file: What `ray up` left.

    Raises:
        OSError, yaml.YAMLError: It can't be read.
    """
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    most = config.get("max_workers", 0)
    come: list[dict[str, float]] = []
    for name, kind in config["available_node_types"].items():
        size = size_of(kind.get("resources", {}))
        if name == config["head_node_type"] or not any(size.values()):
            continue
        up = sum(size_of(node) == size and HEAD not in node for node in present)
        come += [size] * max(0, min(kind.get("max_workers", 0), most) - up)
    return come


def hosts_to_come(present: Collection[str], file: Path) -> list[str]:
    """Returns the user's own machines (provider `local`) that should be up as workers and are not, as the file names
    them; none if as many are up as the autoscaler keeps.

    Args:
        present: Addresses of the nodes that are up.
        file: What `ray up` left.

    Raises:
        OSError, yaml.YAMLError: It can't be read.
    """
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    workers: Sequence[str] = config["provider"].get("worker_ips", ())
    if config["provider"]["type"] != "local" or not workers:
        return []
    kept = config["available_node_types"][config["head_node_type"]].get("min_workers", len(workers))
    absent = [worker for worker in workers if address_of(worker) not in present]
    return absent if len(workers) - len(absent) < kept else []


def address_of(host: str) -> str:
    """Returns a host's address, as Ray looks it up; its name if it has none."""
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host


def size_of(resources: Mapping[str, Any]) -> dict[str, float]:
    """Returns the CPUs and GPUs among a node's resources."""
    return {name: float(resources.get(name, 0)) for name in COUNTED}
