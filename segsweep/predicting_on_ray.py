"""Predicting on a Ray cluster: a task a share, each in a child of its node's fork server, as on one machine.

All nodes must see the images, the weights and the folder of the parts under the same paths. Imports ray.
"""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import ray
from rich.console import Console

from segdata.errors import InputError
from segsweep.ray_session import ray_session
from trainables.fork_server import Ended, start_child
from trainables.prediction_job import PredictionJob

__all__ = ["run_tasks"]

POLL_S = 1.0
ANSWER_S = 10.0  # Ray itself gives up on a silent address after minutes only


def run_tasks(
    jobs: Sequence[PredictionJob], address: str, title: str, show: Callable[[int], None], console: Console
) -> None:
    """Runs each share as a Ray task to its end; where the cluster has GPUs, each with one.

    Raises:
        InputError: No cluster answers at `address`, or config and checkpoint are no such files.
        TrialError: A share failed.
    """
    from segsweep.predicting import PREDICT, refuse_failure

    refuse_silent(address)
    with ray_session(address, console):
        nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        cpus = min(jobs[0].threads, max(node.get("CPU", 0) for node in nodes))
        gpus = min(1, max(node.get("GPU", 0) for node in nodes))
        task = ray.remote(predict_on_node).options(num_cpus=cpus, num_gpus=gpus, max_retries=2)
        running = [task.remote(PREDICT, job, job.parts / f"predict-{job.share}.log") for job in jobs]
        missing = {file.key for file in jobs[0].files if file.image.file_name in jobs[0].missing}
        while running:
            ended, running = ray.wait(running, timeout=POLL_S)
            show(sum((jobs[0].parts / "images" / f"{key}.json").is_file() for key in missing))
            for end in ray.get(ended):
                if isinstance(end, InputError):
                    raise end
                refuse_failure(end, title)


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


def predict_on_node(function: str, job: PredictionJob, log: Path) -> Ended | InputError:
    """The task: runs a share in a child, so that a native crash ends neither the worker nor the node."""
    child = start_child(function, job, log)
    try:
        while not isinstance(message := child.receive(None), Ended):
            if message is not None and message[0] == "refused":
                return InputError(message[1]["reason"])
        return message
    finally:
        child.stop()
