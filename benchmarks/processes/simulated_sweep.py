"""A driver of simulated trials, run as a program by benchmarks/scale.py: ours, or a bare Tuner with our searcher.

python simulated_sweep.py SETTINGS, where SETTINGS is JSON with the fields of `Settings`. It starts a Ray of its own and
prints one line of JSON: what it saw, and what it left on disk. A trial sleeps, then reports an epoch as a training of
ours does: a line of its history, the pointer that Ray is handed, and at the end its outcome. Both sides run the same
function, the same searcher class over a journal, and the same scheduler (none). benchmarks/lab_scale.py runs ours on a
cluster, by its address: then a trial has a CPU, and all CPUs have trials.

Starting a worker takes seconds of a core, and Ray Tune gives a trial that waits for one to a worker that has become
free: trials shorter than all those starts would never take all places. So where trials sleep and their places are
counted, the first ones wait until each place has its worker, and then end one after the other.

ours    `driver.run_trials` whole, with a recorder that does nothing: observers of checkpoints, progress and tracking,
        the queue of wishes, the budget's stopper, our names of folders
theirs  `tune.Tuner` with `reuse_actors`, and nothing else of ours; Tune's loggers are off on both sides
"""

import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

import psutil
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from rich.console import Console

from segdata.synthetic import synthesize
from segsweep import driver, tuning
from segsweep.clusters.fleet import Fleet
from segsweep.clusters.needs import Needs
from segsweep.clusters.node_checks import check_nodes
from segsweep.launch_resources import launch_resources
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources, cluster_nodes, this_machine
from segsweep.run_folder import Origin, RunFolder
from segsweep.search.budget import Budget
from segsweep.search.proposals import enqueue_baseline
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import trial_records
from segsweep.sweep_file import Sweep, load_sweep
from trainables.ray_trainable import leave_unfit, report
from trainables.trial_files import EpochScores, Outcome, TrialFiles

METRIC, SEED = "segm_mAP", 7
PLACES_S = 600.0  # until all places have their workers
ROLE = "{annotations: data/annotations.json, images: data/images}"
SWEEP = """\
name: {side}
task: instance
metric: {metric}
data:
  train: {role}
  val: {role}
search: {{sampler: {sampler}, scheduler: none, seed: {seed}}}
budget: {{trials: {trials}, concurrent: {concurrent}}}
resources: {resources}
storage: {{path: .}}
fixed: {{model: mask-rcnn, epochs: {epochs}}}
space:
  lr: {{float: [1.0e-5, 0.1], log: true}}
  optimizer: {{choice: [sgd, adamw, adadelta]}}
  batch_size: {{int: [1, 16]}}
  weight_decay: {{float: [1.0e-6, 0.1], log: true}}
overrides:
{overrides}
"""
OVERRIDES = {
    **{f"model.float_{index}": "{float: [0.0, 1.0]}" for index in range(8)},
    **{f"model.int_{index}": "{int: [1, 64]}" for index in range(4)},
    **{f"model.choice_{index}": "{choice: [a, b, c, d]}" for index in range(4)},
}


@dataclass(frozen=True)
class Settings:
    """What one run does: `sleep_s` is that of each epoch, memory is read when so many trials have ended.

    With an `address`, of a cluster, there is no limit to trials at a time: `concurrent` is None.
    """

    side: Literal["ours", "theirs"]
    folder: str
    trials: int
    concurrent: int | None
    sleep_s: float = 0.0
    epochs: int = 1
    sampler: str = "random"
    marks: tuple[int, ...] = ()
    address: str | None = None


@dataclass
class Watch:
    """When trials were asked for, placed (ours only) and ended; what suggestions took; the driver's memory and CPU."""

    marks: tuple[int, ...]
    asked_s: list[float] = field(default_factory=list)
    suggestions_s: list[float] = field(default_factory=list)
    placed_s: list[float] = field(default_factory=list)
    ended_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    uss: dict[int, int] = field(default_factory=dict)

    def asked(self, begin_s: float) -> None:
        """Notes a suggestion that has just been made."""
        self.asked_s.append(begin_s)
        self.suggestions_s.append(time.perf_counter() - begin_s)

    def ended(self) -> None:
        """Notes the end of a trial, and at some of them the memory that is the driver's alone."""
        self.ended_s.append(time.perf_counter())
        self.cpu_s.append(time.process_time())
        if len(self.ended_s) in self.marks:
            gc.collect()
            self.uss[len(self.ended_s)] = psutil.Process().memory_full_info().uss


