"""Children that start with mmdet and mmseg already imported.

A fork server (Python's `multiprocessing`) pays the 10 s of imports once and then forks a child for each trial or
prediction: a native crash, a poisoned CUDA context or leaked memory ends with that child. The server itself never
initialises CUDA, since forked children could not use the device afterwards. A child leads a process group of its own,
so that its loader workers end with it. ADR 002 tells why.

Imports the standard library and segdata's errors only, so that driver and Ray actor stay thin.
"""

import contextlib
import errno
import faulthandler
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from segdata.errors import SegsweepError, TrialError, TrialMemoryError, TrialSiteError

__all__ = ["Child", "Ended", "Message", "start_child", "start_server"]

Message = tuple[str, dict[str, Any]]
EndKind = Literal["done", "crashed", "killed", "out-of-memory", "failed"]

PRELOADED = "trainables.preload"
GRACE_S = 2.0  # between SIGTERM and SIGKILL
FULL_BYTES = 1 << 20  # less is no room for what a trial writes
STACKS_S = 1.0  # for the stacks to be written
DYING_S = 10.0  # of a server that answers no more, but that the system still counts among the living
# multiprocessing reads a child's exit status from a pipe, once, and looks at all children whenever it starts another:
# of two threads that do so at a time one would find it gone, and call it 255.
EXIT_STATUS = threading.Lock()
SERVER_ENDED = 255  # what multiprocessing says of a child whose server can't tell any more
NATIVE_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
WORKER_SIGNAL = re.compile(r"DataLoader worker .*killed by signal: ([A-Z][a-z ]+)")  # torch's own words
SIGNALS_FROM_OUTSIDE = ("Killed", "Terminated")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    `crashed`: it would crash again (an exception or a native crash); `killed`: something outside ended it;
    `out-of-memory`: it may do with less at a time; `failed`: the machine is at fault, such as a full disk.
    """

    kind: EndKind
    reason: str = ""


@dataclass(slots=True)
class Child:
    """A running child; `receive` its messages until it gives an `Ended`, or `stop` it.

    Attributes:
        process: The child.
        connection: To it.
        log: Where its output goes.
        heard_s: When it last sent anything, by time.monotonic.
        place: How far it said it was with its last ("alive", {"place": ...}).
    """

    process: ForkServerProcess
    connection: Connection
    log: Path
    heard_s: float = field(default_factory=time.monotonic)
    place: str = ""

    def receive(self, timeout_s: float | None) -> Message | Ended | None:
        """Waits for the next message; `Ended` once the child is gone, None after `timeout_s` seconds.

        Signs of life are noted and passed over.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            message = self.next_message(None if until_s is None else max(0.0, until_s - time.monotonic()))
            if isinstance(message, tuple):
                self.heard_s = time.monotonic()
                if message[0] == "alive":
                    self.place = message[1]["place"]
                    continue
            return message

    def next_message(self, timeout_s: float | None) -> Message | Ended | None:
        """Waits for whatever comes next."""
        ready = wait([self.connection, self.process.sentinel], timeout_s)
        if not ready:
            return None
        if self.connection in ready:
            try:
                message: Message = self.connection.recv()
            except (EOFError, ConnectionResetError):
                return self.ended()
            if message[0] == "failed":
                self.join(GRACE_S)
                return Ended(message[1]["kind"], message[1]["reason"])
            return message
        return self.ended()

    def answer(self, word: str) -> None:
        """Lets a child that waits after a message go on; `receive` tells if it died meanwhile."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(word)

    def ended(self) -> Ended:
        """Waits for the end and tells its kind from the exit code."""
        self.join()
        code = self.process.exitcode
        if code == 0:
            return Ended("done")
        if code is not None and code < 0:
            number = signal.Signals(-code)
            kind: EndKind = "crashed" if number in NATIVE_CRASHES else "killed"
            return Ended(kind, f"the training process ended by {number.name} (signal {-code}); see {self.log}")
        if code == SERVER_ENDED:
            return Ended(
                "killed", f"the server of the training process ended, or that exited with {code}; see {self.log}"
            )
        return Ended("crashed", f"the training process exited with code {code}; see {self.log}")

    def write_stacks(self) -> None:
        """Lets the child write into its log where each of its threads is."""
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGUSR1)
            self.join(STACKS_S)

    def stop(self) -> None:
        """Ends the child and its loader workers: SIGTERM, then SIGKILL after a short grace; harmless when repeated."""
        if self.connection.closed:
            return
        if self.alive():
            self.process.terminate()
            self.join(GRACE_S)
        # The group outlives its leader as long as it has members; a child stopped at once leads none yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            assert self.process.pid is not None
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.join()
        self.connection.close()

    def alive(self) -> bool:
        """Tells whether the child has not ended yet."""
        with EXIT_STATUS:
            return self.process.is_alive()

    def join(self, timeout_s: float | None = None) -> None:
        """Waits for the child's end, `timeout_s` seconds at most."""
        if wait([self.process.sentinel], timeout_s):
            with EXIT_STATUS:
                self.process.join()


