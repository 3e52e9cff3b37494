"""What memory there was when it ran out: how much this process used at most, and who holds the rest. Imports torch."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from segdata.errors import TrialMemoryError

__all__ = ["memory_errors_told"]

GIB = 2**30
# Torch's words where the host's allocator fails; on a device there is an exception of its own.
HOST_WORDS = ("can't allocate memory", "not enough memory", "Cannot allocate memory")
HOLDERS = ("nvidia-smi", "--query-compute-apps=pid,used_memory,process_name", "--format=csv,noheader,nounits")


@contextmanager
def memory_errors_told(where: object) -> Iterator[None]:
    """Turns what host or device say when memory runs out into an error that tells who holds it.

    Raises:
        TrialMemoryError: Memory ran out inside the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise told(where, device_text()) from error
    except MemoryError as error:
        raise told(where, host_text()) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in HOST_WORDS):
            raise
        raise told(where, host_text()) from error


def told(where: object, memory: str) -> TrialMemoryError:
    """Returns the error."""
    return TrialMemoryError.of(
        f"expected memory for a training step, but it ran out: {memory}",
        where=where,
        cure="Lower batch_size, crop_size or image size, or give trials more memory by `resources`",
    )


def device_text() -> str:
    """Returns what others hold of the device, and what this process held at most."""
    if not torch.cuda.is_available():
        return f"this process took at most {gib(peak_host_bytes())}"
    free, total = torch.cuda.mem_get_info()
    own, peak = torch.cuda.memory_reserved(), torch.cuda.max_memory_allocated()
    others = max(0, total - free - own)
    named = ", ".join(f"{name} {gib(size)} (process {pid})" for pid, size, name in holders() if pid != os.getpid())
    return (
        f"others hold {gib(others)} of the device's {gib(total)}{f': {named}' if named else ''}; "
        f"this trial took at most {gib(peak)}"
    )


def holders() -> list[tuple[int, int, str]]:
    """Returns (process id, bytes, name) of each process on the GPUs, as far as the driver tells; [] if it doesn't."""
    if shutil.which(HOLDERS[0]) is None:
        return []
    done = subprocess.run(HOLDERS, capture_output=True, text=True, timeout=20, check=False)
    rows = [line.split(", ", 2) for line in done.stdout.splitlines()]
    return [(int(row[0]), int(row[1]) << 20, Path(row[2]).name) for row in rows if len(row) == 3 and row[1].isdigit()]


def host_text() -> str:
    """Returns what is left of the host's memory, and what this process and its workers took at most."""
    memory = psutil.virtual_memory()
    return (
        f"{gib(memory.available)} of the machine's {gib(memory.total)} were free; "
        f"this process took at most {gib(peak_host_bytes())}"
    )


def peak_host_bytes() -> int:
    """Returns the most that this process has been resident with, and the largest of its ended workers."""
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 1024 * max(usage)


def gib(size: int) -> str:
    """Returns bytes in words."""
    return f"{size / GIB:.2f} GiB"
