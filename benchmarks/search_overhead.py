"""What our searcher costs a trial, journal included, against stock Optuna in memory in the same run.

The peer has the same sampler options, distributions and history. Both take turns trial by trial, so that whatever else
the machine does falls on both. Through Ray Tune the peer is Tune with its own `OptunaSearch` in memory.

python benchmarks/search_overhead.py [--quick] [--json]
"""

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from search_spaces.space import Space, parse_space
from segsweep import tuning
from segsweep.ray_session import ray_session
from segsweep.resources import TrialResources
from segsweep.run_folder import RunFolder
from segsweep.search.budget import Budget
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import open_study
from segsweep.search_config import SamplerConfig
from trainables.trial_files import Outcome, TrialFiles

METRIC, SEED = "segm_mAP", 7
MOST_FOR_A_SUGGESTION = 1.3  # of what stock TPE takes in memory
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "optimizer": CategoricalDistribution(["sgd", "adamw", "adadelta"]),
    "batch_size": IntDistribution(1, 16),
    "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    **{f"model.float_{index}": FloatDistribution(0.0, 1.0) for index in range(8)},
    **{f"model.int_{index}": IntDistribution(1, 64) for index in range(4)},
    **{f"model.choice_{index}": CategoricalDistribution(["a", "b", "c", "d"]) for index in range(4)},
}
SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "tpe": lambda: TPESampler(seed=SEED),
    "random": lambda: RandomSampler(seed=SEED),
}
PARTS = ("suggestion", "growth", "tune")
Row = dict[str, Any]


def score_of(parameters: Mapping[str, Any]) -> float:
    """A stand-in for training: best at a learning rate of 0.01 and small first floats."""
    distance = abs(float(parameters["lr"]) - 0.01) + sum(float(parameters[f"model.float_{i}"]) for i in range(8))
    return 1 / (1 + distance)


def space_of() -> Space:
    """The space of `DISTRIBUTIONS` as a sweep file has it; trials plan one epoch."""
    form: dict[str, dict[str, Any]] = {"space": {}, "overrides": {}}
    for name, distribution in DISTRIBUTIONS.items():
        form["overrides" if "." in name else "space"][name] = domain_of(distribution)
    fixed = {"model": "mask-rcnn", "epochs": 1}
    return parse_space(form["space"], form["overrides"], [], fixed, task="instance", where="benchmark")


def domain_of(distribution: BaseDistribution) -> dict[str, Any]:
    """A distribution as a sweep file writes it."""
    if isinstance(distribution, CategoricalDistribution):
        return {"choice": list(distribution.choices)}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    kind = "float" if isinstance(distribution, FloatDistribution) else "int"
    return {kind: [distribution.low, distribution.high], "log": distribution.log}


def history(trials: int) -> list[FrozenTrial]:
    """Ended trials at random points, as our searcher leaves them apart from its own attributes."""
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=SEED))
    for _ in range(trials):
        trial = study.ask(fixed_distributions=DISTRIBUTIONS)
        trial.report(score_of(trial.params), 1)
        study.tell(trial, score_of(trial.params))
    return study.get_trials(deepcopy=False)


@dataclass
class Ours:
    """A searcher over a journal in a folder, which ends its trials one by one."""

    folder: Path
    sampler: str
    before: Sequence[FrozenTrial] = ()
    kind: type[StudySearcher] = StudySearcher
    names: int = 0
    current: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        space = space_of()
        study = open_study(self.folder / "study.journal", "max", SamplerConfig.model_validate(self.sampler), SEED)
        for trial in self.before:
            attributes = {
                "sample": trial.params,
                "config": space.decode(trial.params).to_dict(),
                "outcome": "completed",
                "reason": "",
                "device_s": 1.0,
            }
            study.add_trial(copy_of(trial, attributes, crash=0.0))
        self.searcher = self.kind(
            study,
            space,
            metric=METRIC,
            mode="max",
            budget=Budget(10**6),
            files_of=lambda number: TrialFiles(self.folder / "trials" / f"{number:04d}"),
            scheduler=FIFOScheduler(),  # type: ignore[no-untyped-call]
        )

    def ask(self) -> None:
        """A suggestion, on disk when it returns."""
        self.names += 1
        self.current = self.searcher.suggest(str(self.names))

    def end(self) -> None:
        """One epoch, and the end of the trial, which leaves a file that says so as a training does."""
        trial, files = self.current["trial"], self.searcher.files_of(self.current["number"])
        parameters = {"lr": trial["optimization"]["lr"], **dict(trial["overrides"])}
        result = {"epoch": 1, METRIC: score_of(parameters)}
        self.searcher.on_trial_result(str(self.names), result)
        files.directory.mkdir(parents=True)
        files.write_outcome(Outcome("completed"))
        self.searcher.on_trial_complete(str(self.names), result | {"done": True})


