"""The checks of all nodes before the first trial, and of those that join later. Imports ray.

Two rounds: versions, by a function that needs none of our packages there; then, the packages being the same, whatever
else a trial depends on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from rich.console import Console

from segdata.errors import InputError
from segsweep.clusters.needs import Needs
from segsweep.clusters.node_facts import NodeFacts, NodeQuestion, facts_here
from segsweep.clusters.nodes import Answers, ClusterNode, alive_nodes, ask_each
from segsweep.clusters.shared_storage import StorageProbe, storage_probe
from segsweep.clusters.versions import refuse_other_versions, version_question

__all__ = ["CheckedNodes", "check_nodes", "remarks", "refuse_unfit"]

FACTS_S = 300.0
FILE_S = 0.01  # to look at each, of several at a time, over a busy network file system
SLOW_WRITE_S = 1.0
SKEW_S = 5.0

SHARE = (
    "Mount the same file system (NFS, EFS, Filestore, Azure Files) at this path on all nodes, or set storage.path to "
    "a folder on one."
)


@dataclass(frozen=True, slots=True)
class CheckedNodes:
    """Nodes that are fit: their ids, the GPUs' memory in GiB, and what is worth saying about them."""

    ids: frozenset[str]
    gpus_gb: tuple[float, ...]
    remarks: tuple[str, ...]


def check_nodes(storage: Path, needs: Needs, console: Console) -> CheckedNodes:
    """Checks all nodes that are there, and prints what is worth a warning. Takes seconds; leaves nothing behind.

    Raises:
        InputError: A node does not answer, runs other software, does not see the storage or lacks data; says which.
    """
    nodes = alive_nodes()
    console.print(f"checking {len(nodes)} node{'s' * (len(nodes) != 1)} of the cluster", highlight=False)
    checked = fit_nodes(nodes, storage, needs)
    for remark in checked.remarks:
        console.print(f"warning: {remark}", highlight=False, soft_wrap=True, markup=False)
    return checked


def fit_nodes(
    nodes: Sequence[ClusterNode], storage: Path, needs: Needs, over: Callable[[], bool] = lambda: False
) -> CheckedNodes:
    """Asks nodes, and refuses those that are not fit; those that leave the cluster meanwhile do not count.

    Raises:
        InputError: As `check_nodes`; also when it is `over` before they have answered.
    """
    ask = version_question()
    versions = ask_each(nodes, ask, over=over)
    refuse_silent_nodes(versions.lacking)
    refuse_other_versions(ask(), {node.name: found for node, found in versions.given.items()})
    with storage_probe(storage) as probe:
        ended_s: dict[ClusterNode, float] = {}
        sent = ray.put(needs)  # once for all: names of many files are megabytes
        answers: Answers[NodeFacts] = ask_each(
            list(versions.given),
            facts_here,
            lambda node: (NodeQuestion(probe, node.id), sent),
            FACTS_S + FILE_S * sum(len(files.sizes) for files in needs.files),
            heard=lambda node: ended_s.__setitem__(node, time.time()),
            over=over,
        )
        refuse_silent_nodes(answers.lacking)
        facts = {node.name: found for node, found in answers.given.items()}
        returned = {node.name: probe.came_back(node.id, found.seen.own) for node, found in answers.given.items()}
        refuse_unfit(storage, probe, facts, returned)
    skews = {node.name: found.ended_unix_s - ended_s[node] for node, found in answers.given.items()}
    return CheckedNodes(
        frozenset(node.id for node in answers.given),
        tuple(
            memory for node, found in answers.given.items() if node.resources.get("GPU", 0) for memory in found.gpus_gb
        ),
        remarks(storage, facts, skews),
    )


def refuse_silent_nodes(lacking: Mapping[ClusterNode, str]) -> None:
    """Raises InputError if a node that is in the cluster did not answer."""
    if lacking:
        told = "; ".join(f"node {node.name}: {reason}" for node, reason in lacking.items())
        raise InputError.of(
            f"expected an answer of all nodes, but got {told}",
            where="--address",
            cure="See the node's Ray logs (/tmp/ray/session_latest/logs), or take the node out of the cluster.",
        )


def refuse_unfit(
    storage: Path, probe: StorageProbe, facts: Mapping[str, NodeFacts], returned: Mapping[str, bool]
) -> None:
    """Raises InputError that names the nodes that do not share the storage, else those that lack data.

    Args:
        storage: The folder.
        probe: What the driver left there.
        facts: By node.
        returned: Whether the driver found what the node left, by node.
    """
    apart = []
    for node, found in facts.items():
        if found.seen.word != probe.word:
            apart.append(f"node {node} does not see what the driver writes there")
        elif found.seen.problem:
            apart.append(f"node {node} cannot write there: {found.seen.problem}")
        elif not returned[node]:
            apart.append(f"the driver does not see what node {node} writes there")
    if apart:
        raise InputError.of(
            f"expected a folder that all nodes share, but {'; '.join(apart)}", where=storage, cure=SHARE
        )
    lacking = [f"node {node}: {found.problem}" for node, found in facts.items() if found.problem is not None]
    if lacking:
        raise InputError(
            f"{'; '.join(lacking)}. Give that node what is here: files at the same path, or on a file system that all "
            "share; packages; credentials."
        )


def remarks(storage: Path, facts: Mapping[str, NodeFacts], skews: Mapping[str, float]) -> tuple[str, ...]:
    """Returns warnings about slow storage and clocks that are apart; skews in seconds by node, positive = ahead."""
    slow = [
        f"{storage}: {SLOW_WRITE_S:g} s or less is expected for a small file, but node {node} took "
        f"{found.seen.write_s:.1f} s; epochs will wait for checkpoints"
        for node, found in facts.items()
        if found.seen.write_s > SLOW_WRITE_S
    ]
    apart = [
        f"the clock of node {node} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the driver's; "
        "budget.hours ends its trials that much " + ("too early" if skew > 0 else "too late") + ". Set up NTP there."
        for node, skew in skews.items()
        if abs(skew) > SKEW_S
    ]
    return (*slow, *apart)
