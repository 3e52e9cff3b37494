"""Speed of a trial against stock MMEngine on the trial's own exported config, in pairs that run one after the other.

Every training has one thread, no loader workers, and the same clock in it (processes/iteration_clock.py). A ratio is
the median of the pairs' own; between the least and the greatest of five lies the true median with 94 % confidence.

python benchmarks/training.py [--quick] [--json]
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from search_spaces.trial_config import (
    InputChoice,
    ModelChoice,
    OptimizationChoice,
    ScheduleChoice,
    ThresholdChoice,
    TrialConfig,
)
from segdata.coco import read_coco, write_coco
from segdata.labelmaps import read_labels
from segdata.statistics import object_statistics, pixel_statistics
from segdata.synthetic import synthesize
from trainables.description import DataDescription, RoleFiles
from trainables.fork_server import Ended, start_child
from trainables.requests import TrialRequest
from trainables.trial_files import TrialFiles

PROCESSES = Path(__file__).resolve().parent / "processes"
THREADS, BATCH_SIZE, WARM_UP, TIMEOUT_S = 1, 4, 2, 600.0
THE_END = -1
SOONER, AS_FAST = 5.0, 0.98  # targets
PEER = "Runner.train(), fresh process"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    pairs: int
    side_px: int
    train_images: int
    val_images: int
    epochs: int


FULL = Size(pairs=5, side_px=256, train_images=64, val_images=16, epochs=2)
QUICK = Size(pairs=2, side_px=128, train_images=24, val_images=4, epochs=1)


@dataclass(frozen=True, slots=True)
class Stamp:
    """The end of an iteration: its epoch or THE_END, Unix seconds, CPU seconds of the process so far."""

    epoch: int
    at_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one training.

    Attributes:
        first_s: From asking for it to its first finished iteration.
        per_s: Iterations a second within epochs, without the first WARM_UP of each.
        cpu_s: CPU seconds of the process for each of these, which other work on the machine hardly changes.
        rest_s: From the end of the first WARM_UP to the end of everything.
    """

    first_s: float
    per_s: float
    cpu_s: float
    rest_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Of pairs: the median of each side, and median, least and greatest of the pairs' own ratios."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def summary(ours: Sequence[float], theirs: Sequence[float], ratios: Sequence[float]) -> Summary:
    """Returns what a row says of its pairs."""
    return Summary(
        statistics.median(ours), statistics.median(theirs), statistics.median(ratios), min(ratios), max(ratios)
    )


def row(name: str, peer: str, unit: str, target: float | None, found: Summary, pairs: int) -> Row:
    """One line of the result; the interval goes into the name, since the table has no column for it."""
    return {
        "name": f"{name} (median of {pairs} pairs, {found.low:.3g} to {found.high:.3g})",
        "peer": peer,
        "ours": found.ours,
        "theirs": found.theirs,
        "unit": unit,
        "ratio": found.ratio,
        "target": target,
        "low": found.low,
        "high": found.high,
    }


def read_stamps(notes: str) -> list[Stamp]:
    """Reads what a clock has noted."""
    lines = (line.split() for line in notes.splitlines())
    return [Stamp(int(epoch), float(at_s), float(cpu_s)) for epoch, at_s, cpu_s, _ in lines]


def read_timing(notes: str, asked_s: float) -> Timing:
    """Reads what the clock of one training has noted.

    Raises:
        ValueError: The training has not ended, or no epoch has more than WARM_UP iterations.
    """
    stamps = read_stamps(notes)
    if not stamps or stamps[-1].epoch != THE_END:
        raise ValueError("expected a training to its end")
    numbers = sorted({stamp.epoch for stamp in stamps} - {THE_END})
    epochs = [[stamp for stamp in stamps if stamp.epoch == number][WARM_UP - 1 :] for number in numbers]
    iterations = sum(max(0, len(ends) - 1) for ends in epochs)
    if not iterations:
        raise ValueError(f"expected epochs of more than {WARM_UP} iterations")
    spent_s = sum(ends[-1].at_s - ends[0].at_s for ends in epochs if ends)
    cpu_s = sum(ends[-1].cpu_s - ends[0].cpu_s for ends in epochs if ends)
    rest_s = stamps[-1].at_s - stamps[WARM_UP - 1].at_s
    return Timing(stamps[0].at_s - asked_s, iterations / spent_s, cpu_s / iterations, rest_s)


