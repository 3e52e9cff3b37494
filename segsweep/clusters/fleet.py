"""The nodes that a command of a sweep works on, checked: what the command asks of them from then on. Imports ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from segsweep.clusters.absent_hosts import tell_absent_hosts
from segsweep.clusters.late_nodes import LateNodes
from segsweep.clusters.needs import Needs
from segsweep.clusters.node_checks import CheckedNodes, check_nodes
from segsweep.clusters.site import NodeSite, node_site
from segsweep.clusters.sweep_needs import sweep_needs
from segsweep.data_roles import SweepRoles
from segsweep.launch_checks import Checked
from segsweep.launch_resources import launch_resources
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources, cluster_nodes
from segsweep.sweep_file import Sweep

__all__ = ["Fleet", "check_on_cluster", "checked_fleet"]


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes of a cluster that are fit for a sweep.

    Attributes:
        storage: Folder that they share.
        needs: What they hold besides.
        checked: What the checks found.
    """

    storage: Path
    needs: Needs
    checked: CheckedNodes

    def site(self, origin: Path) -> NodeSite:
        """Returns what trials ask of the node that they are on; `origin` is a file of the sweep's folder."""
        return node_site(self.checked.ids, origin, self.needs)

    def late_nodes(self, resources: TrialResources, console: Console) -> LateNodes:
        """Returns the watch over nodes that join."""
        return LateNodes(self.checked.ids, self.storage, self.needs, resources.least_cpu, console)


def checked_fleet(sweep: Sweep, roles: SweepRoles, local: Mapping[str, Path], console: Console) -> Fleet:
    """Checks all nodes of the cluster that we are connected to.

    Args:
        sweep: What is to run there.
        roles: Its data.
        local: What `init: sweep:NAME` stands for.
        console: Where warnings go.

    Raises:
        InputError: As `check_nodes`.
    """
    needs = sweep_needs(sweep, roles, local)
    tell_absent_hosts(console)
    return Fleet(sweep.storage, needs, check_nodes(sweep.storage, needs, console))


def check_on_cluster(sweep: Sweep, checked: Checked, address: str, console: Console) -> None:
    """Checks the nodes of a cluster and what a trial would get there, and starts nothing.

    Raises:
        InputError: No cluster answers at `address`, a node is not fit, or none could supply what a trial asks for or a
            model needs.
    """
    with ray_session(address, console):
        fleet = checked_fleet(sweep, checked.roles, checked.local, console)
        launch_resources(sweep, cluster_nodes(), fleet.checked.gpus_gb)
