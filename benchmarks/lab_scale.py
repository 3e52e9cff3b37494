"""What a second and a third host bring: simulated trials an hour on a cluster of the lab. Root only.

The hosts are namespaces of this machine (tests/cluster/lab.py), brought up by cluster/on_prem.yaml with the same number
of places each; the head trains too. On it runs all that `segsweep run` does between its checks and its result, without
MLflow, with trials that sleep and report as a training of ours does (processes/simulated_sweep.py), as many at a time
as there are places, on the storage that the hosts share. Each number of hosts has a lab, a Ray and a sweep of its own.
Nothing is measured before all places are taken, nor after places begin to stay empty.

All hosts share this machine's cores, so the trials have to sleep. A place that trains for s seconds and loses g before
its next trial ends 3600 / (s + g) trials an hour, and h hosts against one reach h * (s + g of one) / (s + g of h): the
closer to h, the longer trials sleep. With short ones the machine is measured, not the cluster; g is shown beside it.

python benchmarks/lab_scale.py [--quick] [--json] [--hosts H ...] [--places N] [--trials-a-place T] [--rounds R]
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {2: 1.8, 3: 2.5}  # hosts -> times the trials an hour of one
STORAGE_BYTES = 256 << 20
Row = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """What each place is given to do: trials, each of so many epochs that sleep for so many seconds."""

    places: int  # of a host
    trials_a_place: int
    epochs: int
    sleep_s: float

    @property
    def train_s(self) -> float:
        """Of one trial."""
        return self.epochs * self.sleep_s

    def __str__(self) -> str:
        return f"{self.places} places a host, trials of {self.epochs} epochs of {self.sleep_s:g} s"


def all_taken_s(asked_s: Sequence[float], placed_s: Sequence[float], places: int) -> float:
    """Returns when all places had been given to trials, and no trial waited for one.

    Raises:
        RuntimeError: Some trial always waited.
    """
    for placed, moment_s in enumerate(placed_s[places - 1 :], places):
        if bisect_right(asked_s, moment_s) == placed:
            return moment_s
    raise RuntimeError(f"expected {places} trials at a time, but some always waited for a place")


def trials_an_hour(asked_s: Sequence[float], placed_s: Sequence[float], ended_s: Sequence[float], places: int) -> float:
    """Returns how many trials end an hour while all places are taken, until there is none left to begin.

    Trials of equal length end in bunches, one for all places. So ends are compared with those that lie whole rounds of
    all places later, wherever in its bunch each is.

    Args:
        asked_s: When trials were suggested, in order.
        placed_s: When trials came to a place, in order.
        ended_s: When trials ended, in order.
        places: How many run at a time.

    Raises:
        RuntimeError: No whole round lies between.
    """
    steady_s = ended_s[bisect_right(ended_s, all_taken_s(asked_s, placed_s, places)) : len(ended_s) - places]
    apart = (len(steady_s) - 1) // places * places
    if apart < places:
        raise RuntimeError(f"expected more than {places} trials that end while all places are taken; ask for more")
    rounds_s = [late_s - early_s for early_s, late_s in zip(steady_s, steady_s[apart:], strict=False)]
    return 3600 * apart / statistics.fmean(rounds_s)


def lost_ms(hourly: float, places: int, train_s: float) -> float:
    """Returns what a place spends between two trials that train for `train_s`."""
    return 1e3 * (3600 * places / hourly - train_s)


def own_tests() -> None:
    """Makes `tests` the folder of this checkout: it is no package, so any package of that name would come first."""
    package = ModuleType("tests")
    package.__path__ = [str(ROOT / "tests")]
    sys.modules[package.__name__] = package


def measure(hosts: int, load: Load) -> float:
    """Makes a lab of so many hosts, and returns its trials an hour.

    Raises:
        RuntimeError: Ray did not come up, or the sweep did not run as it should.
    """
    from tests.cluster.cluster import Cluster  # seconds of imports, which a refusal does without
    from tests.cluster.lab import STORAGE, Lab, ssh

    places = hosts * load.places
    trials = places * load.trials_a_place
    given = {"side": "ours", "folder": str(STORAGE), "trials": trials, "concurrent": None, "address": "auto"}
    given |= {"epochs": load.epochs, "sleep_s": load.sleep_s}
    program = ["python", str(ROOT / "benchmarks" / "processes" / "simulated_sweep.py"), json.dumps(given)]
    with Lab([ROOT], STORAGE_BYTES, hosts) as lab:
        cluster = Cluster(lab, lab.inside(STORAGE))
        cluster.bring_up(lab.hosts[0], lab.hosts[1:], f"--num-cpus={load.places}")
        command = ssh(cluster.head, f". ~/.segsweep_node && exec {shlex.join(program)}")
        done = subprocess.run(lab.operator(f"exec {shlex.join(command)}"), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"the sweep on {hosts} hosts ended with exit status {done.returncode}")
    seen = json.loads(done.stdout.splitlines()[-1])
    if seen["concurrent"] != places or seen["outcomes"] != {"completed": trials}:
        raise RuntimeError(
            f"expected {trials} completed trials, {places} at a time, "
            f"but got {seen['outcomes']}, {seen['concurrent']} at a time"
        )
    hourly = trials_an_hour(seen["asked_s"], seen["placed_s"], seen["ended_s"], places)
    print(f"lab_scale: {hosts} hosts, {trials} trials, {hourly:.0f} an hour", file=sys.stderr, flush=True)
    return hourly


def rows_of(rounds: Sequence[Mapping[int, float]], load: Load) -> list[Row]:
    """Returns two lines for each number of hosts above one; `rounds` are trials an hour by the number of hosts."""
    columns = ("name", "peer", "ours", "theirs", "unit", "ratio", "target")
    rows = []
    for hosts in sorted(rounds[0].keys() - {1}):
        ratios = sorted(hourly[hosts] / hourly[1] for hourly in rounds)
        spread = f"median of {len(rounds)} rounds, {ratios[0]:.2f} to {ratios[-1]:.2f}"
        ours, theirs = (statistics.median(hourly[count] for hourly in rounds) for count in (hosts, 1))
        name, ratio = f"{hosts} hosts: trials that end, {load} ({spread})", statistics.median(ratios)
        rows.append(dict(zip(columns, (name, "1 host", ours, theirs, "1/h", ratio, TARGETS.get(hosts)), strict=True)))
        lost = [lost_ms(hourly, n * load.places, load.train_s) for n, hourly in ((hosts, ours), (1, theirs))]
        name = f"{hosts} hosts: lost by a place between two trials"
        rows.append(dict(zip(columns, (name, "1 host", *lost, "ms", lost[1] / lost[0], None), strict=True)))
    return rows


def main() -> int:
    """Measures and prints the rows; exit status 2 where there can be no lab."""
    own_tests()
    from tests.cluster.lab import missing

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 and 2 hosts, 5 trials a place, half as long")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 3], help="1 and what is compared with it")
    parser.add_argument("--places", type=int, default=4, help="of each host")
    parser.add_argument("--trials-a-place", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3, help="of a trial")
    parser.add_argument("--sleep-s", type=float, default=3.0, help="of each epoch")
    parser.add_argument("--rounds", type=int, default=1, help="every second one with the most hosts first")
    options = parser.parse_args()
    if 1 not in options.hosts:
        parser.error(f"argument --hosts: expected 1 among them, but got {options.hosts}")
    if lacking := missing():
        print(
            f"lab_scale.py: expected root and the lab's tools, but got no {', no '.join(lacking)}. "
            "Become root, and install what lacks.",
            file=sys.stderr,
        )
        return 2
    if options.quick:
        options.hosts, options.trials_a_place, options.sleep_s = [1, 2], 5, 1.0
    load = Load(options.places, options.trials_a_place, options.epochs, options.sleep_s)
    order = sorted(set(options.hosts))
    rounds = [{hosts: measure(hosts, load) for hosts in order[:: 1 - 2 * (n % 2)]} for n in range(options.rounds)]
    rows = rows_of(rounds, load)
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine | {"load": os.getloadavg()}}, indent=2))
        return 0
    for line in rows:
        print("{name}: {ours:.2f} {unit}, {peer} {theirs:.2f} {unit}, {ratio:.2f} (target {target})".format(**line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
