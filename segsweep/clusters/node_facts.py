"""What a node finds out about itself when it is asked, by a function that runs there. Imports the standard library."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass

from segsweep.clusters.needs import Needs, problem_of
from segsweep.clusters.shared_storage import Seen, StorageProbe, look

__all__ = ["MIB_A_GIB", "NodeFacts", "NodeQuestion", "facts_here", "gpu_memory_here", "gpu_memory_in_reach"]

MIB_A_GIB = 1024
GPU_QUERY = ("--query-gpu=memory.total", "--format=csv,noheader,nounits")
GPU_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class NodeQuestion:
    """What a node is asked: to look into the storage and leave `file` there."""

    probe: StorageProbe
    file: str


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node found.

    Attributes:
        seen: In the storage.
        problem: What it lacks, None = nothing.
        gpus_gb: Memory of each GPU in GiB, as far as the driver's tool tells.
        ended_unix_s: Its clock when it had found all that.
    """

    seen: Seen
    problem: str | None
    gpus_gb: tuple[float, ...]
    ended_unix_s: float


def facts_here(question: NodeQuestion, needs: Needs) -> NodeFacts:
    """Answers on the node that calls it, and says what it lacks of `needs`."""
    seen = look(question.probe, question.file)
    problem = problem_of(needs)
    return NodeFacts(seen, problem, gpu_memory_here(), time.time())


def gpu_memory_in_reach() -> tuple[float, ...]:
    """Returns the memory of the GPUs that programs on this machine are given, in GiB."""
    return gpu_memory_here(os.environ.get("CUDA_VISIBLE_DEVICES"))


def gpu_memory_here(visible: str | None = None) -> tuple[float, ...]:
    """Returns the memory of each GPU of this machine in GiB; empty if there is none, or no nvidia-smi to say so.

    Args:
        visible: The GPUs that count, as CUDA_VISIBLE_DEVICES names them; None = all.
    """
    program = shutil.which("nvidia-smi")
    if program is None or visible in ("", "-1"):
        return ()
    chosen = [] if visible is None else [f"--id={visible}"]
    try:
        done = subprocess.run([program, *chosen, *GPU_QUERY], capture_output=True, text=True, timeout=GPU_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = done.stdout.split("\n") if done.returncode == 0 else []
    return tuple(int(line) / MIB_A_GIB for line in lines if line.strip().isdecimal())