def start_server() -> None:
    """Starts the fork server unless it runs; returns at once, the imports go on in the background.

    The server must find our packages and not the user's files of the same name: `-P` semantics by environment.
    """
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOADED])
    with server_settings():
        forkserver.ensure_running()


@contextlib.contextmanager
def server_settings() -> Iterator[None]:
    """Sets the environment that a server is to start with."""
    settings = {"PYTHONSAFEPATH": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1", "KMP_WARNINGS": "0"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
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
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_job, args=(job, request, theirs, log), daemon=False)
    fork_by_server(process)
    theirs.close()
    return Child(process, ours, log)


def fork_by_server(process: ForkServerProcess) -> None:
    """Starts `process`; a server that was just killed, and refuses before its end can be seen, is waited for.

    Raises:
        OSError, EOFError: No server answers.
    """
    until_s = time.monotonic() + DYING_S
    while True:
        start_server()
        try:
            with EXIT_STATUS, hidden_main_module(), server_settings():  # it looks for the server once more
                process.start()
        except (ConnectionError, EOFError):
            if time.monotonic() > until_s:
                raise
            time.sleep(0.02)
        else:
            return


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
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        refuse_broken_imports()
        module, function = job.split(":")
        getattr(import_module(module), function)(request, connection)
    except TrialMemoryError as error:
        fail(connection, "out-of-memory", str(error))
    except TrialSiteError as error:
        fail(connection, "failed", last_line(error))
    except SegsweepError as error:
        fail(connection, "crashed", last_line(error))
    except Exception as error:
        with contextlib.suppress(OSError):  # the log may lie on a full disk
            traceback.print_exc()
        refuse_full_disk(connection, error, log)
        ended_by = signal_of_worker(error)
        detail = f", by signal: {ended_by}" if ended_by else ""
        reason = f"{type(error).__name__}: {error}{detail} (traceback in {log})"
        fail(connection, "killed" if ended_by in SIGNALS_FROM_OUTSIDE else "crashed", reason)


def last_line(error: SegsweepError) -> str:
    """Returns an error's message; one that was raised in a loader worker comes below that worker's traceback."""
    return str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")


def refuse_full_disk(connection: Connection, error: Exception, log: Path) -> None:
    """Ends this process with the disk's fault where that is behind the error; torch words it in many ways."""
    free_bytes = shutil.disk_usage(log.parent).free
    if getattr(error, "errno", None) == errno.ENOSPC or free_bytes < FULL_BYTES:
        found = f"{free_bytes >> 20} MiB free ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        fail(connection, "failed", f"{log.parent}: expected room on the disk, but got {found}. Make room, then resume")


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


def fail(connection: Connection, kind: EndKind, reason: str) -> None:
    """Tells the parent how and why the job failed and ends this process."""
    connection.send(("failed", {"kind": kind, "reason": reason}))
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
