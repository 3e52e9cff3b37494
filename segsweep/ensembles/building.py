"""From a sweep's best trials to ensembles: candidates, choosing, fusing, scoring, recording.

Members, weights and settings are chosen on one set of labelled images; everything is scored on another, which neither
the search nor the choice saw. Imports ensembling and segscore.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from segsweep.data_roles import read_roles
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.judge import choose_role, judge_by_role
from segsweep.ensembles.library import seen_through
from segsweep.ensembles.making import Maker, Recipe
from segsweep.ensembles.members import Shelf
from segsweep.ensembles.records import record_runs, write_record
from segsweep.ensembles.refusals import refuse_other_tools, refuse_request, refuse_unknown_methods
from segsweep.ensembles.rows import Scorer, ScoreRow
from segsweep.ensembles.sources import Gathered, gather
from segsweep.predicting import How, digest_of
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
        singles: How many of the members, the first ones, are networks alone: what an ensemble has to beat.
        chosen: Name of the ensemble within the limits of cost that was best where choices were made.
    """

    role: str
    judged_on: str | None
    metric: str
    mode: Mode
    images: int
    members: tuple[ScoreRow, ...]
    ensembles: tuple[ScoreRow, ...]
    folder: Path
    singles: int
    chosen: str | None

    @property
    def recommended(self) -> ScoreRow | None:
        """Returns the chosen ensemble, else the first; None where none was made."""
        return next((row for row in self.ensembles if row.name == self.chosen), next(iter(self.ensembles), None))

    @property
    def gain(self) -> float:
        """How much better the recommended ensemble is than the best single member; NaN if one has no score."""
        if self.recommended is None:
            return math.nan
        gain = self.recommended.scores[self.metric] - self.best(self.members[: self.singles])
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
    roles = read_roles(sweep)
    scored = choose_role(roles, role)
    shelf = Shelf(sweep, roles, replace(how, stride=config.stride), console)
    refuse_request(config, sweep.config.task, scored, judge_by_role(shelf, scored) is not None)
    refuse_other_tools(shelf, config, methods, scored)
    found = gather(shelf, config, scored)
    if found.judge is None:
        console.print(
            f"nothing is chosen: the sweep has no labelled images beside {scored} that trials did not train on"
        )
    shelf.fill([*found.shown, *seen_through(found.candidates, config.views)], scored)
    maker = Maker(shelf, config, found.judge, scored, RunFolder(sweep.path).ensembles / folder_name(config, scored))
    members = [maker.member(entry, methods[0]) for entry in found.shown]
    made = maker.ensembles(tuple(recipes(methods, config, found)))
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
        singles=len(found.singles),
        chosen=best_choice(rows[len(members) :], sweep.config.mode, config),
    )
    scores = [replace(one, row=row) for one, row in zip(made, result.ensembles, strict=True)]
    files = [write_record(shelf, one, result) for one in scores]
    record_runs(shelf, scores, result, files)
    return result


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
    """Returns the name of the folder of ensembles: role, what the members are, and 6 digits for all else that differs
    from the defaults, so that another request does not overwrite an ensemble.
    """
    also = {"tta": config.tta, "folds": config.folds, "epochs": config.epochs, "averages": config.averages}
    words = [scored, f"top{config.top}", *(name for name, wanted in also.items() if wanted)]
    more = config.model_dump(exclude={"top", "methods", "select"}, exclude_defaults=True)
    return "-".join([*words, digest_of(more)[:6]] if more else words)


def best_choice(rows: Sequence[ScoreRow], mode: Mode, config: EnsembleConfig) -> str | None:
    """Returns the name of the row within the limits of cost with the best score where choices were made."""
    sign = 1 if mode == "max" else -1
    known = {
        row.name: row.selection.score
        for row in rows
        if row.selection is not None
        and not math.isnan(row.selection.score)
        and (config.most_models is None or row.models <= config.most_models)
        and (config.most_milliseconds is None or (row.milliseconds or math.inf) <= config.most_milliseconds)
    }
    return max(known, key=lambda name: sign * known[name], default=None)
