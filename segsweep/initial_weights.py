"""What a sweep's trials start from: every file that its space can ask for, and the best trial of another sweep.

Imports trainables' plan of weights (mmengine; no network is built).
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from search_spaces.conditions import worlds
from search_spaces.models import is_checkpoint_file, is_sweep_reference
from search_spaces.space import Space
from search_spaces.trial_config import ModelChoice, Scalar
from search_spaces.wording import nearest_name
from segdata.errors import InputError
from segsweep.checkpoints import fetch_weights
from segsweep.leaderboard import rank
from segsweep.preflight import distinct_trials
from segsweep.run_folder import RunFolder
from segsweep.search.study import trial_records
from segsweep.sweep_file import Sweep
from trainables.description import DataDescription
from trainables.fork_server import Ended, start_child
from trainables.initial_parts import weights_folder
from trainables.published_file import PublishedFile
from trainables.requests import WeightsRequest
from trainables.weights_plan import initial_parts

__all__ = [
    "Needed",
    "check_weights",
    "keep_copies",
    "model_choices",
    "needed_files",
    "other_sweeps",
    "try_local_weights",
]

TRY_WEIGHTS = "trainables.weights_check:check"
_DECIDING = ("model", "backbone", "init", "width")


@dataclass(slots=True)
class Needed:
    """A published file and what needs it, in words."""

    file: PublishedFile
    by: list[str] = field(default_factory=list)


def model_choices(space: Space) -> tuple[ModelChoice, ...]:
    """Returns every model, encoder and initial weights that can come together in a trial, each combination once."""
    found = worlds(space.parameters, _DECIDING, space.fixed)
    return tuple(dict.fromkeys(choice_of(world) for world in found if space.forbidden(world) is None))


def choice_of(world: Mapping[str, Scalar]) -> ModelChoice:
    """Returns the part of a trial that decides its initial weights."""
    plain = ModelChoice()
    backbone, width = world.get("backbone"), world.get("width")
    return ModelChoice(
        name=str(world.get("model", plain.name)),
        backbone=None if backbone is None else str(backbone),
        init=str(world.get("init", plain.init)),
        width=None if width is None else float(width),
    )


def needed_files(sweep: Sweep, local: Mapping[str, Path] | None = None) -> dict[str, Needed]:
    """Returns every published file that a trial of the sweep can need, by its name.

    Raises:
        InputError: A combination of the space has no published weights; says which have.
    """
    needed: dict[str, Needed] = {}
    for choice in model_choices(sweep.space):
        for part in initial_parts(choice, sweep.config.task, local):
            if part.file is not None:
                words = " ".join(filter(None, (choice.name, choice.backbone, choice.init)))
                needed.setdefault(part.file.name, Needed(part.file)).by.append(words)
    return needed


def check_weights(sweep: Sweep, local: Mapping[str, Path]) -> None:
    """Checks that whatever a trial may start from is on this machine, so that no trial waits for a hub.

    Raises:
        InputError: A local checkpoint or published weights are not here; says how to get them.
    """
    for init in {choice.init for choice in model_choices(sweep.space)} - set(local):
        if init.endswith((".pth", ".pt", ".safetensors")) and not (sweep.folder / Path(init).expanduser()).is_file():
            raise InputError.of(
                f"expected an existing checkpoint, but got {init!r}",
                where="init",
                cure=f"Check the path; relative ones start at the sweep file's folder, {sweep.folder}.",
            )
    folder = weights_folder(sweep.weights)
    missing = [name for name in needed_files(sweep, local) if not (folder / name).is_file()]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        are = "are" if others else "is"
        raise InputError.of(
            f"expected all published weights of the space in {folder}, but {missing[0]}{others} {are} not there",
            where="init",
            cure=f"Run `segsweep weights fetch {sweep.source or 'SWEEP'}`, once on each node; or set `init: none`.",
        )


def try_local_weights(sweep: Sweep, data: DataDescription, local: Mapping[str, Path]) -> None:
    """Loads every checkpoint of the user's into the models that are to start from it, in a process of its own.

    Raises:
        InputError: One is of another architecture; says how much matched.
    """
    trials = [
        trial
        for trial in distinct_trials(sweep.space)
        if is_checkpoint_file(trial.model.init) or is_sweep_reference(trial.model.init)
    ]
    if not trials:
        return
    request = WeightsRequest(trials, data, local, sweep.folder, sweep.weights, sweep.config.custom_imports)
    with TemporaryDirectory() as folder:
        log = Path(folder) / "weights.log"
        child = start_child(TRY_WEIGHTS, request, log)
        try:
            while not isinstance(message := child.receive(None), Ended):
                pass
        finally:
            child.stop()
        if message.kind != "done":
            raise InputError(f"init: {message.reason}")


def other_sweeps(sweep: Sweep, folder: RunFolder) -> dict[str, Path]:
    """Returns the weights behind every `sweep:NAME` of the space.

    A sweep that has started keeps its own copy, so that a resume does not depend on what the other has become.

    Raises:
        InputError: There is no such sweep in the same storage, or it has no weights for this task.
    """
    inits = {choice.init for choice in model_choices(sweep.space) if is_sweep_reference(choice.init)}
    return {init: kept_copy(folder, init) or best_of(init.removeprefix("sweep:"), sweep) for init in sorted(inits)}


def kept_copy(folder: RunFolder, init: str) -> Path | None:
    """Returns the copy that this sweep made when it started, if it did."""
    path = folder.initial / f"{init.removeprefix('sweep:')}.pth"
    return path if path.is_file() and path.parent == folder.initial else None


def best_of(name: str, sweep: Sweep) -> Path:
    """Returns `best.pth` of the best trial of the sweep `name`, which may still be running."""
    other, where = RunFolder(sweep.storage / name), f"init: sweep:{name}"
    known = [path.parent.name for path in sweep.storage.glob("*/sweep.yaml")]
    if name not in known:  # a path would lead out of the storage, and its copy out of this sweep's folder
        raise InputError.of(
            f"expected the name of another sweep in {sweep.storage}, but got {name!r}",
            where=where,
            cure=nearest_name(name, known),
        )
    config = other.config()
    if config.task != sweep.config.task:
        raise InputError.of(
            f"expected a sweep of the task {sweep.config.task}, but {name} is {config.task}",
            where=where,
            cure="Name another one.",
        )
    ranked = rank(trial_records(other.study()), config.mode)
    fetch_weights(other, (record.number for record in ranked[:1]))
    path = next((other.trial(record.number).best for record in ranked[:1]), None)
    if path is None or not path.is_file():
        raise InputError.of(
            f"expected the weights of the best trial, but {'no trial has a score yet' if path is None else path}"
            f"{'' if path is None else ' is not there'}",
            where=where,
            cure="Wait for its first trial, or name another sweep.",
        )
    return path


def keep_copies(folder: RunFolder, local: Mapping[str, Path]) -> dict[str, Path]:
    """Copies other sweeps' weights into this sweep's folder, where every node finds them; returns the copies."""
    copies = {}
    for init, path in local.items():
        copy = folder.initial / f"{init.removeprefix('sweep:')}.pth"
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_suffix(".tmp")
            shutil.copyfile(path, partial)
            os.replace(partial, copy)
        copies[init] = copy
    return copies
