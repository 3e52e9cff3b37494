"""Fusing on a Ray cluster: a task a share of the shards. Nodes share the file system. Imports ray."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import ray
from rich.console import Console

from segdata.errors import InputError, SegsweepError
from segdata.prediction_meta import META_FILE
from segsweep.clusters.needs import Needs, files_at
from segsweep.clusters.node_checks import check_nodes
from segsweep.ensembles.fusing_job import FusingJob, fuse_share
from segsweep.ray_session import ray_session

__all__ = ["fuse_tasks"]

POLL_S = 1.0
RETRIES = 2  # of a task whose worker or node was lost; it finds what it has fused already


def fuse_tasks(
    jobs: Sequence[FusingJob], address: str, title: str, show: Callable[[int], None], console: Console
) -> None:
    """Runs each share as a Ray task on one CPU to its end.

    Raises:
        InputError: No cluster answers at `address`, a node of it is not fit, or a member is not what it should be.
        SegsweepError: A task failed, or its worker was lost again and again.
    """
    with ray_session(address, console):
        members = [files_at("a member", member, [META_FILE]) for member in jobs[0].members]
        check_nodes(jobs[0].folder, Needs(members), console)
        # Ray itself keeps tasks without a GPU off nodes with one as long as others have room; a test pins it.
        task = ray.remote(fuse_on_node).options(num_cpus=1, max_retries=RETRIES)
        running = [task.remote(job) for job in jobs]
        while running:
            ended, running = ray.wait(running, timeout=POLL_S)
            done = sum(map(jobs[0].is_done, jobs[0].missing))
            show(done * jobs[0].shard_images)
            try:
                refusals = [refusal for refusal in ray.get(ended) if refusal is not None]
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise SegsweepError(f"{title}: {reason}. What is fused is kept: the same command goes on.") from error
            if refusals:
                raise refusals[0]


def fuse_on_node(job: FusingJob) -> InputError | None:
    """The task: fuses a share, or returns what is wrong with the members."""
    share = job.missing[job.share :: job.shares]
    left = tuple(number for number in share if not job.is_done(number))
    try:
        for _ in fuse_share(replace(job, missing=left, share=0, shares=1)):
            pass
    except InputError as error:
        return InputError(str(error))
    return None
