"""Machines of the user's own that `ray up` was told of and that are not in the cluster. Imports ray.

Ray's autoscaler on the head goes on trying to start them, and tells nobody but its own log.
"""

from pathlib import Path

import ray
from rich.console import Console

from segsweep.nodes_to_come import BOOTSTRAP_FILE, hosts_to_come
from segsweep.resources import is_head

__all__ = ["tell_absent_hosts"]


def tell_absent_hosts(console: Console) -> None:
    """Prints one warning that names them, on the head, which alone knows them; they may still come."""
    left = Path(BOOTSTRAP_FILE).expanduser()
    if not (is_head() and left.is_file()):
        return
    present = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
    if absent := hosts_to_come(present, left):
        are = "is" if len(absent) == 1 else "are"
        console.print(
            f"warning: {', '.join(absent)} of the cluster's worker_ips {are} not up; this goes on without, and a "
            "machine that joins later is checked then. Where you typed `ray up`, `segsweep doctor --cluster FILE` says "
            "whether it lets you in, and `ray monitor FILE` what Ray tries.",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
