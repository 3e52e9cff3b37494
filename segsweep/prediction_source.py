"""What `segsweep predict` is told to predict with, and on: networks with their weights, an ensemble of them, images.

Imports the run folder and ensemble files; no training framework.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ensembling.ensemble_file import ENSEMBLE_FILE, EnsembleMember, EnsembleRecord, read_ensemble
from search_spaces.trial_config import TrialConfig
from segdata.errors import InputError
from segdata.file_sums import FolderSums
from segdata.images import IMAGE_SUFFIXES, list_images
from segdata.instances import InstanceDataset
from segdata.prediction_parts import ImageFile
from segdata.predictions import PredictedImage
from segdata.remote_folder import fetched_sums
from segdata.views import PLAIN, View
from segsweep.checkpoints import fetch_weights
from segsweep.data_roles import RoleData, read_roles
from segsweep.leaderboard import rank
from segsweep.run_folder import RunFolder, find_run
from segsweep.search import TrialRecord, trial_records
from trainables.prediction_job import images_fingerprint, opened
from trainables.trial_files import TrialFiles

__all__ = [
    "ImagesSource",
    "Network",
    "Source",
    "ensemble_source",
    "find_source",
    "images_of_data",
    "images_of_folder",
    "images_of_role",
    "stock_source",
]


@dataclass(frozen=True, slots=True)
class Network:
    """A config and weights, and how they see an image; of a trial also which one, and what its sweep imports."""

    config: Path
    checkpoint: Path
    trial: str | None = None
    config_hash: str | None = None
    custom_imports: Sequence[str] = ()
    folder: Path | None = None  # where the user's own modules lie
    view: View = PLAIN

    def fingerprint(self) -> str:
        """Returns 16 hex digits over config and weights."""
        digest = hashlib.sha256()
        for path in (self.config, self.checkpoint):
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Source:
    """One network, or several with how they are fused; `run` is the sweep that they come from."""

    name: str
    networks: tuple[Network, ...]
    ensemble: EnsembleRecord | None = None
    run: RunFolder | None = None


@dataclass(frozen=True, slots=True)
class ImagesSource:
    """Images to predict.

    Attributes:
        folder: File names are relative to it.
        files: Those that can be opened.
        unreadable: File name -> reason of the others.
        fingerprint: Of the data set.
        classes: Of its truth; None if there is none.
        category_ids: Of its truth, parallel to `classes`.
        sums: Of images that were fetched from a URL into `folder`, which other nodes do not have.
    """

    folder: Path
    files: tuple[ImageFile, ...]
    unreadable: dict[str, str]
    fingerprint: str
    classes: tuple[str, ...] | None = None
    category_ids: tuple[int, ...] = ()
    sums: FolderSums | None = None


def find_source(name: str, storage: Path, trial: int | None) -> Source:
    """Finds a trial by its folder, an ensemble by its folder, or a sweep's best trial (or `trial`) by the sweep's name.

    Raises:
        InputError: There is no such thing, or its weights are gone.
    """
    path = Path(name)
    if (path / ENSEMBLE_FILE).is_file() or path.name == ENSEMBLE_FILE:
        refuse_trial(trial, "an ensemble")
        return ensemble_source(path)
    if (path / "config.py").is_file():
        refuse_trial(trial, "a trial's folder")
        return Source(f"trial {path.absolute().name}", (network_of(path),), run=run_of(path))
    run = run_of(path)
    if run is not None and path.absolute().parent == run.trials.absolute() and path.name.isdigit():
        return sweep_source(run, int(path.name))
    return sweep_source(find_run(name, storage), trial)


def refuse_trial(trial: int | None, found: str) -> None:
    if trial is not None:
        raise InputError.of(
            f"expected --trial with a sweep, but got it with {found}", where="--trial", cure="Leave it out."
        )


def stock_source(config: Path, checkpoint: Path) -> Source:
    """Returns any network of MMDetection or MMSegmentation by its config and checkpoint.

    Raises:
        InputError: Either is no file.
    """
    for option, path in (("--config", config), ("--checkpoint", checkpoint)):
        if not path.is_file():
            raise InputError.of("expected a file, but got none", where=f"{option} {path}", cure="Check the path.")
    return Source(checkpoint.name, (Network(config, checkpoint, folder=config.absolute().parent),))


def sweep_source(run: RunFolder, wanted: int | None) -> Source:
    """Returns a sweep's trial with that number; None = the best one whose weights are still there.

    Raises:
        InputError: There is no such trial, or no weights; the message says which trials have some.
    """
    records = trial_records(run.study())
    ranked = [record.number for record in rank(records, run.config().mode)]
    fetch_weights(run, ranked[:1] if wanted is None else [wanted])
    with_weights = [record.number for record in records if run.trial(record.number).best.is_file()]
    have = f"trials with weights: {', '.join(map(str, with_weights)) or 'none'}"
    if wanted is not None and wanted not in [record.number for record in records]:
        raise InputError.of(
            f"expected a trial of the sweep, but got {wanted}; {have}",
            where=run.path,
            cure="Choose one by --trial; `segsweep best` lists them.",
        )
    if wanted is None:
        wanted = next((number for number in ranked if number in with_weights), None)
    if wanted is None or wanted not in with_weights:
        which = "a trial" if wanted is None else f"trial {wanted}"
        raise InputError.of(
            f"expected {which} with weights, but got none; {have}",
            where=run.path,
            cure="Choose another trial, or raise storage.keep_checkpoints in the next sweep.",
        )
    return Source(f"trial {wanted:04d}", (network_of(run.trial(wanted).directory),), run=run)


def network_of(directory: Path) -> Network:
    """Returns a trial by its folder.

    Raises:
        InputError: Its weights are gone; the message says which of its sweep's trials have some.
    """
    files, run = TrialFiles(directory), run_of(directory)
    record = None if run is None else record_of(run, directory)
    if run is not None and record is not None:
        fetch_weights(run, [record.number])
    if not files.best.is_file():
        others = sorted(path.parent.name for path in directory.absolute().parent.glob("*/best.pth"))
        raise InputError.of(
            f"expected a trial with weights, but got none; trials with weights: {', '.join(others) or 'none'}",
            where=files.best,
            cure="Choose another trial, or raise storage.keep_checkpoints in the next sweep.",
        )
    if run is None:
        return Network(files.config, files.best, directory.absolute().name)
    return Network(
        files.config,
        files.best,
        directory.absolute().name,
        None if record is None else TrialConfig.from_dict(record.config).hash(),
        run.config().custom_imports,
        Path(run.read_origin().folder),
    )


def run_of(directory: Path) -> RunFolder | None:
    """Returns the sweep in whose folder a network lies (a trial, its epoch, a fold, an average); None if in none."""
    inside = directory.absolute()
    return next((run for parent in inside.parents if (run := RunFolder(parent)).exists and run.holds(inside)), None)


def record_of(run: RunFolder, directory: Path) -> TrialRecord | None:
    """Returns what the study knows of a trial; None for other networks."""
    inside = directory.absolute()
    if inside.parent != run.trials.absolute():
        return None
    return next((record for record in trial_records(run.study()) if f"{record.number:04d}" == inside.name), None)


def ensemble_source(path: Path) -> Source:
    """Returns an ensemble's members, each with its weights and view, and how they are fused; by its file or folder.

    Raises:
        InputError: A member's trial or its weights are gone.
    """
    record = read_ensemble(path)
    folder = path if path.is_dir() else path.parent
    directories = [member_directory(folder, member) for member in record.members]
    networks = tuple(
        replace(network_of(directory), view=View.parse(member.view), trial=member.trial)
        for directory, member in zip(directories, record.members, strict=True)
    )
    for network, member in zip(networks, record.members, strict=True):
        refuse_other_weights(network, member, folder)
    return Source(f"ensemble {folder.absolute().name}", networks, record, run_of(directories[0]))


def refuse_other_weights(network: Network, member: EnsembleMember, folder: Path) -> None:
    """Raises InputError if a member's weights are not those that the ensemble was made of."""
    found = network.fingerprint() if member.weights is not None else None
    if found != member.weights:
        raise InputError.of(
            f"expected the weights {member.weights} of {member.name}, but got {found} in {network.checkpoint}",
            where=folder / ENSEMBLE_FILE,
            cure="Put the weights back, or make the ensemble anew.",
        )


