"""Connecting to a Ray cluster, or starting Ray on this machine for as long as a sweep runs."""

import contextlib
import logging
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import ray
from ray.exceptions import AuthenticationError
from rich.console import Console

from segdata.errors import InputError

__all__ = ["ray_session"]

# Read by Ray when it starts or connects.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow and the study hold what those would write
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a crashed trial ends without a score
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's state of all trials, which nobody reads: at the end only
    "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE": "1",  # else each checkpoint keeps a copy of its result in memory
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's own would end the worker at 95 %; the kernel ends the training process, whose batch then goes in parts.
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",  # trials are the work itself; 15, the default, starves them beside anything else
}
STDERR = 2
ANSWER_S = 10.0  # Ray itself gives up on a silent address after minutes only
# Workers must find our packages, not a `metrics.py` or `ensembling.py` in the user's folder.
WORKER_SETTINGS = {"PYTHONSAFEPATH": "1"}
TOKEN_CURE = (
    "Check --address. A cluster that asks for a token wants RAY_AUTH_MODE=token here too, and in ~/.ray/auth_token or "
    "the file that RAY_AUTH_TOKEN_PATH names the token that its nodes were started with; copy it from the head node."
)


@contextmanager
def ray_session(address: str | None, console: Console) -> Iterator[None]:
    """Connects to `address`, or starts Ray here; shuts down or disconnects at the end.

    What Ray prints meanwhile (that a node has died) goes where the console writes: standard output may carry JSON.

    Raises:
        InputError: No cluster answers at `address`, or it does not let us in.
    """
    os.environ.update(SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost worker's traceback lies in Tune's error.txt
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if address is not None and console.is_terminal:
        console.print(f"connecting to the cluster at {address}", highlight=False, markup=False)
    starting = console.status("starting Ray on this machine") if console.is_terminal else nullcontext()
    # Ray puts the driver's folder first on its workers' path, before ours and the standard library.
    with starting if address is None else stderr_held_back(), contextlib.chdir("/"):
        connect(address)
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would exit at once, and print a stack trace
    with contextlib.redirect_stdout(console.file):
        try:
            yield
        finally:
            ray.shutdown()


def connect(address: str | None) -> None:
    """Starts Ray, or raises InputError where nothing answers."""
    if address is None:
        with environment(WORKER_SETTINGS):  # a runtime_env would cost a local start 4 s for a second set of workers
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        return
    refuse_silent(address)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": WORKER_SETTINGS},
        )
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        raise refusal(address, error) from error


@contextmanager
def stderr_held_back() -> Iterator[None]:
    """Shows what is written to standard error only when the block has ended, and not at all if it refuses the input.

    For 20 s Ray tries again and again with a token that a cluster does not want, and its compiled parts write a line
    each time, past Python's logging.
    """
    sys.stderr.flush()
    shown, refused = os.dup(STDERR), False
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), STDERR)
        try:
            yield
        except (InputError, KeyboardInterrupt):
            refused = True
            raise
        finally:
            sys.stderr.flush()
            os.dup2(shown, STDERR)
            os.close(shown)
            held.seek(0)
            for text in () if refused else held:
                os.write(STDERR, text)


def refusal(address: str, error: Exception) -> InputError:
    """Returns what to say of a cluster that did not let us in."""
    text = str(error)
    if isinstance(error, RuntimeError) and text.startswith("Version mismatch"):
        found = re.findall(r"(?:Ray|Python): \S+", text)  # the cluster's two, then ours
        theirs, ours = (" and ".join(found[at : at + 2]).replace(":", "") for at in (0, 2))
        return InputError.of(
            f"expected the cluster's versions here, {theirs}, but got {ours}",
            where=address,
            cure="Run from the same image or checkout that the cluster's nodes were set up from.",
        )
    if isinstance(error, AuthenticationError):
        return InputError.of(
            f"expected a token that can be read, but got: {text.partition('. ')[0]}", where=address, cure=TOKEN_CURE
        )
    if isinstance(error, ConnectionError):
        return InputError.of(
            f"expected a Ray cluster that lets us in, but got none ({token_told()})", where=address, cure=TOKEN_CURE
        )
    told = (text.strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return InputError.of(f"expected a Ray cluster that lets us in, but got: {told}", where=address, cure="Check it.")


def token_told() -> str:
    """Says with which token we came; never the token itself."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return "we came without a token: RAY_AUTH_MODE is not `token` here"
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "the token is that of RAY_AUTH_TOKEN"
    return f"the token is that in {os.environ.get('RAY_AUTH_TOKEN_PATH') or '~/.ray/auth_token'}"


def refuse_silent(address: str) -> None:
    """Raises InputError if nothing listens at HOST:PORT; Ray's own words for an address are left to Ray."""
    if address in ("auto", "local") or "://" in address:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError.of(
            f"expected HOST:PORT of a Ray cluster, but got {address!r}", where="--address", cure="Check it."
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise InputError.of(
            "expected a running Ray cluster, but nothing answers", where=address, cure="Check --address."
        ) from error


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for processes that are started inside the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
