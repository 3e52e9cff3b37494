"""Which machines a cluster made by `ray up` may still start.

Ray tells a driver of node types only where KubeRay reports them. `ray up` leaves its own file on the head, from which
the autoscaler there works: who is on the head can read it too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["BOOTSTRAP_FILE", "HEAD", "nodes_to_come"]

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


def size_of(resources: Mapping[str, Any]) -> dict[str, float]:
    """Returns the CPUs and GPUs among a node's resources."""
    return {name: float(resources.get(name, 0)) for name in COUNTED}
