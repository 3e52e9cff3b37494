"""The training processes of one trial, one for each of its GPUs, as if they were one child of the fork server.

The first leads: it reports and is answered. Whoever ends badly ends the trial, and what is told is its reason rather
than the broken connections that the others find. Standard library and segdata's errors only.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from trainables.fork_server import Child, Ended, Message, start_child

__all__ = ["Crew", "start_crew"]

LAST_WORDS_S = 3.0  # in which the others say why they ended
# Words of a process that has lost another one.
LOST_ANOTHER = ("gloo", "NCCL", "nccl", "Connection reset", "Connection closed", "torch.distributed", "ProcessGroup")


@dataclass(slots=True)
class Crew:
    """Running children, the leader first; `receive` and `stop` as of a single one."""

    children: Sequence[Child]

    @property
    def leader(self) -> Child:
        return self.children[0]

    @property
    def log(self) -> Path:
        """Where all of them write."""
        return self.leader.log

    @property
    def place(self) -> str:
        """How far the leader said it was."""
        return self.leader.place

    @property
    def heard_s(self) -> float:
        """When any of them last sent anything, by time.monotonic."""
        return max(child.heard_s for child in self.children)

    def heard(self) -> None:
        """Counts their silence from now on."""
        self.leader.heard_s = time.monotonic()

    def receive(self, timeout_s: float) -> Message | Ended | None:
        """Waits for the leader's next message; `Ended` once it is done or any of them has ended otherwise."""
        until_s = time.monotonic() + timeout_s
        while True:
            child = self.first_with_news(max(0.0, until_s - time.monotonic()))
            if child is None:
                return None
            message = child.receive(0.0)
            if isinstance(message, Ended) and message.kind != "done":
                return self.reason_of(message, child)
            if child is self.leader and message is not None:
                return message

    def first_with_news(self, timeout_s: float) -> Child | None:
        """Waits for a child that has sent something or has ended; an ended one that is done has no more news."""
        sources: dict[Any, Child] = {}
        for child in self.children:
            if child is self.leader or child.alive():
                sources |= {child.connection: child, child.process.sentinel: child}
        return next((sources[ready] for ready in wait(list(sources), timeout_s)), None)

    def reason_of(self, first: Ended, teller: Child) -> Ended:
        """Returns how the one ended that brought the others down."""
        known = [first]
        until_s = time.monotonic() + LAST_WORDS_S
        for child in self.children:
            if child is teller:
                continue
            message: Message | Ended | None = ("", {})
            while isinstance(message, tuple):
                message = child.receive(max(0.0, until_s - time.monotonic()))
            if isinstance(message, Ended) and message.kind != "done":
                known.append(message)
        causes = [ended for ended in known if not any(words in ended.reason for words in LOST_ANOTHER)]
        return (causes or known)[0]

    def answer(self, word: str) -> None:
        """Lets the leader go on."""
        self.leader.answer(word)

    def write_stacks(self) -> None:
        """Lets each of them write into the log where its threads are."""
        for child in self.children:
            child.write_stacks()

    def stop(self) -> None:
        """Ends all of them and their loader workers."""
        for child in self.children:
            child.stop()


def start_crew(job: str, requests: Sequence[object], log: Path) -> Crew:
    """Starts a child for each request."""
    return Crew([start_child(job, request, log) for request in requests])
