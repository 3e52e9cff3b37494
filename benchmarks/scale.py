"""What a trial costs the driver when there are many: simulated trials on local Ray, against raw Ray Tune.

The peer is a bare `tune.Tuner` with reused actors, our searcher over its journal and the same scheduler; ours is all
that `segsweep run` does between its checks and its result, without MLflow. Both train the same stand-in, which sleeps
and reports as a training of ours does (processes/simulated_sweep.py). Each sweep has a process and a Ray of its own;
the two sides take turns, and a ratio is the median of the pairs' own. Nothing is measured before the first trials have
ended, nor after places begin to stay empty.

no-op    trials without sleep: time and driver CPU time a trial, memory, files; early and late ones
sleep    trials that sleep: what a place loses between two of them once all places are taken, by trials at a time
suggest  the time of a suggestion of TPE by ended trials, as search_overhead.py measures it

python benchmarks/scale.py [--quick] [--json] [--parts ...] [--trials N] [--at-a-time C ...] [--pairs P]
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEER = "Ray Tune, reused actors, same searcher"
MOST_OVERHEAD = 1.1  # of what the peer takes
MOST_MEMORY_KB = 50.0  # a trial
PARTS = ("no-op", "sleep", "suggest")
Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What one sweep showed; times in seconds of one clock, `uss` in bytes by ended trials, files as (count, bytes).

    `begun` has the process of each trial and when it began there, by a clock of its own.
    """

    concurrent: int
    suggestions_s: Sequence[float]
    ended_s: Sequence[float]
    cpu_s: Sequence[float]
    uss: dict[int, int]
    files: dict[str, tuple[int, int]]
    begun: Sequence[tuple[int, float]] = ()

    @property
    def trials(self) -> int:
        return len(self.ended_s)

    @property
    def steady(self) -> slice:
        """Ends of trials while all places were taken: each had a trial before, and has another one after."""
        return slice(2 * self.concurrent, self.trials - self.concurrent + 1)

    def trial_ms(self, part: slice | None = None) -> float:
        """From one end of a trial to the next."""
        return ms_a_step(self.ended_s[part or self.steady])

    def cpu_ms(self) -> float:
        """The driver's CPU time from one end of a trial to the next."""
        return ms_a_step(self.cpu_s[self.steady])

    def tenth(self, number: int) -> slice:
        """One tenth of the trials, from 0."""
        return slice(number * self.trials // 10, (number + 1) * self.trials // 10)

    def lost_ms(self, train_s: float) -> float:
        """What a place spends between two trials that train for `train_s`, on average; first trials wait for all.

        Raises:
            RuntimeError: There were more or fewer processes than places, so steps are not those of a place.
        """
        by_process = defaultdict[int, list[float]](list)
        for process, began_s in sorted(self.begun, key=lambda one: one[1]):
            by_process[process].append(began_s)
        if len(by_process) != self.concurrent:
            raise RuntimeError(f"expected {self.concurrent} processes, but got {len(by_process)}")
        steps_s = [later - early for began in by_process.values() for early, later in pairwise(began[1:])]
        return 1e3 * (statistics.mean(steps_s) - train_s)

    def memory_kb(self) -> float:
        """Growth of the driver's own memory a trial, between the first and the last mark."""
        first, last = min(self.uss), max(self.uss)
        return (self.uss[last] - self.uss[first]) / 1024 / (last - first)

    def files_a_trial(self) -> float:
        """Files below the trials' folders and Ray Tune's."""
        return (self.files["trials"][0] + self.files["tune"][0]) / self.trials


def ms_a_step(moments_s: Sequence[float]) -> float:
    """Milliseconds from one moment to the next, on average."""
    return 1e3 * (moments_s[-1] - moments_s[0]) / (len(moments_s) - 1)


def run(side: str, folder: Path, trials: int, concurrent: int, **settings: Any) -> Run:
    """Runs one sweep to its end in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        given = {"side": side, "folder": place, "trials": trials, "concurrent": concurrent, **settings}
        command = [sys.executable, str(HERE / "processes" / "simulated_sweep.py"), json.dumps(given)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    uss = {int(mark): value for mark, value in seen["uss"].items()}
    print(f"scale: {side}, {trials} trials, {concurrent} at a time", file=sys.stderr, flush=True)
    return Run(concurrent, seen["suggestions_s"], seen["ended_s"], seen["cpu_s"], uss, seen["files"], seen["begun"])


def run_pairs(pairs: int, *arguments: Any, **settings: Any) -> list[tuple[Run, Run]]:
    """Runs ours and theirs in turns, the one first and then the other."""
    found = []
    for pair in range(pairs):
        order = ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours")
        by_side = {side: run(side, *arguments, **settings) for side in order}
        found.append((by_side["ours"], by_side["theirs"]))
    return found


def row(name: str, peer: str, ours: float, theirs: float, unit: str, ratio: float, target: float | None = None) -> Row:
    """One line of the result."""
    columns = ("name", "peer", "ours", "theirs", "unit", "ratio", "target")
    return dict(zip(columns, (name, peer, ours, theirs, unit, ratio, target), strict=True))


def paired(
    name: str, unit: str, pairs: Sequence[tuple[Run, Run]], measure: Callable[[Run], float], target: float | None = None
) -> Row:
    """The medians of both sides, and the median of the pairs' ratios with its range."""
    values = [(measure(ours), measure(theirs)) for ours, theirs in pairs]
    ratios = sorted(theirs / ours for ours, theirs in values)
    spread = f"median of {len(pairs)} pairs, {ratios[0]:.2f} to {ratios[-1]:.2f}"
    ours, theirs = (statistics.median(side) for side in zip(*values, strict=True))
    return row(f"{name} ({spread})", PEER, ours, theirs, unit, statistics.median(ratios), target)


def no_op_rows(folder: Path, trials: int, concurrent: int, pairs: int) -> list[Row]:
    """Trials that end at once: the driver is what one waits for."""
    first = min(200, trials // 5)
    found = run_pairs(pairs, folder, trials, concurrent, marks=[first, trials])
    what = f"of {trials} no-op trials, {concurrent} at a time"
    memory = paired(f"driver memory a trial, from the {first}th {what}", "KB", found, Run.memory_kb)
    rows = [
        paired(f"a trial {what}", "ms", found, Run.trial_ms, 1 / MOST_OVERHEAD),
        paired(f"the driver's CPU time for a trial {what}", "ms", found, Run.cpu_ms),
        paired(f"a random suggestion {what}", "ms", found, lambda run: 1e3 * statistics.median(run.suggestions_s[20:])),
        memory,
        row(
            f"driver memory a trial {what}, Tune's included",
            "the limit",
            memory["ours"],
            MOST_MEMORY_KB,
            "KB",
            MOST_MEMORY_KB / memory["ours"],
            1.0,
        ),
        paired(f"files a trial {what}", "files", found, Run.files_a_trial),
    ]
    for side, name in enumerate(("ours", "raw Tune")):
        early, late = (statistics.median(pair[side].trial_ms(pair[side].tenth(n)) for pair in found) for n in (1, 9))
        rows.append(
            row(f"{name}: a trial of the last tenth {what}", "the second tenth", late, early, "ms", early / late)
        )
    return rows


def sleep_rows(folder: Path, at_a_time: Sequence[int], pairs: int, epochs: int, sleep_s: float) -> list[Row]:
    """Trials that take their time: what a place loses, with eight trials for each place."""
    rows = []
    for concurrent in at_a_time:
        found = run_pairs(pairs, folder, 8 * concurrent, concurrent, epochs=epochs, sleep_s=sleep_s)
        train_s = epochs * sleep_s
        what = f"trials of {epochs} epochs of {sleep_s:g} s, {concurrent} at a time"
        rows.append(paired(f"lost by a place between {what}", "ms", found, lambda run, s=train_s: run.lost_ms(s)))  # type: ignore[misc]
    return rows


def suggest_rows(folder: Path, trials: Sequence[int], pairs: int) -> list[Row]:
    """TPE over a journal with so many ended trials."""
    spec = importlib.util.spec_from_file_location("search_overhead", HERE / "search_overhead.py")
    assert spec is not None and spec.loader is not None
    overhead: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = overhead  # dataclasses look their module up
    spec.loader.exec_module(overhead)
    overhead.optuna.logging.set_verbosity(overhead.optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return [overhead.suggestion_row(Path(place) / str(count), count, pairs) for count in trials]


def main() -> None:
    """Runs the parts and prints their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 trials, 4 at a time, one pair")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="instead of all")
    parser.add_argument("--trials", type=int, default=1000, help="of a no-op sweep")
    parser.add_argument(
        "--at-a-time", type=int, nargs="+", default=[4, 16, 64], help="of those that sleep; no-op: first"
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of a trial that sleeps")
    parser.add_argument("--sleep-s", type=float, default=2.0, help="of each epoch")
    parser.add_argument("--ended", type=int, nargs="+", default=[100, 1000, 10000], help="trials before a suggestion")
    parser.add_argument("--folder", type=Path, help="where sweeps lie, for example on shared storage")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.at_a_time, options.pairs, options.sleep_s, options.ended = 60, [4], 1, 0.2, [100]
    rows: list[Row] = []
    with contextlib.redirect_stdout(sys.stderr):
        if "no-op" in options.parts:
            rows += no_op_rows(options.folder, options.trials, options.at_a_time[0], options.pairs)
        if "sleep" in options.parts:
            rows += sleep_rows(options.folder, options.at_a_time, options.pairs, options.epochs, options.sleep_s)
        if "suggest" in options.parts:
            rows += suggest_rows(options.folder, options.ended, 4 if options.quick else 20)
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine | {"load": os.getloadavg()}}, indent=2))
        return
    for line in rows:
        print("{name}: {ours:.2f} {unit}, {peer} {theirs:.2f} {unit}, {ratio:.2f} (target {target})".format(**line))


if __name__ == "__main__":
    main()
