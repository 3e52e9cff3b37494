"""Predicting with a source: with one network straight into the set; with an ensemble's members, or with several views
of one network, each into a set of its own, which are then fused.

Imports ensembling and predicting.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ensembling.fusion import METHODS
from ensembling.settings import FusionSettings
from segdata.errors import InputError, SegsweepError
from segdata.prediction_parts import RECORD_FILE, put_in_place, refuse_other_settings, settings_of
from segdata.predictions import PredictionSet
from segdata.views import PLAIN, View
from segsweep.ensembles.fusing import fuse_sharded
from segsweep.predicting import How, Predicted, network_settings, predict_images
from segsweep.prediction_source import ImagesSource, Network, Source
from trainables.description import Task

__all__ = ["ViewChoice", "predict_source", "read_views"]

METHOD_OF_VIEWS: dict[Task, str] = {"semantic": "soft-vote", "instance": "mask-fusion"}


@dataclass(frozen=True, slots=True)
class ViewChoice:
    """Views of one network that are fused with equal weights; method None = soft-vote, of objects mask-fusion."""

    views: tuple[View, ...]
    method: str | None = None

    def __post_init__(self) -> None:
        """Refuses a method that there is not.

        Raises:
            InputError: Naming the option.
        """
        if self.method is not None and self.method not in METHODS:
            raise InputError.of(
                f"expected a fusion method ({', '.join(METHODS)}), but got {self.method!r}",
                where="--tta-method",
                cure="Choose one of these.",
            )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Networks, and how what they predict becomes one set.

    Attributes:
        networks: Each with its view.
        weights: One a network.
        settings: Of the fusion.
        method: None = that of views, by the networks' task.
    """

    networks: tuple[Network, ...]
    weights: tuple[float, ...]
    settings: FusionSettings
    method: str | None

    @property
    def task(self) -> Task | None:
        """That all networks must have; None = whichever."""
        return None if self.method is None else METHODS[self.method].task

    def method_for(self, task: Task) -> str:
        """Returns the method by which sets of a task are fused."""
        return self.method or METHOD_OF_VIEWS[task]


def read_views(text: str) -> tuple[View, ...]:
    """Reads views separated by commas; the plain one is always among them, first.

    Raises:
        InputError: One is no view, or is there twice, or there is none but the plain one.
    """
    named: dict[View, str] = {}
    for name in text.split(","):
        try:
            view = View.parse(name.strip())
        except ValueError as error:
            cure = "Write for example --tta hflip,rot90,scale1.25."
            raise InputError.of(str(error), where="--tta", cure=cure) from error
        if view in named:
            same = "" if named[view] == name.strip() else f", which is {named[view]!r}"
            raise InputError.of(
                f"expected each view once, but got {name.strip()!r} twice{same}",
                where="--tta",
                cure="Leave one out.",
            )
        named[view] = name.strip()
    if set(named) == {PLAIN}:
        problem = f"expected a view beside the plain one, which is always there, but got {text!r}"
        raise InputError.of(problem, where="--tta", cure="Name one, such as hflip, or leave --tta out.")
    return (PLAIN, *(view for view in named if view != PLAIN))


def predict_source(
    source: Source, images: ImagesSource, out: Path, how: How, console: Console, views: ViewChoice | None = None
) -> Predicted:
    """Predicts images with a network, several views of it, or an ensemble into the set `out`.

    Goes on with what is there. Members are predicted into `NAME.members` beside it, which goes when they are fused.

    Raises:
        InputError: `out` is something else, or was predicted with other settings; or an ensemble was given views.
        TrialError: A process failed, or no image could be predicted.
    """
    recipe = recipe_of(source, views)
    if recipe is None:
        return predict_images(source.networks[0], images, out, how, console, f"{source.name} predicts")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        found = settings_of(out)
        known = PredictionSet.open(out).meta
        refuse_other_settings(found, recipe_settings(recipe, known.task, images, how), out)
        if known.dataset_fingerprint == images.fingerprint and len(known.images) == len(images.files):
            return Predicted(out, len(images.files), 0, images.unreadable)
    folder = out.with_name(f"{out.name}.members")
    with removed_if_empty(folder):
        done = predict_members(recipe, source.name, images, folder, how, console)
    failed = {name: reason for predicted in done for name, reason in predicted.failed.items()}
    members = [predicted.out for predicted in done]
    settings = recipe_settings(recipe, PredictionSet.open(members[0]).meta.task, images, how)
    fuse_members(recipe, members, out, settings, how, console)
    shutil.rmtree(folder)
    return replace(done[0], out=out, failed=failed)


