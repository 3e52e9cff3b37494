"""Where candidates come from: trials, their kept epochs, averages of weights, folds, other tools.

Imports what makes each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segdata.errors import InputError
from segsweep.data_roles import RoleData
from segsweep.ensembles.averages import average_entries
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.epochs import epoch_entries
from segsweep.ensembles.folds import FoldedTrial, train_folds
from segsweep.ensembles.judge import OUT_OF_FOLD, Judge, judge_by_role
from segsweep.ensembles.library import Entry, named_once
from segsweep.ensembles.members import Shelf, best_records, trial_entries
from segsweep.ensembles.other_tools import other_tools
from segsweep.ensembles.out_of_fold import out_of_fold

__all__ = ["Gathered", "gather"]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What there is to choose from, and on which images.

    Attributes:
        singles: Networks that stand alone, the trials by rank first: what an ensemble has to beat.
        candidates: What ensembles are made of, through the plain view.
        judge: Images to choose on; None = there are none beside those that are scored.
    """

    singles: tuple[Entry, ...]
    candidates: tuple[Entry, ...]
    judge: Judge | None

    @property
    def shown(self) -> tuple[Entry, ...]:
        """Returns all of them once, singles first."""
        return (*self.singles, *(entry for entry in self.candidates if entry not in self.singles))


def gather(shelf: Shelf, config: EnsembleConfig, scored: str) -> Gathered:
    """Finds, trains and averages what the section asks for.

    Raises:
        InputError: There is not as much as is asked for, or parts of it do not go together.
        TrialError: A fold can't be trained.
    """
    refuse_seen_candidates(config)
    records = best_records(shelf.sweep, config.top)
    trials = trial_entries(shelf.sweep, records)
    if not config.folds:
        others = other_tools(shelf, config.add, dict(shelf.roles.roles))
        epochs = epoch_entries(shelf.sweep, records) if config.epochs else ()
        averages = average_entries(shelf, (*trials, *epochs)) if config.averages else ()
        singles = named_once((*trials, *epochs, *averages, *others))
        return Gathered(singles, singles, judge_by_role(shelf, scored))
    folded = train_folds(shelf.sweep, records, config.folds, shelf.console, shelf.how.address)
    pool = folded[0].pool.data
    others = other_tools(shelf, config.add, dict(shelf.roles.roles) | {OUT_OF_FOLD: pool})
    entries = fold_entries(folded, trials)
    candidates = named_once((*entries, *others))
    return Gathered((*trials, *others), candidates, judge_by_folds(shelf, folded, entries, pool))


def refuse_seen_candidates(config: EnsembleConfig) -> None:
    """Raises InputError where folds are to be chosen beside networks that have trained on what is held out of folds."""
    if config.folds and (config.epochs or config.averages):
        named = "--epochs" if config.epochs else "--averages"
        raise InputError.of(
            f"expected folds alone, or epochs and averages without folds, but got {named} with --folds",
            where=named,
            cure="Trials have trained on images that folds hold out, so the two can't be chosen on the same images.",
        )


def fold_entries(folded: Sequence[FoldedTrial], trials: Sequence[Entry]) -> tuple[Entry, ...]:
    """Returns an entry a configuration, with the weight of its trial."""
    return tuple(
        Entry(f"{one.name} folds", one.networks, prior=trial.prior) for one, trial in zip(folded, trials, strict=True)
    )


def judge_by_folds(shelf: Shelf, folded: Sequence[FoldedTrial], entries: Sequence[Entry], pool: RoleData) -> Judge:
    """Returns the pool as the networks predict it that did not train on it."""
    by_networks = {entry.networks: one for entry, one in zip(entries, folded, strict=True)}

    def held_out(entry: Entry) -> Path:
        if not entry.networks:
            return shelf.sets(entry, OUT_OF_FOLD)[0]
        one = by_networks[entry.networks]
        return out_of_fold(one, shelf.how, shelf.console, view=entry.view)

    return Judge(OUT_OF_FOLD, pool.truth, held_out)
