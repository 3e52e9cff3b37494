"""What a child of the fork server is asked to do: picklable records that import no training framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from search_spaces.trial_config import TrialConfig
from segscore.own_metric import OwnMetric
from trainables.description import DataDescription

__all__ = ["AverageRequest", "TrialRequest", "WeightsRequest"]


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """One trial to train, from its `last.pth` if `directory` holds one.

    `data` is read; `shared`, if given, is the same data as `config.py` names it for all nodes.
    """

    trial: TrialConfig
    data: DataDescription
    directory: Path
    metric: str
    mode: Literal["max", "min"]
    seed: int
    threads: int = 1
    loader_workers: int = 0
    custom_imports: Sequence[str] = ()
    folder: Path | None = None  # the sweep file's: where relative paths and the user's modules lie
    weights: Path | None = None  # where published weights lie, unless the machine says otherwise; None = torch's cache
    local: Mapping[str, Path] = field(default_factory=dict)  # what `init: sweep:NAME` stands for
    parts: int = 1  # in which each training batch is taken, for want of memory
    processes: int = 1  # that train it side by side, one for each of its GPUs
    rank: int = 0  # this one's number among them
    rendezvous: Path | None = None  # a file by which they find each other
    own_metrics: Sequence[OwnMetric] = ()  # the user's, recorded beside the stock ones
    boundaries: bool = False  # whether an objective or a limit is a score of boundaries
    costs: Sequence[str] = ()  # that an objective or a limit names
    until: int | None = None  # the epoch after whose validation training ends; None = the plan's end
    keep_epochs: int = 0  # so many more whose weights are kept
    keep_last: bool = False  # whether `best.pth` is to hold the last epoch, whatever the scores
    shared: DataDescription | None = None


@dataclass(frozen=True, slots=True)
class AverageRequest:
    """Checkpoints of one architecture to average into `out`; batch norms are measured anew on `data.train`.

    `trial` is the configuration whose network and training images these are.
    """

    trial: TrialConfig
    data: DataDescription
    checkpoints: Sequence[Path]
    out: Path
    seed: int
    threads: int = 1
    loader_workers: int = 0
    custom_imports: Sequence[str] = ()
    folder: Path | None = None  # the sweep file's: where relative paths and the user's modules lie


@dataclass(frozen=True, slots=True)
class WeightsRequest:
    """Trials whose initial weights are to be tried; `local` and `folder` as in `TrialRequest`."""

    trials: Sequence[TrialConfig]
    data: DataDescription
    local: Mapping[str, Path]
    folder: Path
    weights: Path | None = None
    custom_imports: Sequence[str] = ()