def recipe_of(source: Source, views: ViewChoice | None) -> Recipe | None:
    """Returns which networks are fused and how; None for one network in its one view.

    Raises:
        InputError: An ensemble was given views.
    """
    record = source.ensemble
    if record is not None:
        if views is not None:
            raise InputError.of(
                "expected one network, but got an ensemble", where="--tta", cure="Its members have views of their own."
            )
        weights = tuple(member.weight for member in record.members)
        return Recipe(source.networks, weights, record.settings, record.method)
    if views is None:
        return None
    networks = tuple(replace(source.networks[0], view=view) for view in views.views)
    return Recipe(networks, (1.0,) * len(networks), FusionSettings(), views.method)


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Removes the members' folder where they fail before one is predicted; else it holds what is predicted."""
    try:
        yield
    except SegsweepError:
        with suppress(OSError):  # not empty, or never made
            folder.rmdir()
        raise


def predict_members(
    recipe: Recipe, name: str, images: ImagesSource, folder: Path, how: How, console: Console
) -> list[Predicted]:
    """Predicts the images with each network in its view into sets in `folder`."""
    done: list[Predicted] = []
    for number, network in enumerate(recipe.networks):
        whose = name if network.trial is None else f"trial {network.trial}"
        seen = "" if network.view == PLAIN else f"-{network.view}"
        member = folder / f"{number:02d}-{network.trial or 'network'}{seen}"
        to_come = len(recipe.networks) - number + 1  # and the fused one
        title = f"{whose} predicts"
        done.append(predict_images(network, images, member, how, console, title, task=recipe.task, sets=to_come))
    return done


def recipe_settings(recipe: Recipe, task: Task, images: ImagesSource, how: How) -> dict[str, Any]:
    """Returns all that changes what comes out, the images themselves aside."""
    first = replace(recipe.networks[0], view=PLAIN)
    members = [network_settings(network, images, how.windows)["weights"] for network in recipe.networks]
    views = [str(network.view) for network in recipe.networks]
    return network_settings(first, images, how.windows, how.stride) | {
        "weights": members,
        "method": recipe.method_for(task),
        "shares": list(recipe.weights),
        "fusion": asdict(recipe.settings),
        **({} if set(views) == {"plain"} else {"views": views}),
    }


def fuse_members(
    recipe: Recipe, members: Sequence[Path], out: Path, settings: dict[str, Any], how: How, console: Console
) -> None:
    """Fuses the members' sets, and puts the result in its place."""
    fresh = members[0].parent / "finished"
    shutil.rmtree(fresh, ignore_errors=True)
    method, weights = settings["method"], recipe.weights
    with console.status(f"fusing by {method}"):
        fuse_sharded(
            members,
            fresh,
            method=method,
            weights=weights,
            settings=recipe.settings,
            allow_empty=True,
            processes=how.processes,
            address=how.address,
            console=console,
        )
    known = json.loads((members[0] / RECORD_FILE).read_bytes())
    text = json.dumps(known | {"settings": settings}, indent=2, sort_keys=True)
    (fresh / RECORD_FILE).write_text(text + "\n", encoding="utf-8")
    put_in_place(fresh, out)
