"""A sweep's own folder, `STORAGE/NAME`: which file lies where, and finding it again by the sweep's name.

sweep.yaml      the sweep file as it was started      origin.json  what the sweep is: id, data, where paths start from
data/           one file a role, as trials read it    study.journal  the study
trials/NNNN/    one folder a trial                    tune/        Ray Tune's own state, one folder a launch
initial/        weights of other sweeps that trials start from
ensembles/      prediction sets and ensembles         driver.lock  held by the one driver
folds/          networks trained on folds, for ensembles
wishes/         points that the user wants tried      points.json  points to begin with
metrics/        the user's own metrics as they were when the sweep was started, one file each
"""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Self

from segdata.errors import InputError
from segsweep.search.study import Study, mend_journal, open_study, read_study
from segsweep.sweep_config import SweepConfig
from segsweep.sweep_file import Sweep, load_sweep, read_config
from segsweep.wishes import Wish
from trainables.trial_files import TrialFiles

__all__ = ["Origin", "RunFolder", "find_run"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What stays true of a sweep over all its launches.

    Attributes:
        id: Tells it from other sweeps of the same name in a store.
        folder: Where the relative paths of its sweep file start from.
        fingerprint: Of the data that it was started with.
    """

    id: str
    folder: str
    fingerprint: str

    @classmethod
    def new(cls, sweep: Sweep, fingerprint: str) -> Self:
        """Returns the origin of a sweep that starts now."""
        return cls(uuid.uuid4().hex, str(sweep.folder), fingerprint)


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
    def initial(self) -> Path:
        return self.path / "initial"

    @property
    def ensembles(self) -> Path:
        return self.path / "ensembles"

    @property
    def folds(self) -> Path:
        return self.path / "folds"

    @property
    def wishes(self) -> Path:
        return self.path / "wishes"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    def holds(self, directory: Path) -> bool:
        """Tells whether a folder is one of those that hold networks."""
        return any(folder.absolute() in directory.parents for folder in (self.trials, self.folds, self.ensembles))

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

    def create(self, sweep: Sweep, origin: Origin, points: Sequence[Wish] = ()) -> None:
        """Fills the folder with the sweep file, its space written out whole; `sweep.yaml` comes last, so a killed start
        leaves no sweep.
        """
        self.origin.write_text(json.dumps(asdict(origin)))
        (self.path / "points.json").write_text(json.dumps([asdict(point) for point in points]))
        for metric in sweep.own_metrics:
            self.metrics.mkdir(exist_ok=True)
            (self.metrics / f"{metric.name}.py").write_text(metric.text, encoding="utf-8")
        partial = self.sweep_file.with_suffix(".tmp")
        partial.write_text(sweep.text(), encoding="utf-8")
        partial.replace(self.sweep_file)

    def read_points(self) -> tuple[Wish, ...]:
        """Reads the points that the sweep begins with; none of a sweep of an earlier version."""
        path = self.path / "points.json"
        return tuple(Wish(**point) for point in json.loads(path.read_text())) if path.is_file() else ()

    def read_origin(self) -> Origin:
        """Reads what the sweep is."""
        return Origin(**json.loads(self.origin.read_text()))

    def config(self) -> SweepConfig:
        """Reads what the sweep file says, without a look at the data that it names."""
        return read_config(self.sweep_file)[0]

    def study(self, *, writable: bool = False) -> Study:
        """Opens the study; whoever holds the lock opens it `writable`, which mends what a kill left behind.

        Raises:
            InputError: The journal is damaged, or that of something else, or gone while there are trials.
        """
        self._refuse_lost_journal()
        if not writable:
            return read_study(self.journal)
        config = self.config()
        mend_journal(self.journal)
        further, limits = config.objectives[1:], config.limits
        search = config.search
        return open_study(self.journal, config.mode, search.sampler, search.seed, further=further, limits=limits)

    def _refuse_lost_journal(self) -> None:
        """Raises InputError where a new study would be begun over trials of an old one."""
        if self.journal.is_file() and self.journal.stat().st_size:
            return
        trials = len(list(self.trials.iterdir())) if self.trials.is_dir() else 0
        if trials:
            raise InputError.of(
                f"expected the journal of {trials} trials that lie in {self.trials.name}/, "
                f"but got {'an empty file' if self.journal.is_file() else 'no file'}",
                where=self.journal,
                cure="Put the file back from a copy, or start a new sweep.",
            )

    def load(self) -> Sweep:
        """Reads the sweep as it was started; relative paths still start from where the sweep file lay.

        Raises:
            InputError: The folder was renamed, its sweep file was broken, or data that it names is gone.
        """
        texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(self.metrics.glob("*.py"))}
        sweep = load_sweep(self.sweep_file, folder=Path(self.read_origin().folder), metric_texts=texts)
        here = self.path.absolute()
        if here.name != sweep.config.name:
            raise InputError.of(
                f"expected the folder of the sweep {sweep.config.name!r}, but got one named {here.name!r}",
                where=here,
                cure=f"Rename it back to {sweep.config.name}.",
            )
        return replace(sweep, storage=here.parent)  # it may have been moved

    def is_driven(self) -> bool:
        """Tells whether a driver runs the sweep now."""
        lock = self.path / "driver.lock"
        if not lock.is_file():
            return False
        with lock.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the sweep for one driver; the lock goes with the process, however it ends.

        If no sweep came of it (wrong input, Ctrl-C), nothing that was made here is left behind.

        Raises:
            InputError: Another driver holds it, or nothing can be written there.
        """
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        stream = take_lock(self.path / "driver.lock")
        try:
            yield
        finally:
            if not self.exists:
                self._clear(made)
            stream.close()

    def _clear(self, made: list[Path]) -> None:
        """Removes the lock and the folders `made`, innermost first."""
        (self.path / "driver.lock").unlink(missing_ok=True)
        if self.path in made:
            shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # someone else may have put a file there meanwhile
            for path in made[1:]:
                path.rmdir()


def take_lock(path: Path) -> IO[str]:
    """Opens and locks a file, making its folders; it stays locked until it is closed."""
    glances = 3  # that `is_driven` may take at that moment
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("a")
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            if glances:
                glances -= 1
                time.sleep(0.05)
                continue
            raise InputError.of(
                "expected a sweep that no other driver runs, but got one that is running",
                where=path.parent,
                cure="Wait for it, or end the other `segsweep` process.",
            ) from error
        except OSError as error:
            raise InputError.of(
                f"expected a folder to write to, but got: {error.strerror}",
                where=path.parent,
                cure="Set storage.path in the sweep file to another one.",
            ) from error
        if path.exists() and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
            return stream
        stream.close()  # the last holder took the file away between our opening and locking it


def find_run(name: str, storage: Path) -> RunFolder:
    """Finds a sweep by its name below `storage`, by its folder, or by its sweep file.

    Raises:
        InputError: There is no such sweep.
    """
    given = Path(name)
    if given.name == "sweep.yaml" and (given.parent / "origin.json").is_file():
        folder = RunFolder(given.parent)
    elif given.suffix in (".yaml", ".yml") and given.is_file():
        folder = RunFolder(path_of(given))
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


def path_of(sweep_file: Path) -> Path:
    """Returns where the sweep of a sweep file lies; its data need not be there any more."""
    config, _ = read_config(sweep_file)
    return Path(os.path.abspath(sweep_file.parent / Path(config.storage.path).expanduser())) / config.name
