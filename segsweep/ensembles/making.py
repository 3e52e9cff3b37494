"""Making one ensemble: choose on labelled images, fuse on those that are scored. Imports ensembling.selection."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ensembling.selection import Candidate, Library, Selection, SelectionRules, select_ensemble
from ensembling.settings import FusionSettings
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
        libraries: Candidates that are open already.
    """

    shelf: Shelf
    config: EnsembleConfig
    judge: Judge | None
    scored: str
    out: Path
    libraries: dict[tuple[Candidate, ...], Library] = field(default_factory=dict)

    def member(self, entry: Entry, method: str) -> ScoreRow:
        """Returns the line of a candidate; the folds of one configuration are fused by the method with its defaults."""
        sets = self.shelf.sets(entry, self.scored)
        milliseconds = self.shelf.milliseconds(entry, sets)
        if len(sets) > 1:
            sets = (self.fused(entry.name, method, sets, [1.0] * len(sets), FusionSettings()),)
        return ScoreRow(entry.name, sets[0], {}, models=max(1, len(entry.networks)), milliseconds=milliseconds)

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
        """Returns candidates with the truth, opened once for all methods."""
        candidates = tuple(self.candidate(entry, judge) for entry in entries)
        if candidates not in self.libraries:
            config = self.shelf.sweep.config
            own = next((metric for metric in self.shelf.sweep.own_metrics if metric.name == config.metric), None)
            score = None if own is None else partial(own.of_set, judge.truth)
            self.libraries[candidates] = Library(
                candidates, judge.truth, metric=config.metric, mode=config.mode, own=score, seed=config.search.seed
            )
        return self.libraries[candidates]

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
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        return fuse_sharded(
            sets,
            out,
            method=method,
            weights=weights,
            settings=settings,
            processes=self.shelf.how.processes,
            address=self.shelf.how.address,
            console=self.shelf.console,
        )
