"""The nodes of the cluster that we are connected to, and a question to each of them. Imports ray."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = ["Answers", "ClusterNode", "alive_nodes", "ask_each", "on_node"]

Answer = TypeVar("Answer")
POLL_S = 1.0
ANSWER_S = 120.0  # a worker starts within seconds, or a minute where the disk is busy


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node: Ray's id of it, its name for people, and what it offers (CPUs, GPUs, bytes, ...)."""

    id: str
    name: str
    resources: Mapping[str, float] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Answers(Generic[Answer]):
    """What nodes answered, and why others did not; nodes that have left the cluster are in neither."""

    given: Mapping[ClusterNode, Answer]
    lacking: Mapping[ClusterNode, str]

    def __bool__(self) -> bool:
        return bool(self.given)


def alive_nodes() -> list[ClusterNode]:
    """Returns the nodes that Ray believes to be there, in the order of their names.

    A node is called by its host's name, with its address where several have that name, and with the start of its id
    where several share a host.
    """
    found = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    hosts = Counter(node["NodeManagerHostname"] for node in found)
    places = Counter((node["NodeManagerHostname"], node["NodeManagerAddress"]) for node in found)
    nodes = []
    for node in found:
        host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
        name = f"{host} ({address})" if hosts[host] > 1 else host
        name = f"{name} {node['NodeID'][:8]}" if places[host, address] > 1 else name
        nodes.append(ClusterNode(node["NodeID"], name, dict(node["Resources"])))
    return sorted(nodes, key=lambda node: node.name)


def on_node(node: ClusterNode) -> NodeAffinitySchedulingStrategy:
    """Returns what pins a task or an actor to a node."""
    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def ask_each(
    nodes: Sequence[ClusterNode],
    question: Callable[..., Answer],
    arguments: Callable[[ClusterNode], tuple[Any, ...]] = lambda node: (),
    timeout_s: float = ANSWER_S,
    heard: Callable[[ClusterNode], None] = lambda node: None,
    over: Callable[[], bool] = lambda: False,
) -> Answers[Answer]:
    """Runs `question` once on each node, on no CPU, so that a busy node answers too.

    Args:
        nodes: Whom to ask.
        question: A function; one that is defined inside another travels by value, so that a node needs none of our
            packages for it.
        arguments: Returns what a node's question is called with.
        timeout_s: For all of them together.
        heard: Called as soon as a node has answered.
        over: Tells that nobody wants to know any more.
    """
    task = ray.remote(num_cpus=0, max_retries=0)(question)
    asked = {task.options(scheduling_strategy=on_node(node)).remote(*arguments(node)): node for node in nodes}
    given: dict[ClusterNode, Answer] = {}
    lacking: dict[ClusterNode, str] = {}
    waiting, end_s = list(asked), time.monotonic() + timeout_s
    while waiting and (left_s := end_s - time.monotonic()) > 0 and not over():
        ended, waiting = ray.wait(waiting, timeout=min(POLL_S, left_s))
        for reference in ended:
            node = asked[reference]
            heard(node)
            try:
                given[node] = ray.get(reference)
            except RayError as error:
                lacking[node] = last_line(error)
    for reference in waiting:
        ray.cancel(reference, force=True)
        lacking[asked[reference]] = f"no answer within {timeout_s:g} s"
    there = {node.id for node in alive_nodes()} if lacking else set()
    return Answers(given, {node: reason for node, reason in lacking.items() if node.id in there})


def last_line(error: RayError) -> str:
    """Returns what a Ray error is about; a task's traceback ends in it."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
