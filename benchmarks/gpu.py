"""What a GPU gives: trials at a time on one, models and errors that only it has. Without one, each row says so.

Each row is a real `segsweep run` in a temporary folder. Images are drawn; utilisation and memory are nvidia-smi's,
read twice a second; an hour's trials count the command from its start to its end.

python benchmarks/gpu.py [--quick] [--json] [--device cpu]   # cpu: a developer's check that the script works
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from search_spaces.models import MODELS
from segdata.coco import read_coco, write_coco
from segdata.synthetic import synthesize
from trainables.trial_files import Outcome, TrialFiles

PROCESSES = Path(__file__).resolve().parent / "processes"
CLOCK, HOLDER = PROCESSES / "iteration_clock.py", PROCESSES / "memory_holder.py"
POLL = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "500")
GIB, TIMEOUT_S = 2**30, 1800.0
CONTEXT_GIB, SCARCE_GIB = 0.75, 1.25  # what CUDA itself takes of a trial; what a batch of one can't do with
SHARES = (0.85, 0.7, 0.55)  # of the memory that a batch takes, until it has to be taken in parts
DEFORMABLE = "mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py"  # a zoo config that trains on a GPU only
Row = dict[str, Any]
Nested = dict[str, Any]
Device = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; `at_a_time` are the numbers of trials side by side, the first of them the peer."""

    at_a_time: tuple[int, ...]
    trials: int
    side_px: int
    images: int
    epochs: int
    fixed: Nested


STOCK: Nested = {"model": "mask-rcnn", "backbone": "r50", "optimizer": "adamw", "batch_size": 4}
TINY: Nested = STOCK | {"backbone": "r18", "width": 0.25, "head_width": 0.125, "rois_per_image": 16}
FULL = Size((1, 2, 4, 8), 8, 512, 128, 3, STOCK)
QUICK = Size((1, 2), 2, 512, 16, 1, STOCK)
ON_CPU = Size((1, 2), 2, 64, 8, 1, TINY)


@dataclass(frozen=True, slots=True)
class Ran:
    """A sweep that has run: seconds of the command, how its first trial ended and in how many parts it took a batch."""

    took_s: float
    ended: Outcome
    parts: int
    images_per_s: float
    held_bytes: int  # by torch in one trial, at most
    gpu: tuple[float, float] | None  # its utilisation in percent, on average, and the most GiB in use


