"""A sweep's own folder, `STORAGE/NAME`: which file lies where, and finding it again by the sweep's name.

sweep.yaml      the sweep file as it was started      origin.json  the folder that its relative paths start from
data/           one file a role, as trials read it    study.journal  the study
trials/NNNN/    one folder a trial                    tune/        Ray Tune's own state, one folder a launch
ensembles/      prediction sets and ensembles         driver.lock  held by the one driver
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segdata.errors import InputError
from segsweep.sweep_file import Sweep, load_sweep, resolve_sweep
from segsweep.sweep_config import SweepConfig
from segsweep.yaml_source import read_yaml
from trainables.trial_files import TrialFiles

__all__ = ["RunFolder", "find_run"]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths below one sweep's folder."""

    path: Path

    @property
    def sweep_file(self) -> Path:
        return self.path / "sweep.yaml"

    @property
    def origin(self) -> Path:
        return self.path / "origin.json"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    @property
    def ensembles(self) -> Path:
        return self.path / "ensembles"

    @property
    def exists(self) -> bool:
        return self.sweep_file.is_file()

    def trial(self, number: int) -> TrialFiles:
        """Returns the files of the trial with that number in the study."""
        return TrialFiles(self.trials / f"{number:04d}")

    def next_launch(self) -> Path:
        """Returns a folder for Ray Tune that no earlier launch has used."""
        launches = self.path / "tune"
        number = len(list(launches.glob("launch-*"))) if launches.is_dir() else 0
        return launches / f"launch-{number:03d}"

    def create(self, sweep: Sweep) -> None:
        """Makes the folder with the sweep file in it; `sweep.yaml` comes last, so a killed start leaves no sweep."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.origin.write_text(json.dumps({"folder": str(sweep.folder)}))
        partial = self.sweep_file.with_suffix(".tmp")
        if sweep.source is None:
            partial.write_text(sweep.config.model_dump_json(exclude_unset=True))  # JSON is YAML
        else:
            shutil.copyfile(sweep.source, partial)
        partial.replace(self.sweep_file)

    def load(self) -> Sweep:
        """Reads the sweep as it was started; relative paths still start from where the sweep file lay."""
        folder = Path(json.loads(self.origin.read_text())["folder"])
        source = read_yaml(self.sweep_file)
        config = SweepConfig.model_validate(source.values)
        return resolve_sweep(config, folder, source=self.sweep_file, locate=source.locate)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the sweep for one driver; the lock goes with the process, however it ends.

        Raises:
            InputError: Another driver holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "driver.lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError.of(
                    "expected a sweep that no other driver runs, but got one that is running",
                    where=self.path,
                    cure="Wait for it, or end the other `segsweep` process.",
                ) from error
            yield


def find_run(name: str, storage: Path) -> RunFolder:
    """Finds a sweep by its name below `storage`, by its folder, or by its sweep file.

    Raises:
        InputError: There is no such sweep.
    """
    given = Path(name)
    if given.suffix in (".yaml", ".yml") and given.is_file():
        folder = RunFolder(load_sweep(given).path)
    else:
        folder = RunFolder(given if (given / "sweep.yaml").is_file() else storage / name)
    if folder.exists:
        return folder
    known = sorted(path.parent.name for path in storage.glob("*/sweep.yaml"))
    raise InputError.of(
        f"expected the name of a sweep, but got {name!r}; known: {', '.join(known) or 'none'}",
        where=storage.absolute(),
        cure="Name the storage by --storage, or give the path of the sweep's file or folder.",
    )
