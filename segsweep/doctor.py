"""Whether this machine can run sweeps: one small check a row, each with its cure.

Imports nothing heavy: what may crash on import is tried by segsweep.probes in a child process.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil

from segdata.image_cache import stored_images
from segdata.record_cache import cache_folder
from segsweep.probes import GPU, MODELS, OPS, RAY, RAY_START, TORCH, ProbeError, probe

__all__ = ["CHECKS", "Check", "Machine", "run_checks"]

Status = Literal["ok", "warn", "fail"]
GB = 10**9
SETUP_CURE = "Run `make clean setup` (on a cluster node: install as docs/install.md says)"
MODEL_PACKAGES = ("mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain")


@dataclass(frozen=True)
class Check:
    """One row: what was looked at, how it is, what was found, and what to do about it ("" when it is well)."""

    name: str
    status: Status
    found: str
    cure: str = ""


@dataclass(frozen=True)
class Machine:
    """What the checks are about.

    Attributes:
        storage: Folder that sweeps write to; it need not exist yet.
        tracking_uri: The MLflow store.
        start_ray: Whether to start and end a local Ray as a trial of it.
    """

    storage: Path
    tracking_uri: str
    start_ray: bool = False


def nearest_existing(path: Path) -> Path:
    """The path itself or its nearest parent that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def check_python(machine: Machine) -> Check:
    """Python 3.11 or 3.12."""
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "fail", found, "Use Python 3.11 or 3.12: make setup PYTHON=/path/to/python3.11")


def check_compiler(machine: Machine) -> Check:
    """gcc, g++ and Python's headers: only the compile of mmcv needs them, so their lack is no failure here."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    lacking = [name for name in ("gcc", "g++") if shutil.which(name) is None]
    lacking += [] if header.is_file() else [str(header)]
    if not lacking:
        return Check("compiler", "ok", "gcc, g++ and Python's headers")
    cure = "Needed to compile mmcv only. Debian, Ubuntu: apt install gcc g++ python3-dev"
    return Check("compiler", "warn", f"no {', no '.join(lacking)}", cure)


def check_torch(machine: Machine) -> Check:
    """torch and torchvision import together."""
    try:
        found = probe(TORCH)
    except ProbeError as error:
        return Check("torch", "fail", str(error), SETUP_CURE)
    return Check("torch", "ok", f"torch {found['torch']}, torchvision {found['torchvision']}")


def check_gpus(machine: Machine) -> Check:
    """Each GPU computes, or why torch cannot use those that the machine has."""
    try:
        found = probe(GPU)
    except ProbeError as error:
        return Check("GPUs", "fail", str(error), "See whether `nvidia-smi` works and whether torch supports this GPU")
    if gpus := found["gpus"]:
        names = [f"{gpu['name']} ({gpu['memory'] / GB:.0f} GB)" for gpu in gpus]
        listed = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
        return Check("GPUs", "ok", f"{listed}; torch's CUDA {found['torch_cuda']}, {driver_text(found)}")
    return gpu_absence(found, nvidia_smi_names())


def gpu_absence(found: Mapping[str, Any], names: list[str]) -> Check:
    """Why torch sees no GPU: none there (well), hidden, a driver too old, or a torch without CUDA."""
    if not names:
        return Check("GPUs", "ok", "none: training runs on CPU")
    seen = f"{len(names)} x {names[0]}, but torch cannot use it"
    if found["torch_cuda"] is None:
        return Check("GPUs", "fail", f"{seen}: this torch is built without CUDA", SETUP_CURE)
    if found["driver_cuda"] // 1000 < int(found["torch_cuda"].split(".")[0]):
        cure = f"Update the NVIDIA driver to one for CUDA {found['torch_cuda']} or newer"
        return Check("GPUs", "fail", f"{seen}: torch needs CUDA {found['torch_cuda']}, {driver_text(found)}", cure)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        cure = "Unset CUDA_VISIBLE_DEVICES to train on the GPU"
        return Check("GPUs", "warn", f"{len(names)} x {names[0]}, hidden by CUDA_VISIBLE_DEVICES={hidden!r}", cure)
    return Check("GPUs", "fail", seen, "Restart the machine or its container's GPU support; `dmesg` may say more")


def driver_text(found: Mapping[str, Any]) -> str:
    """The CUDA version that the driver supports, from cuDriverGetVersion's number (12040 is 12.4)."""
    number = found["driver_cuda"]
    return f"driver for CUDA {number // 1000}.{number % 1000 // 10}" if number else "no driver library"


def nvidia_smi_names() -> list[str]:
    """Names of the machine's GPUs as the driver lists them; none without a driver."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def check_mmcv_ops(machine: Machine) -> Check:
    """mmcv's compiled operators load and run; on a machine with GPUs they should be built for CUDA too."""
    try:
        found = probe(OPS)
    except ProbeError as error:
        return Check(
            "mmcv ops", "fail", str(error), f"Built without operators, for another torch or another GPU. {SETUP_CURE}"
        )
    if found["cuda"] != "not available":
        return Check("mmcv ops", "ok", f"CPU and CUDA {found['cuda']}")
    if not found["gpu"]:
        return Check("mmcv ops", "ok", "CPU only")
    cure = "Models that use them fail on the GPU. Build mmcv with CUDA: docs/install.md, GPU nodes"
    return Check("mmcv ops", "warn", "CPU only, but there is a GPU", cure)