def member_directory(folder: Path, member: EnsembleMember) -> Path:
    """Returns the folder of a member's trial: its own path, or by its name in the sweep that the ensemble lies in."""
    if not member.network:
        raise InputError.of(
            f"expected members that are networks, but got {member.name}, predictions of another tool",
            where=folder / ENSEMBLE_FILE,
            cure="Predict the new images with that tool, or make an ensemble without it.",
        )
    if (member.path / "config.py").is_file():
        return member.path
    for parent in folder.absolute().parents:
        if not member.name and member.trial is not None and (parent / "trials" / member.trial).is_dir():
            return parent / "trials" / member.trial
    raise InputError.of(
        f"expected the trial {member.trial} of a member, but got no such folder",
        where=folder / ENSEMBLE_FILE,
        cure="Leave the ensemble in its sweep's folder, or name trials' folders as members.",
    )


def images_of_folder(folder: Path) -> ImagesSource:
    """Lists the images of a folder by name.

    Raises:
        InputError: There are none.
    """
    names = [path.name for path in list_images(folder)]
    if not names:
        raise InputError.of(
            f"expected images ({', '.join(IMAGE_SUFFIXES)}), but got none", where=folder, cure="Check --images."
        )
    files, unreadable = opened(folder, list(enumerate(names, start=1)))
    return ImagesSource(folder, files, unreadable, images_fingerprint(files))


def images_of_role(source: Source, name: str) -> ImagesSource:
    """Lists the images of a role of the source's sweep.

    Raises:
        InputError: The source is of no sweep, or the sweep has no such role.
    """
    if source.run is None:
        raise InputError.of(
            "expected a sweep's trial or ensemble, but got a network of none",
            where=f"--role {name}",
            cure="Name the images by --images.",
        )
    roles = read_roles(source.run.load())
    if name not in roles.roles:
        raise InputError.of(
            f"expected one of the sweep's roles ({', '.join(roles.roles)}), but got {name!r}",
            where="--role",
            cure="Choose one of these, or name the images by --images.",
        )
    return images_of_data(roles.roles[name])


def images_of_data(role: RoleData) -> ImagesSource:
    """Lists the images of labelled data, with the classes of their truth."""
    if isinstance(role.truth, InstanceDataset):
        listed = [
            PredictedImage(id=image.id, file_name=image.file_name, width=image.width, height=image.height)
            for image in role.truth.images
        ]
        files, unreadable = opened(role.images, listed)
        classes, category_ids = role.truth.class_names, role.truth.category_ids
    else:
        files, unreadable = opened(role.images, list(enumerate(role.names)))
        classes, category_ids = role.truth.classes, ()
    url = role.remote.get(role.images)
    sums = None if url is None else fetched_sums(url, role.images, frozenset(role.names))
    return ImagesSource(role.images, files, unreadable, role.fingerprint, classes, category_ids, sums)
