"""A search without Ray: a real study on disk, a searcher over it, and what the searcher's observers saw."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from search_spaces.space import Space, parse_space
from segsweep.objectives import Objective
from segsweep.search.budget import Budget
from segsweep.search.proposals import enqueue_baseline
from segsweep.search.schedulers import build_scheduler
from segsweep.search.searcher import StudySearcher
from segsweep.search.study import Study, TrialRecord, open_study, trial_records
from segsweep.search_config import SamplerConfig, SchedulerConfig
from segsweep.wishes import Wishes
from trainables.limits import Limit, broken_at_once
from trainables.trial_files import Outcome, TrialFiles

METRIC = "segm_mAP"


@dataclass
class Witness:
    """An observer that remembers what it was told."""

    started: list[int] = field(default_factory=list)
    epochs: list[tuple[int, int, Mapping[str, float]]] = field(default_factory=list)
    ended: list[TrialRecord] = field(default_factory=list)

    def trial_started(self, record: TrialRecord) -> None:
        self.started.append(record.number)

    def epoch_ended(self, number: int, epoch: int, scores: Mapping[str, float]) -> None:
        self.epochs.append((number, epoch, scores))

    def trial_ended(self, record: TrialRecord) -> None:
        self.ended.append(record)


@dataclass
class Search:
    """One launch of a sweep in `folder`: opening a second one on the same folder is a resume."""

    folder: Path
    space: Space
    budget: int = 4
    seed: int = 7
    scheduler_name: Any = "none"
    longest_epochs: int = 9
    sampler: Any = "tpe"
    patience: int | None = None
    device_hours: float | None = None
    clock: Callable[[], float] = time.monotonic
    further: Sequence[Objective] = ()
    limits: Sequence[Limit] = ()
    witness: Witness = field(default_factory=Witness)

    def __post_init__(self) -> None:
        sampler = SamplerConfig.model_validate(self.sampler)
        self.study: Study = open_study(
            self.folder / "study.journal", "max", sampler, self.seed, further=self.further, limits=self.limits
        )
        enqueue_baseline(self.study, self.space)
        self.scheduler: TrialScheduler = build_scheduler(
            SchedulerConfig.model_validate(self.scheduler_name), METRIC, "max", self.longest_epochs, self.limits
        )
        self.searcher = StudySearcher(
            self.study,
            self.space,
            metric=METRIC,
            mode="max",
            budget=Budget(self.budget, self.patience, self.device_hours),
            files_of=self.files,
            scheduler=self.scheduler,
            observers=[self.witness],
            grid=sampler.grid is not None,
            seed=self.seed,
            wishes=Wishes(self.folder / "wishes"),
            devices=2.0,
            clock=self.clock,
            further=self.further,
            limits=self.limits,
        )

    def files(self, number: int) -> TrialFiles:
        return TrialFiles(self.folder / "trials" / f"{number:04d}")

    def records(self) -> tuple[TrialRecord, ...]:
        return trial_records(self.study)

    def report(self, tune_id: str, epoch: int, score: float, **values: float) -> None:
        self.searcher.on_trial_result(tune_id, {"epoch": epoch, METRIC: score, **values})

    def finish(self, tune_id: str, scores: Sequence[float], **values: float) -> None:
        """Reports epochs to the end, or to one over a limit, then ends as Tune does when the trainable returns."""
        outcome = Outcome("completed")
        for epoch, score in enumerate(scores, start=1):
            self.report(tune_id, epoch, score, **values)
            if (limit := broken_at_once(self.limits, values)) is not None:
                outcome = Outcome("over-limit", limit.reason(values, f"at epoch {epoch}"), values)
                break
        self.files(self.searcher.numbers[tune_id]).write_outcome(outcome)
        self.searcher.on_trial_complete(tune_id, {"epoch": epoch, METRIC: score, "done": True, **values})

    def crash(self, tune_id: str, reason: str) -> None:
        self.files(self.searcher.numbers[tune_id]).write_outcome(Outcome("crashed", reason))
        self.searcher.on_trial_complete(tune_id, {"done": True})


@pytest.fixture
def space_of() -> Callable[..., Space]:
    """Parses a space of trials that plan three epochs."""

    def parse(space: Mapping[str, Any], forbid: Sequence[Mapping[str, Any]] = (), **fixed: Any) -> Space:
        given = {"model": "mask-rcnn", "epochs": 3} | fixed
        instead = {"epochs"} if "max_iters" in {*space, *fixed} else set()
        given = {name: value for name, value in given.items() if name not in {*space, *instead}}
        return parse_space(space, {}, forbid, given, task="instance", where="test")

    return parse


@pytest.fixture
def space(space_of: Callable[..., Space]) -> Space:
    """One real parameter."""
    return space_of({"lr": {"float": [1e-5, 1e-1], "log": True}})


@pytest.fixture
def search(tmp_path: Path, space: Space) -> Callable[..., Search]:
    """Opens (or resumes) a search in this test's folder."""

    def open_search(**settings: Any) -> Search:
        return Search(**{"folder": tmp_path, "space": space, **settings})

    return open_search
