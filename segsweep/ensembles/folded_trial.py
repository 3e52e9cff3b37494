"""A configuration that a search has found, with a network for each fold of the pool: where these lie."""

from dataclasses import dataclass
from pathlib import Path

from search_spaces.trial_config import TrialConfig
from segsweep.ensembles.pool import Pool
from segsweep.prediction_source import Network
from segsweep.search import TrialRecord
from segsweep.sweep_file import Sweep
from trainables.trial_files import TrialFiles

__all__ = ["FoldedTrial"]


@dataclass(frozen=True)
class FoldedTrial:
    """One configuration with a network a fold of the pool.

    Attributes:
        sweep: The sweep of the trial.
        record: The trial whose configuration it is.
        pool: The images and their folds.
    """

    sweep: Sweep
    record: TrialRecord
    pool: Pool

    @property
    def name(self) -> str:
        """The trial's four-digit name."""
        return f"{self.record.number:04d}"

    @property
    def folder(self) -> Path:
        """Where its networks lie, a folder each."""
        return self.pool.folder / self.name

    @property
    def trial(self) -> TrialConfig:
        """What its networks train."""
        return TrialConfig.from_dict(self.record.config)

    @property
    def files(self) -> tuple[TrialFiles, ...]:
        """The networks' folders, in the order of the folds."""
        return tuple(TrialFiles(self.folder / f"fold-{fold}") for fold in range(len(self.pool.split.folds)))

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks; on new images each has an equal part of the configuration's weight."""
        return tuple(
            Network(
                config=files.config,
                checkpoint=files.best,
                trial=f"{self.name}-{files.directory.name}",
                config_hash=self.trial.hash(),
                custom_imports=self.sweep.config.custom_imports,
                folder=self.sweep.folder,
            )
            for files in self.files
        )
