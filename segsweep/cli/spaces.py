"""`segsweep spaces`: what there is to search, and what a sweep file searches.

Imports Typer, rich and the rooms that know: `search_spaces` and the sweep file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.tree import Tree

from search_spaces.knob import Knob
from search_spaces.knobs import KNOBS, knobs_of
from search_spaces.model import Model
from search_spaces.models import MODELS
from search_spaces.space import Parameter, Space
from search_spaces.trial_config import Scalar
from segdata.errors import InputError
from segsweep.sweep_file import load_sweep

__all__ = ["spaces_app"]

spaces_app = typer.Typer(help="What there is to search, and what a sweep file searches.", no_args_is_help=True)

_SAMPLES = 5
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_Task = Annotated[str | None, typer.Option("--task", help="Only knobs of this task: instance or semantic.")]


@spaces_app.command("list")
def list_knobs(task: _Task = None, as_json: _Json = False) -> None:
    """Lists every knob: its values, the tasks it serves, what it does.

    Example: segsweep spaces list --task semantic
    """
    knobs = _knobs_of_task(task)
    if as_json:
        _print_json([_knob_row(knob) for knob in knobs])
        return
    table = Table("knob", "values", "task", "what it does", box=None, pad_edge=False)
    for knob in knobs:
        table.add_row(knob.name, knob.domain_text(), "both" if len(knob.tasks) > 1 else knob.tasks[0], knob.help)
    _console().print(table)


@spaces_app.command("models")
def list_models(as_json: _Json = False) -> None:
    """Lists every model by its short name: its task, backbones, and the knobs that it takes.

    Example: segsweep spaces models --json
    """
    if as_json:
        _print_json([_model_row(model) for model in MODELS.values()])
        return
    shared = [name for name in KNOBS if all(name in _taken(model) for model in MODELS)]
    table = Table("model", "task", "backbones", "its own knobs", box=None, pad_edge=False)
    for model in MODELS.values():
        own = [name for name in _taken(model.name) if name not in shared]
        table.add_row(model.name, model.task, ", ".join(model.backbones), ", ".join(own))
    console = _console()
    console.print(table)
    console.print(f"all take: {', '.join(shared)}")
    console.print("also: any config of the MMDetection and MMSegmentation zoos, by its file name")


@spaces_app.command("show")
def show_space(
    sweep: Annotated[Path | None, typer.Argument(help="A sweep file.")] = None,
    task: _Task = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    as_json: _Json = False,
) -> None:
    """Shows the space of a sweep file as a tree, with its size, its baseline and five samples.

    With --task instead of a file: the knobs of the task with their stock values, where they land, and their source.

    Example: segsweep spaces show examples/nuclei.yaml
    """
    if (sweep is None) == (task is None):
        raise InputError.of(
            f"expected a sweep file or --task, but got {'neither' if sweep is None else 'both'}",
            where="segsweep spaces show",
            cure="Give one: segsweep spaces show sweep.yaml",
        )
    if sweep is not None:
        _show_sweep(load_sweep(sweep).space, seed, as_json)
    else:
        _show_task(_knobs_of_task(task), as_json)


def _show_sweep(space: Space, seed: int, as_json: bool) -> None:
    rng = np.random.default_rng(seed)
    samples = [space.sample(rng) for _ in range(_SAMPLES)]
    if as_json:
        _print_json(_space_record(space) | {"samples": samples})
        return
    console = _console()
    console.print(_tree(space))
    size = space.size()
    console.print("size: not finite, or too many to count" if size is None else f"size: {size:,} combinations")
    console.print(f"baseline: {_pairs(space.baseline())}", soft_wrap=True)
    for number, sample in enumerate(samples, start=1):
        console.print(f"sample {number}: {_pairs(sample)}", soft_wrap=True)


def _show_task(knobs: list[Knob], as_json: bool) -> None:
    if as_json:
        _print_json([_knob_row(knob) for knob in knobs])
        return
    table = Table("knob", "values", "stock", Column("lands at", overflow="fold"), "from")
    for knob in knobs:
        paths = dict.fromkeys(path for group in knob.paths.values() for path in group)
        table.add_row(knob.name, knob.domain_text(), _stock(knob), "\n".join(paths), knob.source)
    _console().print(table)


def _knobs_of_task(task: str | None) -> list[Knob]:
    if task not in (None, "instance", "semantic"):
        raise InputError.of(
            f"expected instance or semantic, but got {task!r}", where="--task", cure="Write --task instance"
        )
    return [knob for knob in KNOBS.values() if task is None or task in knob.tasks]


def _model_row(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "task": model.task,
        "help": model.help,
        "backbones": list(model.backbones),
        "knobs": _taken(model.name),
    }


def _taken(model: str) -> list[str]:
    return [knob.name for knob in knobs_of(model)]


def _stock(knob: Knob) -> str:
    if knob.default_by:
        return "by " + " or ".join(knob.default_by)
    return "" if knob.default is None else str(knob.default)


def _knob_row(knob: Knob) -> dict[str, Any]:
    return {
        "name": knob.name,
        "kind": knob.kind(),
        "values": knob.domain_text(),
        "tasks": list(knob.tasks),
        "models": [name for name in MODELS if knob in knobs_of(name)],
        "needs": {name: list(values) for name, values in knob.needs.items()},
        "default": knob.default,
        "default_by": {name: dict(defaults) for name, defaults in knob.default_by.items()},
        "paths": {key: list(paths) for key, paths in knob.paths.items()},
        "help": knob.help,
        "source": knob.source,
    }


def _space_record(space: Space) -> dict[str, Any]:
    return {
        "task": space.task,
        "parameters": [
            {
                "id": parameter.id,
                "knob": parameter.knob,
                "values": parameter.domain.text(),
                "when": {parent: list(allowed) for parent, allowed in parameter.when},
            }
            for parameter in space.parameters
        ],
        "fixed": dict(space.fixed),
        "overrides": dict(space.fixed_overrides),
        "forbid": [{name: list(values) for name, values in entry} for entry in space.forbid],
        "size": space.size(),
        "baseline": space.baseline(),
    }


def _tree(space: Space) -> Tree:
    """Returns the parameters with each below the last of its parents, then what is fixed and forbidden."""
    root = Tree(f"space of a sweep for {space.task} segmentation")
    nodes: dict[str, Tree] = {}
    for parameter in space.parameters:
        below = max((parent for parent, _ in parameter.when), key=list(nodes).index, default=None)
        parent_node = root if below is None else nodes[below]
        node = parent_node.add(_label(parameter))
        nodes.setdefault(parameter.knob, node)
    for title, pairs in (("fixed", space.fixed), ("overrides", dict(space.fixed_overrides))):
        if pairs:
            root.add(f"{title}: {_pairs(pairs)}")
    for entry in space.forbid:
        root.add("forbidden: " + ", ".join(f"{name}={'|'.join(map(str, values))}" for name, values in entry))
    return root


def _label(parameter: Parameter) -> str:
    conditions = " and ".join(f"{parent} is {' or '.join(map(str, allowed))}" for parent, allowed in parameter.when)
    return f"{parameter.knob}: {parameter.domain.text()}" + (f"   if {conditions}" if conditions else "")


def _pairs(values: Mapping[str, Scalar]) -> str:
    shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _console() -> Console:
    return Console(markup=False, highlight=False)  # paths hold [*], which is markup to rich


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
