"""Nodes that join while a sweep runs: they are checked as those before them were. Imports ray.

Ray gives trials to a node as soon as it has joined, and would give them to an unfit one again and again, since it is
always free. So placeholders take the CPUs of an unfit node, of which each trial wants some: a trial that is there ends,
and its next attempt lands elsewhere. A node that is mended is looked at again, and its places are given back.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError
from rich.console import Console

from segdata.errors import InputError
from segsweep.clusters.needs import Needs
from segsweep.clusters.node_checks import CheckedNodes, fit_nodes
from segsweep.clusters.nodes import ClusterNode, alive_nodes, on_node
from segsweep.resources import places

__all__ = ["LateNodes"]

POLL_S = 5.0
END_S = 30.0  # for a look that is under way when all is over: it gives up within seconds
AT_A_TIME = 16  # nodes that are looked at
AGAIN_S = 60.0  # between two looks at a node that is not fit


class LateNodes:
    """Checks nodes that join, for as long as the block lasts.

    Args:
        known: Ids of the nodes that were checked before.
        storage: As in `check_nodes`.
        needs: What nodes must hold.
        cpu: Of the trial that gets fewest; a placeholder takes as many.
        console: Where warnings go.
    """

    def __init__(self, known: frozenset[str], storage: Path, needs: Needs, cpu: float, console: Console) -> None:
        self.fit, self.storage, self.needs = set(known), storage, needs
        self.cpu, self.console = cpu, console
        self.unfit: dict[str, tuple[float, str]] = {}  # id -> when it was looked at, what was wrong
        self.placeholders: dict[str, list[Any]] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="late-nodes", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self.thread.join(END_S)
        for node in list(self.placeholders):
            self.give_back(node)

    def watch(self) -> None:
        """Looks every few seconds until it is over."""
        told = ""
        while not self.over.wait(POLL_S):
            try:
                self.look(alive_nodes())
            except (RayError, RuntimeError, OSError) as error:  # the connection is lost; Tune hears of that too
                if not self.over.is_set() and str(error) != told:
                    told = str(error)
                    self.say(f"nodes that join cannot be checked: {(told or type(error).__name__).splitlines()[-1]}")

    def look(self, nodes: list[ClusterNode]) -> None:
        """Checks the nodes that are new, and those that were unfit a minute ago."""
        now_s = time.monotonic()
        due = [
            node
            for node in nodes
            if node.id not in self.fit and now_s - self.unfit.get(node.id, (-AGAIN_S, ""))[0] >= AGAIN_S
        ]
        with ThreadPoolExecutor(AT_A_TIME) as pool:  # one that does not answer holds up no other
            looks = {pool.submit(self.check, node): node for node in due}
            for done in as_completed(looks):
                if not self.over.is_set():
                    self.judge(looks[done], done.result())

    def check(self, node: ClusterNode) -> CheckedNodes | InputError:
        """Asks a node; returns why it is not fit, if it is not."""
        try:
            return fit_nodes([node], self.storage, self.needs, self.over.is_set)
        except InputError as error:
            return error

    def judge(self, node: ClusterNode, found: CheckedNodes | InputError) -> None:
        """Lets trials come to a node or keeps them off it."""
        _, before = self.unfit.get(node.id, (0.0, ""))
        if isinstance(found, InputError):
            self.refuse(node, str(found), before)
            return
        self.accept(node, found.ids, before)
        for remark in found.remarks:
            self.say(remark)

    def refuse(self, node: ClusterNode, problem: str, before: str) -> None:
        """Keeps trials off a node."""
        self.unfit[node.id] = (time.monotonic(), problem)
        if node.id not in self.placeholders:
            self.placeholders[node.id] = take_places(node, self.cpu)
        if problem != before:
            self.say(f"node {node.name} has joined, but no trial will train there: {problem}")

    def accept(self, node: ClusterNode, ids: frozenset[str], before: str) -> None:
        """Lets trials come to a node; one that has left meanwhile is not among `ids`."""
        self.fit |= ids
        self.unfit.pop(node.id, None)
        self.give_back(node.id)
        if before and ids:
            self.say(f"node {node.name} is fit now")

    def give_back(self, node: str) -> None:
        """Ends the placeholders of a node."""
        for placeholder in self.placeholders.pop(node, ()):
            ray.kill(placeholder)

    def say(self, text: str) -> None:
        self.console.print(f"warning: {text}", highlight=False, soft_wrap=True, markup=False)


def take_places(node: ClusterNode, cpu: float) -> list[Any]:
    """Starts as many placeholders on a node as it has CPUs for; each waits until these are free."""

    class Placeholder:  # by value: the node may not have our packages
        pass

    made = ray.remote(num_cpus=cpu)(Placeholder)
    return [made.options(scheduling_strategy=on_node(node)).remote() for _ in range(places(node.resources, cpu, 0))]
