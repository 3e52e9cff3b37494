"""Predicting on a Ray cluster: a task a share, each in a child of its node's fork server, as on one machine.

All nodes must see the weights and the folder of the parts under the same paths, and the images, unless they were
fetched from a URL: then each node copies them once. Imports ray.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import ray
from rich.console import Console

from segdata.errors import InputError, TrialSiteError
from segdata.image_cache import copy_to_node
from segsweep.clusters.needs import Files, Needs, files_at, with_modules
from segsweep.clusters.node_checks import check_nodes
from segsweep.ray_session import ray_session
from trainables.fork_server import Ended, start_child
from trainables.prediction_job import PredictionJob

__all__ = ["run_tasks"]

POLL_S = 1.0


def run_tasks(
    jobs: Sequence[PredictionJob], address: str, title: str, show: Callable[[int], None], console: Console
) -> None:
    """Runs each share as a Ray task to its end; where the cluster has GPUs, each with one.

    Raises:
        InputError: No cluster answers at `address`, one of its nodes is not fit, or the model is no such files.
        TrialError: A share failed.
    """
    from segsweep.predicting import PREDICT, refuse_failure

    with ray_session(address, console):
        check_nodes(jobs[0].parts, needs_of(jobs[0]), console)
        nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        cpus = min(jobs[0].threads, max(node.get("CPU", 0) for node in nodes))
        gpus = min(1, max(node.get("GPU", 0) for node in nodes))
        # With GPUs named here, not by `options`, Ray gives each task a worker, and so a fork server, of its own.
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=2)(predict_on_node)
        running = [task.remote(PREDICT, job, job.parts / f"predict-{job.share}.log") for job in jobs]
        missing = {file.key for file in jobs[0].files if file.image.file_name in jobs[0].missing}
        while running:
            ended, running = ray.wait(running, timeout=POLL_S)
            show(sum((jobs[0].parts / "images" / f"{key}.json").is_file() for key in missing))
            for end in ray.get(ended):
                if isinstance(end, InputError):
                    raise end
                refuse_failure(end, title)


def needs_of(job: PredictionJob) -> Needs:
    """Returns what every node must hold or reach: the images that are left, the model, the user's modules."""
    files = [files_at("the model", path.parent, [path.name]) for path in (job.config, job.checkpoint)]
    if job.sums is None:
        left = {file.image.file_name: file.num_bytes for file in job.files if file.image.file_name in job.missing}
        needs = Needs([Files("the images", job.images, left), *files])
    else:
        needs = Needs(files, remote={job.sums.source: job.sums.files[0].name})
    return needs if job.folder is None else with_modules(needs, job.custom_imports, job.folder)


def predict_on_node(function: str, job: PredictionJob, log: Path) -> Ended | InputError:
    """The task: runs a share in a child, so that a native crash ends neither the worker nor the node."""
    try:
        images = job.images if job.sums is None else copy_to_node(job.sums).folder
    except (OSError, TrialSiteError) as error:
        return Ended("failed", str(error))
    child = start_child(function, replace(job, images=images, sums=None), log)
    try:
        while not isinstance(message := child.receive(None), Ended):
            if message is not None and message[0] == "refused":
                return InputError(message[1]["reason"])
        return message
    finally:
        child.stop()
