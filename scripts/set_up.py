"""Makes `.venv`: everything that `make demo`, `make test` and `make check` need. `make setup` calls it.

Safe to interrupt and to run again at any point: `.venv/set-up-done` is written last and holds a hash of
what the environment was made from; an environment whose installation was cut short is made anew. Imports the
standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from uv_progress import COMPILE_USUALLY, MMCV, diagnose, duration, run_watched

UV_VERSION = "0.13.8"
SUPPORTED = ((3, 11), (3, 12))
GB = 10**9
LOG_LINES_SHOWN = 15
GB_PER_COMPILER = 1.5  # what one cc1plus takes on torch's headers
OPS_CHECK = "import torch, mmcv.ops"


class SetupError(Exception):
    """Set-up cannot go on; the message is one line that ends with the cure."""


class Setup:
    """One set-up of the checkout at `root` (holds requirements.lock, pyproject.toml)."""

    def __init__(self, root: Path, *, this_python: bool, min_free_gb: float, heartbeat_s: float) -> None:
        self.root = root
        self.this_python = this_python
        self.min_free_gb = min_free_gb
        self.heartbeat_s = heartbeat_s
        self.venv = root / ".venv"
        self.done = self.venv / "set-up-done"
        self.work = root / ".setup"
        self.log = self.work / "setup.log"
        self.unfinished = self.work / "installing"  # there while .venv is being filled
        self.uv = self.work / "uv" / "bin" / "uv"
        self.lock_fd = -1

    def fingerprint(self) -> str:
        """Hash of all that `.venv` is made from; the folder counts, since scripts in `.venv` name it."""
        sources = [(self.root / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
        parts = [*sources, UV_VERSION.encode(), os.fsencode(self.root), self.venv_version().encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()

    def venv_version(self) -> str:
        """ "3.11" for an environment of Python 3.11 that can start, "" without one."""
        config = self.venv / "pyvenv.cfg"
        if not config.is_file() or not (self.venv / "bin" / "python").exists():
            return ""
        found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", config.read_text(encoding="utf-8"), re.MULTILINE)
        return found[1] if found else ""

    def venv_fits(self) -> bool:
        """Whether the environment's Python is the asked-for one, or any supported one when none was named."""
        accepted = [sys.version_info[:2]] if self.this_python else SUPPORTED
        return self.venv_version() in {f"{major}.{minor}" for major, minor in accepted}

    def is_ready(self) -> bool:
        """Whether nothing is to be done."""
        return self.done.is_file() and self.venv_fits() and self.done.read_text(encoding="utf-8") == self.fingerprint()

    def run(self) -> None:
        """Does what is missing."""
        check_tools(self.root)
        self.check_disk()
        self.install_uv()
        self.done.unlink(missing_ok=True)
        self.make_venv()
        self.unfinished.touch()
        self.sync()
        editable = ("pip", "install", "--python", str(self.venv), "--no-deps", "-e", ".")
        self.call([str(self.uv), *editable], "installing segsweep itself")
        self.check_ops()
        self.keep_wheel()
        self.done.write_text(self.fingerprint(), encoding="utf-8")
        self.unfinished.unlink()

    def check_disk(self) -> None:
        """Room is asked for when the environment is not there yet: afterwards nothing large is fetched."""
        if (self.venv / "bin" / "segsweep").exists():
            return
        cache = Path(os.environ.get("UV_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        for place in (self.root, nearest_existing(cache)):
            free_gb = shutil.disk_usage(place).free / GB
            if free_gb < self.min_free_gb:
                raise SetupError(
                    f"expected {self.min_free_gb:g} GB of free disk at {place}, but got {free_gb:.1f} GB. "
                    "Free some or move uv's cache (UV_CACHE_DIR); with a full cache, make setup MIN_FREE_GB=2 will do"
                )

    def install_uv(self) -> None:
        """Puts the pinned uv into `.setup/uv`, by venv, or by pip alone where Python came without ensurepip."""
        if self.uv.is_file() and said_by([str(self.uv), "--version"]).startswith(f"uv {UV_VERSION}"):
            return
        folder = self.uv.parent.parent
        shutil.rmtree(folder, ignore_errors=True)
        pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", f"uv=={UV_VERSION}"]
        if importlib.util.find_spec("ensurepip"):
            self.call([sys.executable, "-m", "venv", str(folder)], "making an environment for uv")
            self.call([str(folder / "bin" / "python"), *pip], f"fetching uv {UV_VERSION}")
        elif importlib.util.find_spec("pip"):
            self.call([sys.executable, *pip, "--target", str(folder)], f"fetching uv {UV_VERSION}")
        else:
            version = f"{sys.version_info[0]}.{sys.version_info[1]}"
            raise SetupError(
                f"{sys.executable} has neither ensurepip nor pip. Debian, Ubuntu: apt install python{version}-venv"
            )

    def make_venv(self) -> None:
        """Keeps `.venv` when it fits and was filled to the end, else makes it anew."""
        if self.venv_fits() and not self.unfinished.exists():
            return
        make = [
            str(self.uv),
            "venv",
            "--quiet",
            "--clear",
            "--prompt",
            "segsweep",
            "--python",
            sys.executable,
            str(self.venv),
        ]
        self.call(make, "making .venv")

    def sync(self) -> None:
        """Installs exactly the locked versions, with bytecode: it halves each later process's 10 s of imports."""
        say(f"installing requirements.lock; a first time fetches about 3.3 GB and compiles mmcv ({COMPILE_USUALLY})")
        sync = [str(self.uv), "pip", "sync", "--python", str(self.venv), "--compile-bytecode", "requirements.lock"]
        kept = self.kept_wheels()
        links = ["--find-links", str(kept)] if any(kept.glob("*.whl")) else []
        self.call([*sync, *links], "installing requirements.lock")

    def kept_wheels(self) -> Path:
        """Where compiled mmcv wheels of this torch are kept over checkouts; a CUDA build of one's own has its own.

        uv's cache alone does not do: it builds again whenever the index gives the source archive anew.
        """
        pins = (self.root / "requirements.lock").read_text()
        torch = re.search(r"^torch==(\S+)", pins, flags=re.MULTILINE)
        asked = "".join(os.environ.get(name, "") for name in ("FORCE_CUDA", "TORCH_CUDA_ARCH_LIST"))
        name = f"torch-{torch[1] if torch else 'any'}{'-cuda-' + asked if asked else ''}"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "segsweep" / "wheels" / re.sub(r"[^\w.+-]", "_", name)

    def keep_wheel(self) -> None:
        """Copies the newest mmcv wheel that uv has built for this Python, unless one is kept already."""
        tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        kept = self.kept_wheels()
        if any(kept.glob(f"*-{tag}-*.whl")):
            return
        cache = Path(said_by([str(self.uv), "cache", "dir"]).strip())
        built = sorted(cache.glob(f"sdists-v*/pypi/{MMCV}/*/*/*/*-{tag}-*.whl"), key=lambda path: path.stat().st_mtime)
        if built:
            kept.mkdir(parents=True, exist_ok=True)
            partial = kept / f"{built[-1].name}.partial"
            shutil.copyfile(built[-1], partial)
            partial.replace(kept / built[-1].name)

    def check_ops(self) -> None:
        """mmcv's operators must import: installed again from uv's cache if they do not, then built again."""
        for remedy in (self.reinstall_mmcv, self.rebuild_mmcv):
            if not (reason := self.ops_failure()):
                return
            say(f"mmcv's operators do not load ({reason})")
            remedy()
        if reason := self.ops_failure():
            raise SetupError(
                f"mmcv was built without usable C++ operators ({reason}). Check that g++ works and that "
                "UV_FIND_LINKS brings in no other build, and run it again"
            )

    def reinstall_mmcv(self) -> None:
        """For an installed mmcv that was damaged: takes uv's cached build again (--reinstall-package would compile)."""
        self.call([str(self.uv), "pip", "uninstall", "--python", str(self.venv), MMCV], "removing the damaged mmcv")
        self.sync()

    def rebuild_mmcv(self) -> None:
        """For a build in uv's cache without operators, or against another torch."""
        shutil.rmtree(self.kept_wheels(), ignore_errors=True)
        self.call([str(self.uv), "cache", "clean", MMCV], "dropping the cached mmcv")
        self.reinstall_mmcv()

    def ops_failure(self) -> str:
        """The last line of why `mmcv.ops` does not import, "" when it does."""
        tried = subprocess.run(
            [str(self.venv / "bin" / "python"), "-c", OPS_CHECK],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=self.work,
        )
        if tried.returncode == 0:
            return ""
        lines = tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"]
        return lines[-1][:200]

    def call(self, command: Sequence[str], title: str) -> None:
        """Runs one step; a known failure is one line with its cure, any other shows the log's last lines too."""
        start_byte = self.log.stat().st_size if self.log.exists() else 0
        status = run_watched(
            command,
            title=title,
            log=self.log,
            env=step_environment(),
            folder=self.root,
            heartbeat_s=self.heartbeat_s,
            hold_fd=self.lock_fd,
        )
        if status == 0:
            return
        said = self.log.read_bytes()[start_byte:].decode(errors="replace")
        whole = f"(the whole log: {self.log.relative_to(self.root)})"
        if known := diagnose(said):
            raise SetupError(f"{title}: {known} {whole}")
        print("\n".join(said.strip().splitlines()[-LOG_LINES_SHOWN:]), file=sys.stderr)
        raise SetupError(f"{title} failed; the lines above say why. Mend that and run it again {whole}")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other set-up of this checkout runs; steps of a killed one inherit its lock and count."""
        self.work.mkdir(exist_ok=True)
        with (self.work / "lock").open("w") as file:
            self.lock_fd = file.fileno()
            waited_s = 0.0
            while not lock_now(file.fileno()):
                if waited_s % self.heartbeat_s < 1:
                    say(f"waiting for another set-up of this folder, {duration(waited_s)} so far")
                time.sleep(1)
                waited_s += 1
            yield


def lock_now(fd: int) -> bool:
    """Takes an exclusive lock on an open file; False when another process holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def check_python() -> None:
    """Raises SetupError unless this Python is a supported one."""
    if sys.version_info[:2] not in SUPPORTED:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"expected Python 3.11 or 3.12, but got {found} ({sys.executable}). "
            "Name one: make setup PYTHON=/path/to/python3.11"
        )


def check_tools(root: Path) -> None:
    """Compilers and Python's headers must be there, unless a ready wheel of mmcv is offered by UV_FIND_LINKS."""
    if ready_wheel(root):
        return
    for name in (os.environ.get("CC") or "gcc", os.environ.get("CXX") or "g++"):
        if shutil.which(name.split()[0]) is None:
            raise SetupError(
                f"expected the compiler {name} on PATH, but there is none; mmcv's operators are compiled with it. "
                "Debian, Ubuntu: apt install gcc g++; Fedora: dnf install gcc gcc-c++"
            )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupError(
            f"expected Python's headers, but {header} is not there. "
            f"Debian, Ubuntu: apt install python{version}-dev; Fedora: dnf install python{version}-devel; "
            f"or take a pyenv Python: make setup PYTHON=/path/to/python{version}"
        )


def ready_wheel(root: Path) -> bool:
    """Whether a local folder named in UV_FIND_LINKS holds a wheel of mmcv for this Python."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    folders = [root / link for link in os.environ.get("UV_FIND_LINKS", "").replace(",", " ").split()]
    return any(list(folder.glob(f"onedl_mmcv-*-{tag}-*.whl")) for folder in folders if folder.is_dir())


def nearest_existing(path: Path) -> Path:
    """The path itself or its nearest parent that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def step_environment() -> dict[str, str]:
    """This process's environment, with as many compilers side by side as cores and memory bear (MAX_JOBS wins)."""
    jobs = max(1, min(os.cpu_count() or 1, int(available_memory_gb() / GB_PER_COMPILER)))
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {"MAX_JOBS": str(jobs), **kept, "NO_COLOR": "1", "MMCV_WITH_OPS": "1"}


def available_memory_gb() -> float:
    """Memory that programs can still take; all of the machine's where the system does not say."""
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return int(found[1]) * 1024 / GB if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB


def said_by(command: Sequence[str]) -> str:
    """What a short command prints, "" when it fails or cannot start."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def say(message: str) -> None:
    """One line to the person who waits."""
    print(f"setup: {message}", flush=True)


def interrupt(signum: int, frame: object) -> NoReturn:
    """Ends like Ctrl-C on any polite signal, so that running steps are ended too."""
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 ready, 2 cannot go on (one line says why), 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--this-python", action="store_true", help="a .venv of another version is made anew")
    parser.add_argument("--min-free-gb", type=float, default=12.0)
    parser.add_argument("--heartbeat-s", type=float, default=30.0)
    options = parser.parse_args(arguments)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, interrupt)
    setup = Setup(
        options.root, this_python=options.this_python, min_free_gb=options.min_free_gb, heartbeat_s=options.heartbeat_s
    )
    try:
        check_python()
        if setup.is_ready():
            say(".venv is ready")
            return 0
        with setup.alone():
            if not setup.is_ready():
                start_s = time.monotonic()
                setup.run()
                took = duration(time.monotonic() - start_s)
                say(f"ready after {took}; `.venv/bin/segsweep doctor` checks this machine")
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nsetup: interrupted; run the same command again (downloads are kept, a cut compile starts over)",
            file=sys.stderr,
        )
        return 130
    except OSError as error:
        cure = "Free about 12 GB" if error.errno == errno.ENOSPC else "Mend what it names"
        print(f"setup: {error}. {cure} and run it again", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
