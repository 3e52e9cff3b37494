"""Connecting to a Ray cluster, or starting Ray on this machine for as long as a sweep runs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import ray
from rich.console import Console

from segdata.errors import InputError

__all__ = ["ray_session"]

# Read by Ray when it starts or connects.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow and the study hold what those would write
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a crashed trial ends without a score
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # trials are the work itself; 15, the default, starves them beside anything else
}


@contextmanager
def ray_session(address: str | None, console: Console) -> Iterator[None]:
    """Connects to `address`, or starts Ray here; shuts down or disconnects at the end.

    Raises:
        InputError: No cluster answers at `address`.
    """
    os.environ.update(SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    where = f"connecting to the cluster at {address}" if address else "starting Ray on this machine"
    with console.status(where) if console.is_terminal else nullcontext():
        try:
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # Workers must find our packages, not a `metrics.py` or `ensembling.py` in the user's folder.
                runtime_env={"env_vars": {"PYTHONSAFEPATH": "1"}},
            )
        except ConnectionError as error:
            raise InputError.of(
                "expected a running Ray cluster, but nothing answers", where=address, cure="Check --address."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()
