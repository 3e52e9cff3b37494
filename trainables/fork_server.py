"""Children that start with mmdet and mmseg already imported.

A fork server (Python's `multiprocessing`) pays the 10 s of imports once and then forks a child for each trial or
prediction: a native crash, a poisoned CUDA context or leaked memory ends with that child. The server itself never
initialises CUDA, since forked children could not use the device afterwards. A child leads a process group of its own,
so that its loader workers end with it. ADR 002 tells why.

Imports the standard library and segdata's errors only, so that driver and Ray actor stay thin.
"""

import contextlib
import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from segdata.errors import SegsweepError, TrialError

__all__ = ["Child", "Ended", "Message", "start_child", "start_server"]

Message = tuple[str, dict[str, Any]]

PRELOADED = "trainables.preload"
GRACE_S = 2.0  # between SIGTERM and SIGKILL
NATIVE_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
WORKER_SIGNAL = re.compile(r"DataLoader worker .*killed by signal: ([A-Z][a-z ]+)")  # torch's own words
SIGNALS_FROM_OUTSIDE = ("Killed", "Terminated")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    `crashed`: it would crash again (an exception or a native crash); `killed`: something outside ended it.
    """

    kind: Literal["done", "crashed", "killed"]
    reason: str = ""


@dataclass(slots=True)
class Child:
    """A running child; `receive` its messages until it gives an `Ended`, or `stop` it."""

    process: ForkServerProcess
    connection: Connection
    log: Path

    def receive(self, timeout_s: float | None) -> Message | Ended | None:
        """Waits for the next message; `Ended` once the child is gone, None after `timeout_s` seconds."""
        ready = wait([self.connection, self.process.sentinel], timeout_s)
        if not ready:
            return None
        if self.connection in ready:
            try:
                message: Message = self.connection.recv()
            except (EOFError, ConnectionResetError):
                return self.ended()
            if message[0] == "failed":
                self.process.join(GRACE_S)
                return Ended("killed" if message[1]["from_outside"] else "crashed", message[1]["reason"])
            return message
        return self.ended()

    def answer(self, word: str) -> None:
        """Lets a child that waits after a message go on; `receive` tells if it died meanwhile."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(word)

    def ended(self) -> Ended:
        """Waits for the end and tells its kind from the exit code."""
        self.process.join()
        code = self.process.exitcode
        if code == 0:
            return Ended("done")
        if code is not None and code < 0:
            number = signal.Signals(-code)
            kind: Literal["crashed", "killed"] = "crashed" if number in NATIVE_CRASHES else "killed"
            return Ended(kind, f"the training process ended by {number.name} (signal {-code}); see {self.log}")
        return Ended("crashed", f"the training process exited with code {code}; see {self.log}")

    def stop(self) -> None:
        """Ends the child and its loader workers: SIGTERM, then SIGKILL after a short grace; harmless when repeated."""
        if self.connection.closed:
            return
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(GRACE_S)
        # The group outlives its leader as long as it has members; a child stopped at once leads none yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            assert self.process.pid is not None
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()


def start_server() -> None:
    """Starts the fork server unless it runs; returns at once, the imports go on in the background.

    The server must find our packages and not the user's files of the same name: `-P` semantics by environment.
    """
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOADED])
    settings = {"PYTHONSAFEPATH": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1", "KMP_WARNINGS": "0"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def start_child(job: str, request: object, log: Path) -> Child:
    """Forks a child that runs `job(request, connection)` with its output appended to `log`.

    Args:
        job: "module:function", so that the caller need not import what the child does; it may send `Message`s.
        request: A picklable value.
        log: File that receives the child's standard output and error.
    """
    start_server()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_job, args=(job, request, theirs, log), daemon=False)
    with hidden_main_module():
        process.start()
    theirs.close()
    return Child(process, ours, log)


@contextlib.contextmanager
def hidden_main_module() -> Iterator[None]:
    """Keeps multiprocessing from running the caller's main script again in the child.

    That would import all of the command line or a Ray worker in every child, and run a script without a main guard.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def run_job(job: str, request: object, connection: Connection, log: Path) -> None:
    """The child's main: output to the log, death with the parent, errors as one message."""
    os.setsid()  # Ctrl-C in a terminal is the caller's to handle, and stop() ends the whole group
    redirect_output(log)
    die_with_parent()
    faulthandler.enable(all_threads=False)
    try:
        refuse_broken_imports()
        module, function = job.split(":")
        getattr(import_module(module), function)(request, connection)
    except SegsweepError as error:
        fail(connection, str(error))
    except Exception as error:
        traceback.print_exc()
        ended_by = signal_of_worker(error)
        detail = f", by signal: {ended_by}" if ended_by else ""
        reason = f"{type(error).__name__}: {error}{detail} (traceback in {log})"
        fail(connection, reason, from_outside=ended_by in SIGNALS_FROM_OUTSIDE)


def signal_of_worker(error: BaseException | None) -> str | None:
    """Returns the signal that ended a loader worker, where that is behind the error."""
    if error is None:
        return None
    found = WORKER_SIGNAL.search(str(error))
    return found[1].strip() if found else signal_of_worker(error.__cause__ or error.__context__)


def refuse_broken_imports() -> None:
    """multiprocessing drops errors of what the server imports first; `trainables.preload` keeps them for us.

    Raises:
        TrialError: mmdet, mmseg or what they need can't be imported.
    """
    failure: str | None = import_module(PRELOADED).FAILURE
    if failure is not None:
        sys.stderr.write(failure)
        raise TrialError.of(
            f"expected mmdet and mmseg to be importable, but got {failure.strip().splitlines()[-1]}",
            where="training process",
            cure="Run `segsweep doctor`.",
        )


def fail(connection: Connection, reason: str, *, from_outside: bool = False) -> None:
    """Tells the parent why the job failed and ends this process."""
    connection.send(("failed", {"reason": reason, "from_outside": from_outside}))
    raise SystemExit(1)


def redirect_output(log: Path) -> None:
    """Sends standard output and error, native code's too, to the end of `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def die_with_parent() -> None:
    """Kills this process and its workers as soon as the one that asked for it is gone, so that no orphan trains on."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
