"""How often the kernel has ended a process for want of memory. Standard library only: the Ray actor reads it."""

from pathlib import Path

__all__ = ["kernel_kills"]

SOURCES = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def kernel_kills() -> int:
    """Returns how many processes the kernel has ended here for want of memory; 0 where it doesn't tell."""
    lines = [line for path in SOURCES if path.is_file() for line in path.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
