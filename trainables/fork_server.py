"""Children that start with mmdet and mmseg already imported.

A fork server (Python's `multiprocessing`) pays the 10 s of imports once and then forks a child for each trial or
prediction: a native crash, a poisoned CUDA context or leaked memory ends with that child. The server itself never
initialises CUDA, since forked children could not use the device afterwards. ADR 002 tells why.

Imports the standard library and segdata's errors only, so that driver and Ray actor stay thin.
"""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from segdata.errors import SegsweepError

__all__ = ["Child", "Ended", "Message", "start_child", "start_server"]

Message = tuple[str, dict[str, Any]]

PRELOADED = ["trainables.preload"]
GRACE_S = 2.0  # between SIGTERM and SIGKILL
NATIVE_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


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
                self.process.join()
                return Ended("crashed", str(message[1]["reason"]))
            return message
        return self.ended()

    def answer(self, word: str) -> None:
        """Lets a child that waits after a message go on."""
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
        """Ends the child: SIGTERM, then SIGKILL after a short grace. Safe to call more than once."""
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def start_server() -> None:
    """Starts the fork server unless it runs; returns at once, the imports go on in the background.

    The server must find our packages and not the user's files of the same name: `-P` semantics by environment.
    """
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
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
    process.start()
    theirs.close()
    return Child(process, ours, log)


def run_job(job: str, request: object, connection: Connection, log: Path) -> None:
    """The child's main: output to the log, death with the parent, errors as one message."""
    redirect_output(log)
    die_with_parent()
    faulthandler.enable(all_threads=False)
    try:
        module, function = job.split(":")
        getattr(import_module(module), function)(request, connection)
    except SegsweepError as error:
        connection.send(("failed", {"reason": str(error)}))
        raise SystemExit(1) from error
    except Exception as error:
        traceback.print_exc()
        connection.send(("failed", {"reason": f"{type(error).__name__}: {error} (traceback in {log})"}))
        raise SystemExit(1) from error


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
    """Kills this process as soon as the one that asked for it is gone, so that no orphan trains on."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()
