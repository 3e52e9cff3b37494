"""Memory and time of a trial's annotations against the stock COCO data set in the same run.

Each trial is a process of its own: ours holds its data set and its evaluator, the peer its data set alone. Memory is
PSS, in which what processes share counts once, after every sample was read. Ours start with an empty cache.

python benchmarks/annotations.py [--quick] [--json]
"""

import argparse
import contextlib
import ctypes
import gc
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

with contextlib.redirect_stdout(sys.stderr):  # mmdet says there what it could not import; ours is for the result
    from mmdet.datasets import CocoDataset

    from trainables.evaluators import InstanceEvaluator
    from trainables.mapped_data import MappedCocoDataset

FORK = get_context("fork")

IMAGES, OBJECTS_EACH, POINTS = 50_000, 10, 12
CLASSES = ("nucleus", "debris")
TRIALS = 4
MOST_MEMORY = 1.3  # of all trials together, of what one of the peer's needs
Row = dict[str, Any]


def write_annotations(path: Path, images: int) -> None:
    """Writes a COCO file of polygons with coordinates of two decimals, as labelling tools export them."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    centres = rng.uniform(30, 482, (images * OBJECTS_EACH, 2))
    radii = rng.uniform(8, 24, (images * OBJECTS_EACH, POINTS))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    outlines = (centres[:, None] + radii[..., None] * circle).round(2)
    annotations = []
    for index, outline in enumerate(outlines):
        x, y = (float(value) for value in outline.min(0))
        w, h = (float(value) for value in (outline.max(0) - outline.min(0)).round(2))
        annotations.append(
            {
                "id": index + 1,
                "image_id": index // OBJECTS_EACH + 1,
                "category_id": index % 2 + 1,
                "segmentation": [outline.reshape(-1).tolist()],
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": 0,
            }
        )
    content = {
        "images": [{"id": i + 1, "file_name": f"{i:06d}.jpg", "width": 512, "height": 512} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    path.write_text(json.dumps(content))


def trial(kind: str, annotations: Path, cache: Path, connection: Connection) -> None:
    """A process of the benchmark: opens the annotations when told, reads every sample when told, and stays."""
    os.environ["SEGSWEEP_CACHE"] = str(cache)
    held: list[Any] = []

    def start() -> None:
        dataset_class = {"ours": MappedCocoDataset, "theirs": CocoDataset}[kind]
        filters, prefix = {"filter_empty_gt": True, "min_size": 1}, {"img": "images/"}
        metainfo = {"classes": CLASSES}
        held.append(dataset_class(ann_file=str(annotations), metainfo=metainfo, filter_cfg=filters, data_prefix=prefix))

    def read() -> None:
        if kind == "ours":
            held.append(InstanceEvaluator(str(annotations)))
        for index in range(len(held[0])):
            held[0].get_data_info(index)

    steps: dict[str, Callable[[], None]] = {"start": start, "read": read, "settle": settle}
    with contextlib.suppress(EOFError), contextlib.redirect_stdout(io.StringIO()):
        while True:
            word = connection.recv()
            begin = time.perf_counter()
            steps[word]()
            connection.send(time.perf_counter() - begin)


def settle() -> None:
    """Gives back to the system what is not in use, so that only what is held counts."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


class Trials:
    """Processes that do the same thing at the same time, forked as trials are; they end with the block."""

    def __init__(self, kind: str, annotations: Path, count: int, cache: Path) -> None:
        self.processes, self.connections = [], []
        for _ in range(count):
            ours, theirs = FORK.Pipe()
            process = FORK.Process(target=trial, args=(kind, annotations, cache, theirs), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.connections.append(ours)
        self.tell("settle")
        self.before_mb = self.pss_mb()

    def __enter__(self) -> "Trials":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def tell(self, word: str) -> list[float]:
        """Has all do a step, and returns the seconds that each took."""
        for connection in self.connections:
            connection.send(word)
        return [connection.recv() for connection in self.connections]

    def added_mb(self) -> float:
        """Memory that all hold together beyond what they held before they opened the annotations."""
        self.tell("settle")
        return self.pss_mb() - self.before_mb

    def pss_mb(self) -> float:
        """Proportional set size of all."""
        rollups = [Path(f"/proc/{process.pid}/smaps_rollup").read_text() for process in self.processes]
        lines = [line.split() for rollup in rollups for line in rollup.splitlines() if line.startswith("Pss:")]
        return sum(int(line[1]) for line in lines) / 1024


def row(name: str, peer: str, ours: float, theirs: float, unit: str, target: float | None) -> Row:
    """One line of the result."""
    columns = ("name", "peer", "ours", "theirs", "unit", "ratio", "target")
    return dict(zip(columns, (name, peer, ours, theirs, unit, theirs / ours, target), strict=True))


def rows_of(folder: Path, images: int, runs: int) -> list[Row]:
    """Measures, `runs` times: the peer in one process, ours in 4 at once that start without a file, then in one."""
    annotations, size = folder / "train.json", f"{images} images, {images * OBJECTS_EACH} objects"
    writer = FORK.Process(target=write_annotations, args=(annotations, images))  # the memory goes with the process
    writer.start()
    writer.join()
    theirs, together, alone = [], [], []
    for run in range(runs):
        theirs.append(measured("theirs", annotations, 1, folder))
        together.append(measured("ours", annotations, TRIALS, folder / f"cache{run}"))
        alone.append(measured("ours", annotations, 1, folder / f"cache{run}"))
    parse_s, read_s, memory_mb = (median_of(theirs, key) for key in ("open_s", "read_s", "added_mb"))
    our_memory_mb, first_s = median_of(together, "added_mb"), median_of(together, "open_s")
    open_s, our_read_s = median_of(alone, "open_s"), median_of(alone, "read_s")
    one, memory = "CocoDataset, one process", f"memory of {TRIALS} trials' annotations, {size}"
    return [
        row(memory, one, our_memory_mb, memory_mb, "MB", 1 / MOST_MEMORY),
        row(memory, f"CocoDataset, {TRIALS} processes", our_memory_mb, TRIALS * memory_mb, "MB", None),
        row(f"opening annotations, {size}", one, open_s * 1e3, parse_s * 1e3, "ms", 100),
        row(f"opening by {TRIALS} at once where none did before", one, first_s * 1e3, parse_s * 1e3, "ms", None),
        row(
            f"reading a sample of {OBJECTS_EACH} objects",
            one,
            our_read_s / images * 1e6,
            read_s / images * 1e6,
            "us",
            None,
        ),
    ]


def measured(kind: str, annotations: Path, count: int, cache: Path) -> dict[str, float]:
    """One run: seconds (of the slowest) to open and to read all, and the memory of all together."""
    with Trials(kind, annotations, count, cache) as trials:
        open_s, read_s = max(trials.tell("start")), min(trials.tell("read"))
        return {"open_s": open_s, "read_s": read_s, "added_mb": trials.added_mb()}


def median_of(runs: list[dict[str, float]], key: str) -> float:
    """The median over the runs."""
    return statistics.median(run[key] for run in runs)


def main() -> None:
    """Runs all rows and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    gc.freeze()  # what is imported stays shared
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of(Path(folder), IMAGES // 10 if options.quick else IMAGES, 3)
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine}, indent=2))
        return
    for line in rows:
        print(
            "{name}: {ours:.2f} {unit}, {peer} {theirs:.2f} {unit}, {ratio:.1f} times (target {target})".format(**line)
        )


if __name__ == "__main__":
    main()