class WatchedSearcher(StudySearcher):
    """Ours, with a watch."""

    watch: Watch

    def suggest(self, trial_id: str) -> Any:
        """See Tune."""
        begin_s = time.perf_counter()
        found = super().suggest(trial_id)
        if isinstance(found, dict):
            self.watch.asked(begin_s)
        return found

    def trial_placed(self, trial_id: str) -> None:
        """See `StudySearcher`."""
        super().trial_placed(trial_id)
        self.watch.placed_s.append(time.perf_counter())

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See Tune."""
        super().on_trial_complete(trial_id, result, error)
        self.watch.ended()


def waited_for_all(places: Path, count: int) -> bool:
    """Waits in the first trial of a process until all places have one; tells whether it was the first."""
    mine = places / str(os.getpid())
    if mine.exists():
        return False
    mine.touch()
    end_s = time.monotonic() + PLACES_S
    while (taken := len(list(places.iterdir()))) < count:
        if time.monotonic() > end_s:
            raise RuntimeError(f"expected {count} workers within {PLACES_S:g} s, but got {taken}")
        time.sleep(0.5)
    return True


def simulated(sleep_s: float, places: Path, count: int | None) -> Any:
    """Returns a trainable that sleeps instead of training; with a `count` of places the first ones wait for all."""

    def train(config: Mapping[str, Any], context: Any) -> None:
        leave_unfit(context.site)
        files = TrialFiles(context.trials / f"{config['number']:04d}")
        files.reserve_outcome()
        lr, epochs = config["trial"]["optimization"]["lr"], config["trial"]["schedule"]["epochs"]
        began_s = time.time()
        if count is not None and waited_for_all(places, count):
            time.sleep(epochs * sleep_s * (config["number"] % count) / count)
        for epoch in range(1, epochs + 1):
            time.sleep(sleep_s)
            row = EpochScores(epoch, {METRIC: lr * epoch})
            files.append_history(row)
            report(files, row)
        files.write_outcome(Outcome("completed", values={"process": os.getpid(), "began_s": began_s}))

    return train


def written_sweep(settings: Settings) -> Sweep:
    """Writes a sweep file with 20 knobs beside two images, and reads it."""
    folder = Path(settings.folder)
    synthesize("particles", folder / "data", 2, seed=0)
    overrides = "\n".join(f"  {name}: {domain}" for name, domain in OVERRIDES.items())
    values = {name: getattr(settings, name) for name in ("side", "sampler", "trials", "epochs")}
    values["concurrent"] = "null" if settings.concurrent is None else settings.concurrent
    values["resources"] = "auto" if settings.address is None else "{cpu: 1}"
    text = SWEEP.format(metric=METRIC, role=ROLE, seed=SEED, overrides=overrides, **values)
    (folder / "sweep.yaml").write_text(text)
    return load_sweep(folder / "sweep.yaml")


def trial_resources(sweep: Sweep, settings: Settings) -> TrialResources:
    """Returns what a trial gets: an equal share of this machine, or what it asks of a cluster."""
    if settings.address is not None:
        return launch_resources(sweep, cluster_nodes(), ())
    assert settings.concurrent is not None
    return TrialResources(int(1e4 * this_machine()[0]["CPU"] / settings.concurrent) / 1e4, 0, settings.concurrent)


def run_ours(sweep: Sweep, folder: RunFolder, resources: TrialResources, train: Any, fleet: Fleet | None) -> None:
    """All that happens between the checks of a launch and its result; `fleet` as in `driver.run_trials`."""
    nothing = lambda *arguments, **options: None  # noqa: E731
    recorder: Any = mock.Mock(spec=[])
    for name in ("start_sweep", "start_trial", "record_epoch", "end_trial", "end_sweep"):
        setattr(recorder, name, nothing)
    checked: Any = SimpleNamespace(data=None, local={}, fitted={})
    with (
        mock.patch.object(tuning, "train_trial", train),
        mock.patch.object(driver, "StudySearcher", WatchedSearcher),
        open(os.devnull, "w") as out,
    ):
        driver.run_trials(sweep, folder, checked, recorder, resources, Console(file=out, width=120), fleet)


def run_theirs(sweep: Sweep, folder: RunFolder, resources: TrialResources, train: Any, fleet: Fleet | None) -> None:
    """A bare Tuner over the same kind of searcher, which knows of no nodes."""
    study, config = folder.study(writable=True), sweep.config
    enqueue_baseline(study, sweep.space)
    scheduler = FIFOScheduler()  # type: ignore[no-untyped-call]
    searcher = WatchedSearcher(
        study,
        sweep.space,
        metric=METRIC,
        mode="max",
        budget=Budget(config.budget.trials),
        files_of=folder.trial,
        scheduler=scheduler,
    )
    for name in ("TUNE_GLOBAL_CHECKPOINT_S", "TUNE_ONLY_STORE_CHECKPOINT_SCORE_ATTRIBUTE"):
        os.environ.pop(name)  # ours; raw Tune has its defaults
    context = tuning.trial_context(sweep, None, resources, None)  # type: ignore[arg-type]  # it trains on nothing
    tune.Tuner(
        tune.with_resources(tune.with_parameters(train, context=context), resources.request()),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=config.budget.trials,
            max_concurrent_trials=resources.concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="launch-000",
            storage_path=str(folder.path / "tune"),
            failure_config=tune.FailureConfig(max_failures=config.max_failures),
            verbose=0,
            callbacks=[tuning.SilentTune()],  # it prints nothing where Tune would
        ),
    ).fit()


def begun(folder: RunFolder, trials: int) -> list[tuple[int, float]]:
    """Returns the process in which each trial ran, and when it began there, in Unix seconds."""
    outcomes = [folder.trial(number).read_outcome() for number in range(trials)]
    return [(int(one.values["process"]), one.values["began_s"]) for one in outcomes if one is not None]


def files_below(folder: Path) -> tuple[int, int]:
    """Returns how many files there are, and their bytes on disk."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(512 * path.stat().st_blocks for path in files)


