"""A lock among the processes of a node, which goes with the process that holds it, however it ends.

Imports the standard library only.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["node_lock"]

POLL_S = 0.05


@contextmanager
def node_lock(path: Path, wait_s: float | None, meanwhile: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a lock, a file that stays.

    Args:
        path: The file; its folder exists.
        wait_s: How long to wait for another process; None = for as long as it takes.
        meanwhile: Called again and again while waiting; what it raises ends the wait.

    Raises:
        OSError: Another process holds it for too long, or the file system has no locks.
    """
    began = time.monotonic()
    with path.open("ab") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if wait_s is not None and time.monotonic() > began + wait_s:
                    raise OSError(f"another process holds {path} for over {wait_s:.0f} s") from error
                meanwhile()
                time.sleep(POLL_S)
        os.utime(stream.fileno())
        yield