def gpu_count() -> int:
    """Returns the NVIDIA GPUs that trials can see."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
    found = sum(line.startswith("GPU ") for line in listed.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else min(found, len(visible.split(",")))


def row(name: str, peer: str, ours: float | None, theirs: float | None, unit: str) -> Row:
    """One line of the result."""
    ratio = None if ours is None or theirs is None else ours / theirs
    values = (name, peer, ours, theirs, unit, ratio, None)
    return dict(zip(("name", "peer", "ours", "theirs", "unit", "ratio", "target"), values, strict=True))


def not_measured(name: str, why: str) -> Row:
    """The line of what could not be tried here."""
    return row(f"{name}: not measured, {why}", "", None, None, "")


def attempt(name: str, measure: Callable[[], list[Row]]) -> list[Row]:
    """Returns what `measure` does; one that fails is told in its line and does not take the others with it."""
    try:
        return measure()
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return [row(f"{name}: FAILED, {str(error).splitlines()[0][:200]}", "", None, None, "")]


def draw(folder: Path, size: Size) -> None:
    """Draws images to train on, of which an eighth are validated too."""
    synthesize("particles", folder, size.images, size.side_px)
    whole = read_coco(folder / "annotations.json")
    names = sorted(image.file_name for image in whole.images)
    write_coco(whole.subset(names[: size.images // 8]), folder / "val.json")


@contextmanager
def polled(output: Path) -> Iterator[None]:
    """Writes utilisation (percent) and memory (MiB) of the GPUs in use into `output`, where there is nvidia-smi."""
    if shutil.which(POLL[0]) is None:
        yield
        return
    with output.open("w") as stream:
        process = subprocess.Popen([*POLL, "-i", os.environ.get("CUDA_VISIBLE_DEVICES", "0")], stdout=stream)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def read_polls(output: Path) -> tuple[float, float] | None:
    """Returns mean utilisation in percent and most GiB in use; None where nothing was written."""
    lines = [line.split(", ") for line in output.read_text().splitlines()] if output.is_file() else []
    read = [(float(use), float(mib)) for use, mib in lines if use.isdigit() and mib.isdigit()]
    if not read:
        return None
    return statistics.mean(use for use, _ in read), max(mib for _, mib in read) / 1024


def write_sweep(folder: Path, data: Path, fixed: Nested, **keys: Any) -> None:
    """Makes a folder with a sweep file, whose `budget` and `resources` are given, and the clock."""
    folder.mkdir()
    shutil.copy(CLOCK, folder)
    files = {"train": "annotations.json", "val": "val.json"}
    roles = {role: {"annotations": str(data / name), "images": str(data / "images")} for role, name in files.items()}
    sweep = {"name": "bench", "task": "instance", "data": roles, "fixed": fixed, "custom_imports": CLOCK.stem}
    sweep["space"] = {"lr": {"float": [1e-4, 1e-3], "log": True}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep | keys))


def run_sweep(folder: Path, data: Path, fixed: Nested, **keys: Any) -> Ran:
    """Runs a sweep in a new folder; arguments as of `write_sweep`.

    Raises:
        RuntimeError: Not a single iteration was made, for another reason than memory.
    """
    write_sweep(folder, data, fixed, **keys)
    command, begin_s = [sys.executable, "-m", "segsweep", "run", "sweep.yaml"], time.perf_counter()
    environment = os.environ | {"SEGSWEEP_CACHE": str(data / "cache"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    with polled(folder / "polls.csv"):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    took_s, notes = time.perf_counter() - begin_s, folder / "iterations.txt"
    stamps = [line.split() for line in notes.read_text().splitlines()] if notes.is_file() else []
    first = TrialFiles(folder / "runs" / "bench" / "trials" / "0000")
    ended = first.read_outcome() or Outcome("failed", f"no outcome: {done.stdout[-300:]} {done.stderr[-300:]}")
    if not stamps and ended.kind != "out-of-memory":
        raise RuntimeError(ended.reason)
    images = fixed["batch_size"] * sum(int(epoch) >= 0 for epoch, *_ in stamps[1:])  # from the end of the first batch
    spent_s = float(stamps[-1][1]) - float(stamps[0][1]) if stamps else 1.0
    held_bytes = max((int(held) for *_, held in stamps), default=0)
    polls = read_polls(folder / "polls.csv")
    return Ran(took_s, ended, first.read_parts(), images / spent_s, held_bytes, polls)


def share_rows(folder: Path, data: Path, size: Size, device: Device) -> list[Row]:
    """More and more trials at a time on one GPU, or CPU."""
    rows: list[Row] = []
    alone: float | None = None
    for count in size.at_a_time:
        resources = {"gpu": 1 / count} if device == "cuda" else {"cpu": 1, "gpu": 0}
        budget = {"trials": size.trials, "concurrent": count}
        fixed = size.fixed | {"epochs": size.epochs}
        ran = run_sweep(folder / f"share{count}", data, fixed, budget=budget, resources=resources)
        an_hour = 3600 * size.trials / ran.took_s
        alone = alone or an_hour
        told = f"{ran.images_per_s:.3g} images/s"
        told += f", {ran.gpu[0]:.0f} % busy, {ran.gpu[1]:.1f} GiB at most" if ran.gpu else ""
        where = "one GPU" if device == "cuda" else "CPU (a check of the script)"
        name = f"{size.trials} trials at {size.side_px} px, {count} at a time on {where}: {told}"
        rows.append(row(name, "1 at a time", an_hour, alone, "trials/h"))
    return rows


def step_rows(folder: Path, data: Path, fixed: Nested, device: Device) -> list[Row]:
    """One training step and a validation."""
    resources = {"gpu": 1} if device == "cuda" else {"cpu": 1, "gpu": 0}
    plan = fixed | {"batch_size": 2, "max_iters": 1}
    ran = run_sweep(folder, data, plan, budget={"trials": 1}, resources=resources)
    what = " ".join(str(fixed[key]) for key in ("model", "precision") if key in fixed)
    name = f"one training step of {what} on {device}: {ran.ended.kind} {ran.ended.reason}".strip()
    return [row(name, "", ran.took_s, None, "s")]


@contextmanager
def held_but(free_gib: float) -> Iterator[subprocess.Popen[str]]:
    """Another process holds all of the GPU's memory but that much."""
    command = [sys.executable, str(HOLDER), str(int(free_gib * GIB))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            if not holder.stdout.readline():
                raise RuntimeError("the process that should hold the GPU's memory did not")
            yield holder
        finally:
            holder.kill()


def memory_rows(folder: Path, data: Path, size: Size) -> list[Row]:
    """CUDA runs out of memory: a batch of one can only tell who holds it, a larger one goes on in parts."""
    trial: Nested = {"budget": {"trials": 1}, "resources": {"gpu": 1}}
    with held_but(SCARCE_GIB) as holder:
        full = run_sweep(folder / "full", data, size.fixed | {"batch_size": 1, "epochs": 1}, **trial)
    name = f"CUDA out of memory, {full.ended.kind}: {full.ended.reason}"
    rows = [row(name, "", float(f"process {holder.pid}" in full.ended.reason), None, "of 1 holder named")]
    large = size.fixed | {"batch_size": 8, "epochs": 1}
    free = run_sweep(folder / "free", data, large, **trial)
    for share in SHARES:
        with held_but(CONTEXT_GIB + share * free.held_bytes / GIB):
            ran = run_sweep(folder / f"held{share}", data, large, **trial)
        if ran.parts > 1:
            break
    name = f"a batch of 8 in {share:.0%} of the memory that it takes: {ran.ended.kind} {ran.ended.reason}".strip()
    return [*rows, row(name, "", float(ran.parts), None, "parts")]


def pair_rows(folder: Path, data: Path, size: Size) -> list[Row]:
    """One trial in two processes on two GPUs, against one on one."""
    fixed, budget = size.fixed | {"epochs": size.epochs, "batch_size": 8}, {"trials": 1}
    one, two = (
        run_sweep(folder / f"gpus{count}", data, fixed, budget=budget, resources={"gpu": count}) for count in (1, 2)
    )
    name = f"one trial on 2 GPUs, batch 8: {two.ended.kind} {two.ended.reason}".strip()
    # Both processes note each step, of which either trains half the images.
    return [row(name, "on 1 GPU", two.images_per_s / 2, one.images_per_s, "images/s")]


def rows_of(folder: Path, size: Size, device: Device, gpus: int) -> list[Row]:
    """Measures everything that can be."""
    data = folder / "data"
    needing: list[Nested] = [{"model": name} for name, model in MODELS.items() if model.needs_gpu]
    steps = [*needing, {"model": DEFORMABLE}, {"model": "mask-rcnn", "precision": "fp16"}]
    if device == "cuda" and not gpus:
        names = [f"{count} trials at a time on one GPU" for count in size.at_a_time]
        names += [f"one training step of {' '.join(fixed.values())}" for fixed in steps]
        names += ["CUDA out of memory", "one trial on 2 GPUs"]
        return [not_measured(name, "no GPU here") for name in names]
    draw(data, size)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(str(number) for number in range(gpus)))
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]  # one GPU, in all but the last row
    rows = attempt("trials at a time", partial(share_rows, folder, data, size, device))
    for number, fixed in enumerate(steps if device == "cuda" else [size.fixed]):
        name = f"one training step of {fixed['model']}"
        rows += attempt(name, partial(step_rows, folder / f"step{number}", data, fixed, device))
    if device == "cpu":
        return [*rows, *(not_measured(name, "on CPU") for name in ("CUDA out of memory", "one trial on 2 GPUs"))]
    rows += attempt("CUDA out of memory", partial(memory_rows, folder, data, size))
    if gpus < 2:
        return [*rows, not_measured("one trial on 2 GPUs", f"{gpus} GPU here")]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    return rows + attempt("one trial on 2 GPUs", partial(pair_rows, folder, data, size))


def main() -> None:
    """Runs all rows and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="1 and 2 trials at a time, two of each")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to check this script")
    options = parser.parse_args()
    size = ON_CPU if options.device == "cpu" else QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(Path(folder), size, options.device, gpu_count())
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine}, indent=2))
        return
    for line in rows:
        ours = "" if line["ours"] is None else f" {line['ours']:.2f} {line['unit']}"
        theirs = "" if line["theirs"] is None else f", {line['peer']} {line['theirs']:.2f}, {line['ratio']:.2f} times"
        print(f"{line['name']}{ours}{theirs}")


if __name__ == "__main__":
    main()