def check_models(machine: Machine) -> Check:
    """The model packages import, and each comes from one distribution."""
    providers = metadata.packages_distributions()
    for package in MODEL_PACKAGES:
        if len(names := sorted(set(providers.get(package, ())))) > 1:
            cure = "They overwrite each other: make clean setup, or uninstall all of them and install one"
            return Check("models", "fail", f"{package} comes from {' and '.join(names)}", cure)
    try:
        versions = probe(MODELS)
    except ProbeError as error:
        return Check("models", "fail", str(error), SETUP_CURE)
    listed = (f"{package} {version} ({providers[package][0]})" for package, version in versions.items())
    return Check("models", "ok", ", ".join(listed))


def check_ray(machine: Machine) -> Check:
    """Ray imports; on demand it starts and runs a task. It wants shared memory, which containers give 64 MB of."""
    try:
        found = probe(RAY_START if machine.start_ray else RAY)
    except ProbeError as error:
        return Check(
            "Ray", "fail", str(error), "See /tmp/ray/session_latest/logs; without logs there: make clean setup"
        )
    done = "started and ran a task" if machine.start_ray else "not started (--start-ray tries)"
    text = f"{found['ray']}, {done}"
    shared = Path("/dev/shm")
    if shared.is_dir() and (total := shutil.disk_usage(shared).total) < GB:
        cure = "Ray will swap objects to disk. Docker: run with --shm-size=4g"
        return Check("Ray", "warn", f"{text}; {shared} has {total / GB:.2f} GB", cure)
    return Check("Ray", "ok", text)


def check_tracking(machine: Machine) -> Check:
    """The MLflow store answers, or can be created where it is to lie."""
    uri = machine.tracking_uri
    if uri.startswith(("http://", "https://")):
        return check_tracking_server(uri)
    if uri.startswith("sqlite:///"):
        return check_tracking_file(uri, Path(uri.removeprefix("sqlite:///")))
    cure = "Only sqlite:/// and http(s):// stores are tried here; the first run will tell"
    return Check("MLflow store", "warn", f"{uri}: not tried", cure)


def check_tracking_server(uri: str) -> Check:
    """An MLflow server answers on /health."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10) as answer:
            return Check("MLflow store", "ok", f"{uri} answers ({answer.status})")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            cure = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            return Check("MLflow store", "warn", f"{uri} asks for a login ({error.code})", cure)
        return Check(
            "MLflow store", "fail", f"{uri} answers {error.code}", "Check that an MLflow server is at this address"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Check(
            "MLflow store", "fail", f"{uri}: {reason}", "Start the MLflow server or correct `tracking: {uri: ...}`"
        )


def check_tracking_file(uri: str, path: Path) -> Check:
    """The database can be locked for writing; one that is not there yet is tried on a temporary one beside it."""
    try:
        if path.exists():
            lock_database(path)
            return Check("MLflow store", "ok", f"{uri}: can be written")
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".segsweep-doctor-") as folder:
            lock_database(Path(folder) / "trial.db")
        return Check("MLflow store", "ok", f"{uri}: will be created")
    except (OSError, sqlite3.Error) as error:
        cure = "Give a database in a writable folder on a local disk: tracking: {uri: sqlite:///mlflow.db}"
        return Check("MLflow store", "fail", f"{uri}: {error}", cure)


def lock_database(path: Path) -> None:
    """Takes and drops a write lock, which network disks may refuse; sqlite3.Error when that fails."""
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def check_disk(machine: Machine) -> Check:
    """Room and write permission where sweeps are stored."""
    place = nearest_existing(machine.storage)
    free_gb = shutil.disk_usage(place).free / GB
    found = f"{free_gb:.0f} GB free for {machine.storage}"
    if not os.access(place, os.W_OK):
        return Check("disk", "fail", f"{place} cannot be written", "Give another folder: storage: {path: ...}")
    if free_gb < 2:
        return Check("disk", "fail", found, "Free some, or give another folder: storage: {path: ...}")
    if free_gb < 20:
        return Check(
            "disk", "warn", found, "Checkpoints take 0.2 to 2 GB a trial: lower storage.keep_checkpoints or free some"
        )
    return Check("disk", "ok", found)


def check_image_cache(machine: Machine) -> Check:
    """How much this machine's copies of images take (`storage.cache_images`); nobody but the user removes them."""
    try:
        count, size_bytes = stored_images()
    except OSError as error:
        cure = "Let SEGSWEEP_CACHE name a folder on a disk of this machine that can be read and written"
        return Check("image cache", "warn", str(error), cure)
    if not count:
        return Check("image cache", "ok", "empty")
    folder = cache_folder() / "images"
    return Check("image cache", "ok", f"{count} files, {size_bytes / GB:.1f} GB; no trial running: rm -r {folder}")


def check_memory(machine: Machine) -> Check:
    """Free memory, within the container's limit; a trial takes 1 GB before its images and model."""
    free_gb = min(psutil.virtual_memory().available, container_free()) / GB
    found = f"{free_gb:.1f} GB free, {psutil.cpu_count()} cores"
    if free_gb < 1.5:
        return Check(
            "memory", "fail", found, "A trial needs 1.5 GB at least: end other programs or raise the container's limit"
        )
    if free_gb < 4:
        return Check("memory", "warn", found, "Enough for one small trial at a time: budget: {concurrent: 1}")
    return Check("memory", "ok", found)


def container_free(folder: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes left under the control group's limit, infinite without one."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if limit == "max" else float(max(0, int(limit) - used))


CHECKS: tuple[Callable[[Machine], Check], ...] = (
    check_python,
    check_torch,
    check_gpus,
    check_mmcv_ops,
    check_models,
    check_ray,
    check_tracking,
    check_disk,
    check_memory,
    check_image_cache,
    check_compiler,
)


def run_checks(machine: Machine) -> tuple[Check, ...]:
    """All checks, in the order of the table; the child processes run two at a time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return tuple(pool.map(lambda check: check(machine), CHECKS))
