"""What the autoscaler of the cluster is starting. Imports ray.

Ray tells people by `ray status`, and programs by nothing public: this file holds the shim, and a test pins it.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_initialized

__all__ = ["nodes_that_start", "nodes_that_start_of"]


def nodes_that_start() -> Mapping[str, int]:
    """Returns how many nodes of each type are being launched or set up; empty without an autoscaler, or an answer."""
    try:
        return asked()
    except RayError:  # a line of a display; Tune hears of a lost connection itself
        return {}


def asked() -> Mapping[str, int]:
    """Asks the cluster that we are connected to.

    Raises:
        RayError: It does not answer.
    """
    if not _internal_kv_initialized():  # type: ignore[no-untyped-call]
        return {}
    if is_autoscaler_v2(fetch_from_server=True):  # what it remembers may be of another cluster
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        counts = Counter(node.ray_node_type_name for node in status.pending_nodes)
        for launch in status.pending_launches:
            counts[launch.ray_node_type_name] += launch.count
        return counts
    written = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    return nodes_that_start_of(json.loads(written)) if written else {}


def nodes_that_start_of(status: Mapping[str, Any]) -> Mapping[str, int]:
    """The same, of what Ray's first autoscaler (that of `cluster/on_prem.yaml`) writes about itself."""
    report = status.get("autoscaler_report") or {}
    counts = Counter({str(kind): int(count) for kind, count in (report.get("pending_launches") or {}).items()})
    counts.update(str(kind) for _, kind, _ in report.get("pending_nodes") or ())
    return counts
