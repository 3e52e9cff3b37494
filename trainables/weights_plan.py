"""Which files a trial starts from, where they lie on this machine, and what is said if one does not.

Imports the config's assembly (mmengine; no network is built).
"""

from collections.abc import Mapping
from pathlib import Path

from search_spaces.trial_config import ModelChoice, TrialConfig
from segdata.errors import InputError
from trainables.config import assemble_model
from trainables.description import Task
from trainables.initial_parts import Part, Placed, parts_of, take_published, weights_folder
from trainables.zoo import load_base

__all__ = ["initial_parts", "place_parts", "require_file"]

_ANY_CLASSES = 2  # weights of classes are left out whatever their number


def initial_parts(choice: ModelChoice, task: Task, local: Mapping[str, Path] | None = None) -> tuple[Part, ...]:
    """Returns the files that a model starts from and where each goes.

    Args:
        choice: The trial's model.
        task: What it segments.
        local: What `sweep:NAME` stands for, by the value of `init`.

    Raises:
        InputError: No such weights are published for it; says which are.
    """
    if choice.init == "none":
        return ()
    model = load_base(choice.name, task)["model"]
    assemble_model(model, TrialConfig(choice), _ANY_CLASSES)
    published = take_published(model)
    return parts_of(choice, model, published, local or {})


def place_parts(parts: tuple[Part, ...], folder: Path | None, weights: Path | None) -> tuple[Placed, ...]:
    """Finds each part's file on this machine.

    Args:
        parts: What is to be loaded.
        folder: Where relative paths start from; None = the working folder.
        weights: Where published files lie, see `weights_folder`.

    Raises:
        InputError: One is not there; says how to get it.
    """
    placed = tuple(Placed(part, part.path(weights_folder(weights), folder or Path.cwd())) for part in parts)
    for each in placed:
        require_file(each)
    return placed


def require_file(placed: Placed) -> None:
    """Checks that a part's file is there.

    Raises:
        InputError: Says how to get it.
    """
    if placed.path.is_file():
        return
    file = placed.part.file
    if file is None:
        raise InputError.of(
            f"expected an existing checkpoint, but got {placed.part.checkpoint!r}",
            where="init",
            cure=f"There is no {placed.path}; relative paths start at the sweep file's folder.",
        )
    raise InputError.of(
        f"expected the published weights {file.name} in {placed.path.parent}, but they are not there",
        where="init",
        cure="Get all that a sweep needs by `segsweep weights fetch SWEEP`, once on each node; "
        f"or copy {file.url} there; or set `init: none`.",
    )