def main(settings: Settings) -> dict[str, Any]:
    """Runs a sweep and returns what was seen."""
    sweep = written_sweep(settings)
    folder, console = RunFolder(sweep.path), Console(stderr=True)
    watch = WatchedSearcher.watch = Watch(settings.marks)
    run = {"ours": run_ours, "theirs": run_theirs}[settings.side]
    with folder.locked(), ray_session(settings.address, console):
        resources, needs = trial_resources(sweep, settings), Needs()
        clustered = settings.address is not None
        fleet = Fleet(sweep.storage, needs, check_nodes(sweep.storage, needs, console)) if clustered else None
        folder.create(sweep, Origin.new(sweep, "f00d"))
        places = Path(settings.folder) / "places"
        places.mkdir()
        counted = settings.concurrent if settings.sleep_s else None
        run(sweep, folder, resources, simulated(settings.sleep_s, places, counted), fleet)
    parts = {part: files_below(folder.path / part) for part in ("", "trials", "tune")}
    return {
        "concurrent": resources.concurrent,
        "outcomes": Counter(record.outcome for record in trial_records(folder.study())),
        "asked_s": watch.asked_s,
        "suggestions_s": watch.suggestions_s,
        "placed_s": watch.placed_s,
        "ended_s": watch.ended_s,
        "begun": begun(folder, settings.trials),
        "cpu_s": watch.cpu_s,
        "uss": watch.uss,
        "files": parts,
        "journal": folder.journal.stat().st_size,
    }


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    print(json.dumps(main(Settings(**values | {"marks": tuple(values.get("marks", ()))}))))
