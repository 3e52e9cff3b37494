"""Where a trial is about to train: on a node that was checked, or on one that has joined since. Imports ray there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from segdata.errors import InputError
from segsweep.clusters.needs import Files, Needs, problem_of
from segsweep.clusters.versions import refuse_other_versions, version_question

__all__ = ["NodeSite", "node_site"]

LOOKED_AT = 3  # files of a folder; the driver's own check of the node looks at all


@dataclass(frozen=True, slots=True)
class NodeSite:
    """What a trial asks of the node that it is on; see `trainables.ray_trainable.Site`.

    Attributes:
        checked: Ids of the nodes that were found fit before the first trial.
        versions: The driver's.
        origin: A file of the sweep's folder, and what it says.
        needs: Some of what the trials read.
    """

    checked: frozenset[str]
    versions: Mapping[str, str]
    origin: tuple[Path, str]
    needs: Needs

    def problem(self) -> str | None:
        """Says why no trial should train on this node; None if it is fit."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return None if node in self.checked else self.problem_of_late(node)

    def problem_of_late(self, node: str) -> str | None:
        """Says what is wrong with a node that joined after the start."""
        try:
            refuse_other_versions(self.versions, {node[:8]: version_question()()})
        except InputError as error:
            return str(error)
        path, text = self.origin
        try:
            found = path.read_text()
        except OSError as error:
            found = error.strerror or ""
        if found != text:
            return f"{path}: expected the sweep's folder on node {node[:8]} as on the driver, but it does not see it"
        lacking = problem_of(self.needs)
        return None if lacking is None else f"node {node[:8]}: {lacking}"


def node_site(checked: frozenset[str], origin: Path, needs: Needs) -> NodeSite:
    """Returns the site of a launch on a cluster; `origin` lies in the sweep's folder."""
    some = replace(needs, files=[at_most(files, LOOKED_AT) for files in needs.files])
    return NodeSite(checked, version_question()(), (origin, origin.read_text()), some)


def at_most(files: Files, count: int) -> Files:
    """Returns some of the files, evenly."""
    names = list(files.sizes)
    kept = names[:: max(1, -(-len(names) // count))]
    return replace(files, sizes={name: files.sizes[name] for name in kept})
