"""Where candidates come from: trials, their kept epochs, averages of weights, folds, other tools.

Imports what makes each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError
from segsweep.data_roles import RoleData
from segsweep.ensembles.averages import average_members
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.ensembles.epochs import epoch_members
from segsweep.ensembles.folded_trial import FoldedTrial
from segsweep.ensembles.folds import train_folds
from segsweep.ensembles.judge import OUT_OF_FOLD, Judge, judge_by_role
from segsweep.ensembles.library import Entry, named_once
from segsweep.ensembles.members import Shelf, best_records, trial_entries
from segsweep.ensembles.other_tools import other_tools
from segsweep.ensembles.out_of_fold import out_of_fold
from segsweep.prediction_source import network_of
from segsweep.run_folder import RunFolder
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep
from trainables.trial_files import TrialFiles

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
    records = best_records(shelf.sweep, config.top)
    trials = trial_entries(shelf.sweep, records)
    if not config.folds:
        others = other_tools(shelf, config.add, dict(shelf.roles.roles))
        epochs = epoch_entries(shelf.sweep, records, trials) if config.epochs else ()
        averages = average_entries(shelf, records, trials) if config.averages else ()
        singles = named_once((*trials, *epochs, *averages, *others))
        return Gathered(singles, singles, judge_by_role(shelf, scored))
    folded = train_folds(shelf.sweep, records, config.folds, shelf.console, shelf.how.address)
    pool = folded[0].pool.data
    others = other_tools(shelf, config.add, dict(shelf.roles.roles) | {OUT_OF_FOLD: pool})
    entries = fold_entries(folded, trials)
    named_once((*trials, *entries, *others))
    return Gathered((*trials, *others), (*entries, *others), judge_by_folds(shelf, folded, entries, pool))


def epoch_entries(sweep: Sweep, records: Sequence[TrialRecord], trials: Sequence[Entry]) -> tuple[Entry, ...]:
    """Returns an entry a kept epoch of each trial, with the weight of its trial.

    Raises:
        InputError: No trial has kept any.
    """
    run = RunFolder(sweep.path)
    entries = tuple(
        Entry(
            f"{trial.name} epoch {int(member.directory.name)}",
            (replace(network_of(member.directory), trial=trial.name),),
            prior=trial.prior,
        )
        for record, trial in zip(records, trials, strict=True)
        for member in epoch_members(run.trial(record.number))
    )
    if not entries:
        raise InputError.of(
            "expected trials that kept epochs, but got none",
            where="--epochs",
            cure="Set storage.keep_epochs in the next sweep's file.",
        )
    return entries


def average_entries(shelf: Shelf, records: Sequence[TrialRecord], trials: Sequence[Entry]) -> tuple[Entry, ...]:
    """Returns an entry a mean of weights: of each trial's epochs, and of trials that began with the same weights.

    Networks that began at random lie too far apart for the mean of their weights to be a network.

    Raises:
        InputError: There is nothing to average.
    """
    run = RunFolder(shelf.sweep.path)
    groups: list[tuple[str, TrialConfig, list[TrialFiles]]] = []
    alike: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        files, trial = run.trial(record.number), TrialConfig.from_dict(record.config)
        groups.append((f"{trials[place].name} epochs averaged", trial, list(epoch_members(files))))
        if trial.model.init != "none":
            alike.setdefault(repr((trial.model, trial.overrides)), []).append(place)
    for places in alike.values():
        name = f"{'+'.join(trials[place].name for place in places)} averaged"
        first = TrialConfig.from_dict(records[places[0]].config)
        groups.append((name, first, [run.trial(records[place].number) for place in places]))
    groups = [group for group in groups if len(group[2]) > 1]
    if not groups:
        raise InputError.of(
            "expected a trial with two kept epochs, or trials of one architecture from the same weights, but got none",
            where="--averages",
            cure="Set storage.keep_epochs, or `init`, in the next sweep's file.",
        )
    averages = [
        (name, average_members(shelf.sweep, shelf.roles, trial, members, shelf.how.threads, shelf.console))
        for name, trial, members in groups
    ]
    prior = sum(trial.prior for trial in trials) / len(trials)
    return tuple(
        Entry(name, (replace(network_of(made.directory), trial=None),), prior=prior) for name, made in averages
    )


def fold_entries(folded: Sequence[FoldedTrial], trials: Sequence[Entry]) -> tuple[Entry, ...]:
    """Returns an entry a configuration, with the weight of its trial."""
    return tuple(
        Entry(f"{one.name} folds", one.networks, prior=trial.prior) for one, trial in zip(folded, trials, strict=True)
    )


def judge_by_folds(shelf: Shelf, folded: Sequence[FoldedTrial], entries: Sequence[Entry], pool: RoleData) -> Judge:
    """Returns the pool as the networks predict it that did not train on it."""
    by_networks = {entry.networks: one for entry, one in zip(entries, folded, strict=True)}
    known: dict[str, Path] = {}

    def held_out(entry: Entry) -> Path:
        if not entry.networks:
            return shelf.sets(entry, OUT_OF_FOLD)[0]
        if entry.name not in known:
            one = by_networks[entry.networks]
            known[entry.name] = out_of_fold(one, shelf.how, shelf.console, view=entry.view)
        return known[entry.name]

    return Judge(OUT_OF_FOLD, pool.truth, held_out)
