"""From a sweep's best trials to ensembles: candidates, choosing, fusing, scoring, recording.

Members, weights and settings are chosen on one set of labelled images; everything is scored on another, which neither
the search nor the choice saw. Imports ensembling and segscore.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from ensembling.fusion import METHODS
from segdata.errors import InputError
from segsweep.data_roles import read_roles
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.judge import choose_role
from segsweep.ensembles.library import seen_through
from segsweep.ensembles.making import Maker, Recipe
from segsweep.ensembles.members import Shelf
from segsweep.ensembles.records import write_record
from segsweep.ensembles.rows import Scorer, ScoreRow
from segsweep.ensembles.sources import Gathered, gather
from segsweep.predicting import How
from segsweep.run_folder import RunFolder
from segsweep.search.study import Mode
from segsweep.sweep_file import Sweep

__all__ = ["EnsembleResult", "build_ensembles"]


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """All lines, scored on `role`; choices were made on `judged_on`, None = there was nothing to choose on.

    Attributes:
        images: How many are scored.
        folder: Holds an `ensemble.json` for each ensemble.
        chosen: Name of the ensemble that was best where choices were made.
    """

    role: str
    judged_on: str | None
    metric: str
    mode: Mode
    images: int
    members: tuple[ScoreRow, ...]
    ensembles: tuple[ScoreRow, ...]
    folder: Path
    chosen: str | None

    @property
    def gain(self) -> float:
        """How much better the best ensemble is than the best member, in the sweep's metric; NaN if one has no score."""
        gain = self.best(self.ensembles) - self.best(self.members)
        return gain if self.mode == "max" else -gain

    def best(self, rows: Sequence[ScoreRow]) -> float:
        """Returns the best score of the sweep's metric, NaN if there is none."""
        known = [row.scores[self.metric] for row in rows if not math.isnan(row.scores[self.metric])]
        return (max if self.mode == "max" else min)(known, default=math.nan)


def build_ensembles(
    sweep: Sweep, config: EnsembleConfig, role: str | None, how: How, console: Console
) -> EnsembleResult:
    """Predicts with the candidates, fuses them as asked for, scores everything, and records it in MLflow.

    Args:
        sweep: A sweep with trials.
        config: What may be a member, and how members are chosen and fused.
        role: Role of the data to score on; None = test, else select.
        how: How images are predicted and fused.
        console: Shows progress.

    Raises:
        InputError: Too few trials have weights, or there is no unseen role.
    """
    methods = config.methods or sweep.config.ensemble_methods()
    refuse_unknown_methods(methods, sweep.config.task)
    refuse_stride(config.stride, sweep.config.task)
    roles = read_roles(sweep)
    scored = choose_role(roles, role)
    shelf = Shelf(sweep, roles, replace(how, stride=config.stride), console)
    found = gather(shelf, config, scored)
    maker = Maker(shelf, config, found.judge, scored, RunFolder(sweep.path).ensembles / folder_name(config, scored))
    wanted = tuple(recipes(methods, config, found))
    refuse_nothing_to_make(wanted, found)
    members = [maker.member(entry, methods[0]) for entry in found.shown]
    made = [maker.ensemble(recipe) for recipe in wanted]
    with console.status("scoring"):
        drafts = [*members, *(one.row for one in made)]
        rows = Scorer(sweep, roles.roles[scored].truth).rows(drafts, len(found.singles))
    result = EnsembleResult(
        role=scored,
        judged_on=None if found.judge is None else found.judge.name,
        metric=sweep.config.metric,
        mode=sweep.config.mode,
        images=len(roles.roles[scored].names),
        members=tuple(rows[: len(members)]),
        ensembles=tuple(rows[len(members) :]),
        folder=maker.out,
        chosen=best_choice(rows[len(members) :], sweep.config.mode),
    )
    for one, row in zip(made, result.ensembles, strict=True):
        write_record(shelf, replace(one, row=row), result.members, scored, result.judged_on)
    return result


def refuse_unknown_methods(methods: Sequence[str], task: str) -> None:
    """Raises InputError before an hour of predicting, not after it."""
    known = [name for name, method in METHODS.items() if method.task == task]
    for name in methods:
        if name not in known:
            raise InputError.of(
                f"expected a fusion method of the task {task} ({', '.join(known)}), but got {name!r}",
                where="--method",
                cure="Choose one of these.",
            )


def refuse_stride(stride: int, task: str) -> None:
    """Raises InputError where nothing is stored that a stride could be of."""
    if stride != 1 and task != "semantic":
        raise InputError.of(
            f"expected a stride with class probabilities, but got {stride} for a sweep of instances",
            where="--stride",
            cure="Leave it out.",
        )


def refuse_nothing_to_make(wanted: Sequence[Recipe], found: Gathered) -> None:
    """Raises InputError where one candidate alone is to be fused, or chosen without images to choose on."""
    if wanted:
        return
    alone = "two candidates or more, but got one"
    raise InputError.of(
        f"expected {'other images than the scored ones to choose on, but got none' if found.judge is None else alone}",
        where="--select",
        cure="Add `select` to the sweep file's data, take --folds 5, or --select all with --top 2 or more.",
    )


def recipes(methods: Sequence[str], config: EnsembleConfig, found: Gathered) -> Iterator[Recipe]:
    """Yields what to make by each method: the best trial through all views, all candidates, the best choice of them."""
    plain = found.candidates
    for method in methods:
        if config.tta:
            yield Recipe(f"{method} of views", method, seen_through(plain[:1], config.views))
        if "all" in config.select and len(plain) > 1:
            yield Recipe(f"{method} of all", method, plain)
        if "greedy" in config.select and found.judge is not None:
            yield Recipe(f"{method} chosen", method, seen_through(plain, config.views), greedy=True)


def folder_name(config: EnsembleConfig, scored: str) -> str:
    """Returns the name of the folder of ensembles: role and what the members are."""
    also = {"tta": config.tta, "folds": config.folds, "epochs": config.epochs, "averages": config.averages}
    return "-".join([scored, f"top{config.top}", *(name for name, wanted in also.items() if wanted)])


def best_choice(rows: Sequence[ScoreRow], mode: Mode) -> str | None:
    """Returns the name of the row with the best score where choices were made."""
    sign = 1 if mode == "max" else -1
    known = {row.name: row.selection.score for row in rows if row.selection is not None}
    known = {name: score for name, score in known.items() if not math.isnan(score)}
    return max(known, key=lambda name: sign * known[name], default=None)
