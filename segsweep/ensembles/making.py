"""Making one ensemble: choose on labelled images, fuse on those that are scored. Imports ensembling.selection."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ensembling.ensemble_file import ENSEMBLE_FILE
from ensembling.selection import Candidate, Library, Selection, SelectionRules, select_ensemble
from ensembling.settings import FusionSettings
from segdata.errors import InputError
from segdata.predictions import PredictionSet
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.fusing import fuse_sharded
from segsweep.ensembles.judge import Judge
from segsweep.ensembles.library import Entry
from segsweep.ensembles.members import Shelf
from segsweep.ensembles.rows import ScoreRow
from segsweep.prediction_source import Network

__all__ = ["Made", "Maker", "Part", "Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """An ensemble to make: by a method, of these candidates, all or the best choice of them."""

    name: str
    method: str
    entries: tuple[Entry, ...]
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One prediction set that is fused: of a network of an entry, or of another tool."""

    entry: Entry
    network: Network | None
    predictions: Path
    weight: float


@dataclass(frozen=True, slots=True)
class Made:
    """An ensemble's line, without scores yet, and what it is made of."""

    row: ScoreRow
    settings: FusionSettings
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Maker:
    """Makes members' and ensembles' prediction sets on the role that is scored.

    Attributes:
        shelf: Where predictions are found.
        config: What is wanted of members, weights and cost.
        judge: Images to choose on; None = nothing is chosen, all defaults.
        scored: The role.
        out: Folder of the ensembles.
        opened: The candidates that are open, of which there is one set at a time: they may take 2 GB.
        empty: Whether a candidate found nothing where choices are made, by its name.
    """

    shelf: Shelf
    config: EnsembleConfig
    judge: Judge | None
    scored: str
    out: Path
    opened: dict[tuple[Candidate, ...], Library] = field(default_factory=dict)
    empty: dict[str, bool] = field(default_factory=dict)

    def member(self, entry: Entry, method: str) -> ScoreRow:
        """Returns the line of a candidate; the folds of one configuration are fused by the method with its defaults."""
        sets = self.shelf.sets(entry, self.scored)
        milliseconds = self.shelf.milliseconds(entry, sets)
        if len(sets) > 1:
            sets = (self.fused(entry.name, method, sets, [1.0] * len(sets), FusionSettings()),)
        return ScoreRow(entry.name, sets[0], {}, models=max(1, len(entry.networks)), milliseconds=milliseconds)

    def ensembles(self, recipes: Sequence[Recipe]) -> list[Made]:
        """Makes all, those of the same candidates one after another; returns them in their order.

        One whose candidates all found nothing where choices are made is left out.

        Raises:
            InputError: That holds for each of them.
        """
        judge = self.judge
        if judge is not None:
            recipes = self.with_objects(recipes, judge)
        groups = list(dict.fromkeys(tuple(entry.name for entry in recipe.entries) for recipe in recipes))
        in_turn = sorted(recipes, key=lambda recipe: groups.index(tuple(entry.name for entry in recipe.entries)))
        made = {recipe.name: self.ensemble(recipe) for recipe in in_turn}
        return [made[recipe.name] for recipe in recipes]

    def with_objects(self, recipes: Sequence[Recipe], judge: Judge) -> list[Recipe]:
        """Returns those with a candidate that found something, and names the others."""
        kept = [one for one in recipes if not all([self.is_empty(entry, judge) for entry in one.entries])]
        if recipes and not kept:
            raise InputError.of(
                f"expected a candidate that finds an object, but got {len(self.empty)} that find none",
                where=f"--select on {judge.name}",
                cure="Take other trials by --top, or train them longer.",
            )
        for one in recipes:
            if one not in kept:
                self.say(f"left out: {one.name}, of which no member found an object on {judge.name}")
        return kept

    def ensemble(self, recipe: Recipe) -> Made:
        """Chooses members, weights and settings, and fuses."""
        selection = None if self.judge is None else self.chosen(recipe, self.judge)
        if selection is None:
            weights = {entry.name: entry.prior for entry in recipe.entries}
            settings = FusionSettings(**self.config.settings.named())
        else:
            weights = {member.candidate.name: member.weight for member in selection.members}
            settings = selection.settings
        method = recipe.method if selection is None else selection.method  # another where one candidate stands alone
        parts = [part for entry in recipe.entries if entry.name in weights for part in self.parts(entry, weights)]
        paths, shares = [part.predictions for part in parts], [part.weight for part in parts]
        costs = [self.shelf.milliseconds(part.entry, (part.predictions,)) for part in parts]
        row = ScoreRow(
            recipe.name,
            self.fused(recipe.name, method, paths, shares, settings),
            {},
            models=len({model for part in parts for model in part.entry.models}),
            milliseconds=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
            method=method,
            selection=selection,
            labels_new=all(part.network is not None for part in parts),
        )
        return Made(row, settings, tuple(parts))

    def parts(self, entry: Entry, weights: dict[str, float]) -> list[Part]:
        """Returns an entry's sets; its networks share its weight."""
        sets = self.shelf.sets(entry, self.scored)
        networks: Sequence[Network | None] = entry.networks or (None,)
        share = weights[entry.name] / len(sets)
        return [Part(entry, network, path, share) for network, path in zip(networks, sets, strict=True)]

    def chosen(self, recipe: Recipe, judge: Judge) -> Selection:
        """Chooses on the judge's images."""
        library = self.library(recipe.entries, judge)
        with self.shelf.console.status(f"choosing members, weights and settings of {recipe.name} on {judge.name}"):
            return select_ensemble(
                library, method=recipe.method, rules=self.rules(recipe), fixed=self.config.settings.named()
            )

    def library(self, entries: Sequence[Entry], judge: Judge) -> Library:
        """Returns candidates with the truth, opened once for all methods; networks that found nothing are left out."""
        candidates = tuple(self.candidate(entry, judge) for entry in entries if not self.is_empty(entry, judge))
        if candidates not in self.opened:
            self.opened.clear()
            config = self.shelf.sweep.config
            own = next((metric for metric in self.shelf.sweep.own_metrics if metric.name == config.metric), None)
            score = None if own is None else partial(own.of_set, judge.truth)
            self.opened[candidates] = Library(
                candidates, judge.truth, metric=config.metric, mode=config.mode, own=score, seed=config.search.seed
            )
        return self.opened[candidates]

    def is_empty(self, entry: Entry, judge: Judge) -> bool:
        """Tells whether a network found no object at all, and says so; another tool's empty set is refused later on."""
        if entry.name not in self.empty:
            self.empty[entry.name] = bool(entry.networks) and PredictionSet.open(judge.set_of(entry)).is_empty()
            if self.empty[entry.name]:
                self.say(f"left out: {entry.name}, which found no object on {judge.name}")
        return self.empty[entry.name]

    def say(self, line: str) -> None:
        """Prints a line that is not cut."""
        self.shelf.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def candidate(self, entry: Entry, judge: Judge) -> Candidate:
        """Returns an entry as the selection sees it; its cost is that of labelling a new image."""
        milliseconds = self.shelf.milliseconds(entry, self.shelf.sets(entry, self.scored))
        return Candidate(entry.name, judge.set_of(entry), entry.models, milliseconds)

    def rules(self, recipe: Recipe) -> SelectionRules:
        """Returns how to choose; limits of cost hold for a free choice only."""
        seed = self.shelf.sweep.config.search.seed
        if not recipe.greedy:
            return SelectionRules(select="all", seed=seed)
        return SelectionRules(
            seed=seed, most_models=self.config.most_models, most_milliseconds=self.config.most_milliseconds
        )

    def fused(
        self, name: str, method: str, sets: Sequence[Path], weights: Sequence[float], settings: FusionSettings
    ) -> Path:
        """Fuses anew: an ensemble of the same name is replaced."""
        out = self.out / name.replace(" ", "-") / "predictions"
        (out.parent / ENSEMBLE_FILE).unlink(missing_ok=True)
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        return fuse_sharded(
            sets,
            out,
            method=method,
            weights=weights,
            settings=settings,
            allow_empty=True,  # a network may find nothing on the images that are scored
            processes=self.shelf.how.processes,
            address=self.shelf.how.address,
            console=self.shelf.console,
        )