class Theirs:
    """Stock Optuna in memory; with `constrained`, its trials say that they did not crash, and its TPE looks at that."""

    def __init__(self, sampler: str, before: Sequence[FrozenTrial] = (), *, constrained: bool = False) -> None:
        self.constrained = constrained
        self.study = optuna.create_study(direction="maximize", sampler=SAMPLERS[sampler]())
        self.study.add_trials([copy_of(trial, {}) for trial in before])

    def ask(self) -> None:
        """A suggestion."""
        self.trial = self.study.ask(fixed_distributions=DISTRIBUTIONS)

    def end(self) -> None:
        """One epoch, and the end of the trial."""
        score = score_of(self.trial.params)
        self.trial.report(score, 1)
        if self.constrained:
            self.trial.set_constraint("crash", 0.0)
        self.study.tell(self.trial, score)


def copy_of(trial: FrozenTrial, attributes: dict[str, Any], crash: float | None = None) -> FrozenTrial:
    """The same trial with attributes, and with our constraint if there is a value for it."""
    return create_trial(
        state=TrialState.COMPLETE,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
        user_attrs=attributes,
        system_attrs={} if crash is None else {"constraints:crash": crash},
        value=trial.value,
    )


def seconds(step: Callable[[], object]) -> float:
    """How long a step took."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def row(name: str, peer: str, ours: float, theirs: float, unit: str, ratio: float, target: float | None) -> Row:
    """One line of the result."""
    columns = ("name", "peer", "ours", "theirs", "unit", "ratio", "target")
    return dict(zip(columns, (name, peer, ours, theirs, unit, ratio, target), strict=True))


def suggestion_row(folder: Path, trials: int, pairs: int) -> Row:
    """The time of a suggestion after so many ended trials, in pairs that take turns in who is first."""
    before = history(trials)
    ours, theirs = Ours(folder, "tpe", before), Theirs("tpe", before)
    taken: list[tuple[float, float]] = []
    for pair in range(pairs):
        if pair % 2:
            our_s = seconds(ours.ask)
            taken.append((our_s, seconds(theirs.ask)))
        else:
            their_s = seconds(theirs.ask)
            taken.append((seconds(ours.ask), their_s))
        ours.end()
        theirs.end()
    ratios = sorted(their_s / our_s for our_s, their_s in taken)
    name = f"a suggestion at {trials} ended trials, {len(DISTRIBUTIONS)} knobs, journal included"
    spread = f"median of {pairs} pairs, {ratios[0]:.2f} to {ratios[-1]:.2f}"
    our_ms, their_ms = (1e3 * statistics.median(times) for times in zip(*taken, strict=True))
    ratio, target = statistics.median(ratios), 1 / MOST_FOR_A_SUGGESTION
    return row(f"{name} ({spread})", "Optuna's TPE in memory", our_ms, their_ms, "ms", ratio, target)


def growth_rows(folder: Path, sampler: str, trials: int) -> list[Row]:
    """What whole no-op trials cost in the first and the last tenth, and what ours takes on top of the peer's there."""
    ours, theirs = Ours(folder, sampler), Theirs(sampler, constrained=True)
    taken: list[tuple[float, float]] = []
    for _ in range(trials):
        our_s, their_s = seconds(ours.ask), seconds(theirs.ask)
        taken.append((our_s + seconds(ours.end), their_s + seconds(theirs.end)))
    tenth, peer = trials // 10, f"Optuna's {sampler} in memory"
    rows, on_top = [], []
    for words, part in (("first", taken[:tenth]), ("last", taken[-tenth:])):
        our_ms, their_ms = (1e3 * statistics.median(times) for times in zip(*part, strict=True))
        on_top.append(1e3 * statistics.median(our_s - their_s for our_s, their_s in part))
        name = f"a no-op trial of the {words} {tenth} of {trials}, {sampler}"
        rows.append(row(name, peer, our_ms, their_ms, "ms", their_ms / our_ms, None))
    name = f"what ours takes on top in the last {tenth} of {trials} no-op trials, {sampler}"
    return [*rows, row(name, f"in the first {tenth}", on_top[1], on_top[0], "ms", on_top[0] / on_top[1], 1.0)]