def turnarounds(notes: str) -> list[float]:
    """Returns the seconds from the end of each trial of a sweep to the first finished iteration of the next one."""
    stamps = read_stamps(notes)
    return [after.at_s - end.at_s for end, after in zip(stamps, stamps[1:], strict=False) if end.epoch == THE_END]


def particles(folder: Path, size: Size) -> DataDescription:
    """Draws instance data."""
    synthesize("particles", folder, size.train_images + size.val_images, size.side_px)
    whole = read_coco(folder / "annotations.json")
    names = sorted(image.file_name for image in whole.images)
    train, val = whole.subset(names[: size.train_images]), whole.subset(names[size.train_images :])
    roles = []
    for role, part in {"train": train, "val": val}.items():
        write_coco(part, folder / f"{role}.json")
        roles.append(RoleFiles(folder / "images", annotations=folder / f"{role}.json"))
    return DataDescription("instance", whole.class_names, roles[0], roles[1], object_statistics(train), "0" * 16)


def litter(folder: Path, size: Size) -> DataDescription:
    """Draws semantic data."""
    synthesize("litter", folder, size.train_images + size.val_images, size.side_px)
    whole = read_labels(folder / "images", folder / "labels")
    names = [image.name for image in whole.images]
    train, val = names[: size.train_images], names[size.train_images :]
    roles = []
    for role, part in {"train": train, "val": val}.items():
        stems = folder / f"{role}.txt"
        stems.write_text("".join(f"{Path(name).stem}\n" for name in part))
        roles.append(RoleFiles(folder / "images", labels=folder / "labels", stems=stems, suffix=".png"))
    statistics_of_train = pixel_statistics(whole.subset(train))
    return DataDescription("semantic", whole.classes, roles[0], roles[1], statistics_of_train, "1" * 16)


def trial_of(model: str, size: Size) -> TrialConfig:
    """Returns a detector of half the width with narrow heads, or a small transformer as it is."""
    detects = model == "mask-rcnn"
    chosen = ModelChoice(model, "r18", width=0.5, head_width=0.25) if detects else ModelChoice(model, "mit-b0")
    return TrialConfig(
        chosen,
        InputChoice(image_width=size.side_px, image_height=size.side_px),
        OptimizationChoice("adamw", 1e-3, batch_size=BATCH_SIZE),
        ScheduleChoice(size.epochs),
        thresholds=ThresholdChoice(rois_per_image=64) if detects else ThresholdChoice(),
    )


def with_clock(folder: Path) -> Path:
    """Makes a folder whose clock writes into it, and returns where."""
    folder.mkdir(parents=True)
    shutil.copy(PROCESSES / "iteration_clock.py", folder)
    return folder / "iterations.txt"


def train_ours(trial: TrialConfig, data: DataDescription, folder: Path) -> Timing:
    """Trains in a child of the fork server, as Tune's actor does."""
    notes = with_clock(folder)
    metric = {"instance": "segm_mAP", "semantic": "mIoU"}[data.task]
    request = TrialRequest(
        trial, data, folder / "trial", metric, "max", 7, THREADS, custom_imports=("iteration_clock",), folder=folder
    )
    asked_s = time.time()
    child = start_child("trainables.trial:train", request, TrialFiles(request.directory).log)
    try:
        while not isinstance(message := child.receive(TIMEOUT_S), Ended):
            if message is None:
                raise TimeoutError(f"no word from the trial in {TIMEOUT_S:g} s:\n{child.log.read_text()[-3000:]}")
            child.answer("go on")
        if message != Ended("done"):
            raise RuntimeError(f"{message.reason}\n{child.log.read_text()[-3000:]}")
    finally:
        child.stop()
    return read_timing(notes.read_text(), asked_s)


def train_theirs(config: Path, folder: Path) -> Timing:
    """Trains in a fresh process without Segsweep."""
    notes, log = with_clock(folder), folder / "output.txt"
    command = [sys.executable, str(PROCESSES / "stock_training.py"), str(config), str(folder), str(THREADS)]
    asked_s = time.time()
    with log.open("w") as stream:
        # A session of its own, as a trial has: Linux shares the CPUs among sessions first.
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, start_new_session=True
        )
    if done.returncode != 0:
        raise RuntimeError(f"stock training ended with exit status {done.returncode}\n{log.read_text()[-3000:]}")
    return read_timing(notes.read_text(), asked_s)


