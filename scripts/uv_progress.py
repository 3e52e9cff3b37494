"""Runs uv (or pip) with its output in a log, and tells a waiting person what it does and for how long.

Imports the standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

MMCV = "onedl-mmcv"
COMPILE_USUALLY = "usually 6 to 9 min on 2 cores"
MIB_PER_UNIT = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
INDEX_CURE = (
    "Check the network and run it again (behind a mirror: set UV_DEFAULT_INDEX for uv and PIP_INDEX_URL for pip; "
    "without a network, but with uv's cache filled: UV_OFFLINE=1 make setup)"
)

# What the output of a failed step can hold, most telling first: pattern, what happened, what to do.
DIAGNOSES = (
    (r"No space left on device|os error 28", "the disk is full", "Free about 12 GB and run it again"),
    (r"Python\.h: No such file", "Python's headers are missing", "Debian, Ubuntu: apt install python3-dev"),
    (
        r"Killed signal terminated program cc1plus|[Cc]annot allocate memory|virtual memory exhausted",
        "the compiler ran out of memory",
        "Compile one file at a time: MAX_JOBS=1 make setup",
    ),
    (
        r"CUDA_HOME environment variable is not set",
        "this machine has a GPU, but not the CUDA compiler (nvcc) for mmcv's GPU operators",
        "Install the CUDA toolkit and set CUDA_HOME, or do without the GPU: CUDA_VISIBLE_DEVICES= make setup",
    ),
    (
        r"detected CUDA version .* mismatches",
        "the CUDA compiler (nvcc) is of another version than torch's CUDA",
        "Install the CUDA toolkit of torch's CUDA version and set CUDA_HOME to it",
    ),
    (
        r"command '?\S*(gcc|g\+\+|cc|c\+\+)'? failed: No such file",
        "the C++ compiler is missing",
        "Debian, Ubuntu: apt install gcc g++",
    ),
    (
        r"dns error|error sending request|client error|[Tt]emporary failure in name resolution|Network is unreachable|"
        r"NewConnectionError|NameResolutionError|ConnectTimeout|operation timed out|Failed to fetch|"
        r"Connection (refused|reset)|from versions: none|[Nn]etwork (was|is) disabled|offline",
        "the package index could not be reached",
        INDEX_CURE,
    ),
    (
        r"No matching distribution found|there is no version of|was not found in the package registry",
        "the package index does not have a pinned version",
        "Use an index that has it (UV_DEFAULT_INDEX for uv, PIP_INDEX_URL for pip) and run it again",
    ),
)


def duration(seconds: float) -> str:
    """Minutes and seconds for a person: "2 min 30 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def diagnose(said: str) -> str:
    """What a failed step's output means, and the cure; "" when it is no known failure."""
    for pattern, problem, cure in DIAGNOSES:
        if re.search(pattern, said):
            return f"{problem}. {cure}"
    return ""


class UvProgress:
    """What uv is doing, read from its own lines; `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._downloads: dict[str, float] = {}  # package -> MiB, in flight
        self._done_mib = 0.0
        self._building: set[str] = set()
        self._compile_start_s = 0.0
        self._installing = False

    def read(self, line: str) -> None:
        """Takes one line of uv's output."""
        if found := re.match(r"\s*Downloading (\S+) \(([\d.]+)([KMG]iB)\)", line):
            self._downloads[found[1]] = float(found[2]) * MIB_PER_UNIT[found[3]]
        elif found := re.match(r"\s*Downloaded (\S+)", line):
            self._done_mib += self._downloads.pop(found[1], 0.0)
            self._compile_start_s = self._now()  # mmcv's build waits for torch, so for the last of these
        elif found := re.match(r"\s*(Building|Built) (\S+?)(==|\s|$)", line):
            (self._building.add if found[1] == "Building" else self._building.discard)(found[2])
            if found[2] == MMCV:
                self._compile_start_s = self._now()
        elif re.match(r"(Prepared|Installed) ", line):
            self._installing = True

    def phase(self) -> str:
        """What is going on now, "" when nothing is known."""
        if self._downloads:
            largest = sorted(self._downloads, key=lambda name: -self._downloads[name])
            more = f" and {len(largest) - 3} more" if len(largest) > 3 else ""
            return f"downloading {', '.join(largest[:3])}{more}, {self._done_mib / 1024:.1f} of about 3.3 GB done"
        if MMCV in self._building:
            return (
                f"compiling mmcv's C++ operators: {duration(self._now() - self._compile_start_s)} ({COMPILE_USUALLY})"
            )
        if self._building:
            return f"building {', '.join(sorted(self._building))}"
        return "installing and compiling bytecode" if self._installing else ""


def run_watched(
    command: Sequence[str],
    *,
    title: str,
    log: Path,
    env: Mapping[str, str],
    folder: Path,
    heartbeat_s: float,
    hold_fd: int,
) -> int:
    """Runs a command to its end and returns its exit status.

    Args:
        command: What to run.
        title: What it does, for the heartbeat lines.
        log: File to which everything that it says is appended.
        env: Its whole environment.
        folder: Its working folder.
        heartbeat_s: Seconds between two lines to a waiting person.
        hold_fd: Open file that the command inherits: the set-up's lock lives as long as any of its commands.
    """
    progress, start_s = UvProgress(), time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            pass_fds=(hold_fd,),
            start_new_session=True,  # so that interrupting can end the compilers as one group
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        reader = threading.Thread(target=_copy_lines, args=(process.stdout, file, progress), daemon=True)
        reader.start()
        try:
            while True:
                try:
                    return process.wait(timeout=heartbeat_s)
                except subprocess.TimeoutExpired:
                    elapsed = duration(time.monotonic() - start_s)
                    print(f"setup: {progress.phase() or title}; {elapsed} in all", flush=True)
        finally:
            _end_group(process)
            reader.join(timeout=5)


def _copy_lines(source: TextIO, log: TextIO, progress: UvProgress) -> None:
    for line in source:
        log.write(line)
        log.flush()
        progress.read(line)


def _end_group(process: subprocess.Popen[str]) -> None:
    """Ends a command and the compilers that it started, if it still runs."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, ending)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