@dataclass
class Clock:
    """When each trial was asked for, and the seconds that each spent in its searcher."""

    asked: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)

    def part(self, part: slice) -> tuple[float, float]:
        """Medians over some trials: milliseconds from one trial to the next, and those of them in the searcher."""
        whole = [after - before for before, after in zip(self.asked, self.asked[1:], strict=False)]
        return 1e3 * statistics.median(whole[part]), 1e3 * statistics.median(self.taken[part])


class Watched(Searcher):
    """A searcher whose calls are timed; of one trial at a time."""

    watch: Clock

    def suggest(self, trial_id: str) -> Any:
        """See Tune."""
        self.watch.asked.append(time.perf_counter())
        self.watch.taken.append(0.0)
        return self._timed(lambda: super(Watched, self).suggest(trial_id))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """See Tune."""
        self._timed(lambda: super(Watched, self).on_trial_result(trial_id, result))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """See Tune."""
        self._timed(lambda: super(Watched, self).on_trial_complete(trial_id, result, error))

    def _timed(self, call: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        try:
            return call()
        finally:
            self.watch.taken[-1] += time.perf_counter() - begin


class WatchedOurs(Watched, StudySearcher):
    """Ours."""


class WatchedTheirs(Watched, OptunaSearch):
    """Tune's own."""


def no_op(config: Mapping[str, Any], context: Any) -> None:
    """A trial of ours that reports one epoch."""
    files = context.files_of(config["number"])
    files.directory.mkdir(parents=True, exist_ok=True)
    tune.report({"epoch": 1, METRIC: config["trial"]["optimization"]["lr"]})
    files.write_outcome(Outcome("completed"))


def stock_no_op(config: Mapping[str, Any]) -> None:
    """The peer's trial that reports one epoch."""
    tune.report({"epoch": 1, METRIC: config["lr"]})


def ours_through_tune(folder: Path, trials: int) -> Clock:
    """Runs trials by our searcher and our settings of Tune."""
    searcher = Ours(folder, "random", kind=WatchedOurs).searcher
    assert isinstance(searcher, WatchedOurs)
    searcher.watch, searcher.budget = Clock(), Budget(trials)
    context: Any = SimpleNamespace(files_of=RunFolder(folder).trial, max_failures=0)
    with mock.patch.object(tuning, "train_trial", no_op):
        tuning.fit(searcher, context, TrialResources(1, 0, 1), RunFolder(folder))
    return searcher.watch


def theirs_through_tune(folder: Path, trials: int) -> Clock:
    """Runs trials by Tune's own searcher, with the same settings."""
    searcher = WatchedTheirs(space=DISTRIBUTIONS, metric=METRIC, mode="max", sampler=SAMPLERS["random"]())
    searcher.watch = Clock()
    tune.Tuner(
        tune.with_resources(stock_no_op, {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=trials, max_concurrent_trials=1, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0, callbacks=[tuning.SilentTune()]),
    ).fit()
    return searcher.watch


def tune_rows(folder: Path, trials: int) -> list[Row]:
    """Whole no-op trials through Ray Tune, one at a time; random draws, which take no longer the more there are."""
    with ray_session(None, Console(file=io.StringIO())):
        theirs = theirs_through_tune(folder / "theirs", trials)
        ours = ours_through_tune(folder / "ours", trials)
    tenth, rows = trials // 10, []
    for words, part in (("first", slice(1, tenth)), ("last", slice(-tenth, None))):
        (our_ms, searcher_ms), (their_ms, _) = ours.part(part), theirs.part(part)
        name = f"through Tune a no-op trial of the {words} {tenth} of {trials}, random, {searcher_ms:.1f} ms in ours"
        rows.append(row(name, "Tune with OptunaSearch in memory", our_ms, their_ms, "ms", their_ms / our_ms, None))
    return rows


def rows_of(folder: Path, parts: Sequence[str], quick: bool) -> list[Row]:
    """The rows of some parts."""
    trials, rows = 300 if quick else 1000, []
    if "suggestion" in parts:
        rows.append(suggestion_row(folder / "suggestion", trials, 20 if quick else 60))
    if "growth" in parts:
        for sampler in SAMPLERS:
            rows += growth_rows(folder / sampler, sampler, trials)
    return rows + (tune_rows(folder, trials) if "tune" in parts else [])


def main() -> None:
    """Runs all rows and prints them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 trials instead of 1000")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="instead of all")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        rows = rows_of(Path(folder), options.parts, options.quick)
    if options.json:
        machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
        print(json.dumps({"rows": rows, "machine": machine}, indent=2))
        return
    for line in rows:
        print("{name}: {ours:.2f} {unit}, {peer} {theirs:.2f} {unit}, {ratio:.2f} (target {target})".format(**line))


if __name__ == "__main__":
    main()