def paired(trial: TrialConfig, data: DataDescription, folder: Path, pairs: int) -> list[tuple[Timing, Timing]]:
    """Trains (ours, theirs) in turns, after a first trial that starts the fork server and writes the config."""
    train_ours(trial, data, folder / "first")
    config = TrialFiles(folder / "first" / "trial").config
    found = []
    for pair in range(pairs):
        here = folder / f"pair{pair}"
        if pair % 2:  # the machine's slow drift falls on both alike
            theirs = train_theirs(config, here / "theirs")
            found.append((train_ours(trial, data, here / "ours"), theirs))
        else:
            ours = train_ours(trial, data, here / "ours")
            found.append((ours, train_theirs(config, here / "theirs")))
    return found


def model_rows(model: str, trial: TrialConfig, data: DataDescription, folder: Path, pairs: int) -> list[Row]:
    """Measures one model: a later trial's start, iterations within epochs, and a training as a whole."""
    found = paired(trial, data, folder, pairs)
    name = f"{model} {trial.model.backbone}, {trial.input.image_width} px, batch {BATCH_SIZE}"
    measures = (
        (f"first iteration of a later trial, {name}", "first_s", "s", SOONER),
        (f"training iterations, {name}", "per_s", "it/s", AS_FAST),
        (f"CPU time of an iteration, {name}", "cpu_s", "s", None),
        (f"training with validations and checkpoints, {name}", "rest_s", "s", None),
    )
    rows = []
    for what, key, unit, target in measures:
        ours, theirs = ([getattr(timing, key) for timing in side] for side in zip(*found, strict=True))
        more_is_better = unit == "it/s"
        ratios = [a / b if more_is_better else b / a for a, b in zip(ours, theirs, strict=True)]
        rows.append(row(what, PEER, unit, target, summary(ours, theirs, ratios), pairs))
    return rows


def sweep_row(data: Path, folder: Path, theirs_s: float, pairs: int) -> Row:
    """Measures a real sweep, a trial at a time: what lies between two of them includes the driver and Ray Tune."""
    notes = with_clock(folder)
    role = {"annotations": str(data / "val.json"), "images": str(data / "images")}
    sweep = {
        "name": "turnaround",
        "task": "instance",
        "data": {"train": role, "val": role},
        "budget": {"trials": pairs + 1, "concurrent": 1},
        "resources": {"cpu": 1, "gpu": 0},
        "space": {"lr": {"float": [1e-4, 1e-3], "log": True}},
        "fixed": {"model": "mask-rcnn", "backbone": "r18", "width": 0.5, "head_width": 0.25, "rois_per_image": 64}
        | {"optimizer": "adamw", "batch_size": BATCH_SIZE, "epochs": 1},
        "custom_imports": "iteration_clock",
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    command = [sys.executable, "-m", "segsweep", "run", "sweep.yaml"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"segsweep run ended with exit status {done.returncode}\n{done.stdout.decode()[-3000:]}")
    ours_s = turnarounds(notes.read_text())
    found = summary(ours_s, [theirs_s], [theirs_s / one for one in ours_s])
    name = "from a trial's end to the next one's first iteration in a sweep, mask-rcnn r18"
    return row(name, PEER, "s", SOONER, found, len(ours_s))


def rows_of(folder: Path, size: Size) -> list[Row]:
    """Measures everything."""
    rows = []
    for model, data in (
        ("mask-rcnn", particles(folder / "particles", size)),
        ("segformer", litter(folder / "litter", size)),
    ):
        rows += model_rows(model, trial_of(model, size), data, folder / model, size.pairs)
    rows.insert(1, sweep_row(folder / "particles", folder / "sweep", rows[0]["theirs"], size.pairs))
    return rows


def main() -> None:
    """Runs all rows and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images, 2 pairs of a few seconds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(THREADS), "CUDA_VISIBLE_DEVICES": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEGSWEEP_CACHE"] = folder  # of parsed annotations; the user's own stays out of it
        rows = rows_of(Path(folder), QUICK if options.quick else FULL)
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine}, indent=2))
        return
    for line in rows:
        print(
            "{name}: {ours:.2f} {unit}, {peer} {theirs:.2f} {unit}, {ratio:.2f} times (target {target})".format(**line)
        )


if __name__ == "__main__":
    main()
