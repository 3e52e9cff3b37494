"""`segsweep spaces`: what there is to search, and what a preset or a sweep file searches.

Imports Typer, rich and the rooms that know: `search_spaces` and the sweep file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from rich.console import Console
from rich.table import Column, Table

from search_spaces.backbones import FAMILIES
from search_spaces.knob import Knob, Task
from search_spaces.knobs import KNOBS
from search_spaces.model import Model
from search_spaces.model_sizes import encoder_parameters, millions, model_parameters
from search_spaces.models import MODELS
from search_spaces.preset import PRESETS, read_preset
from search_spaces.preset_merge import preset_space
from search_spaces.space import Space
from search_spaces.trial_config import Scalar
from search_spaces.wording import nearest_name
from segdata.errors import InputError
from segsweep.cli.space_pictures import draw_pictures
from segsweep.cli.space_records import knob_record, model_record, preset_record, space_record, taken
from segsweep.cli.space_trees import pairs, space_tree, task_tree
from segsweep.sweep_file import load_sweep

__all__ = ["spaces_app"]

spaces_app = typer.Typer(help="What there is to search, and what a sweep searches.", no_args_is_help=True)

_SAMPLES = 5
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_Task = Annotated[str | None, typer.Option("--task", help="Only what serves this task: instance or semantic.")]


@spaces_app.command("list")
def list_presets(as_json: _Json = False) -> None:
    """Lists the presets: ready spaces, each after a field report.

    Example: segsweep spaces list
    """
    presets = [read_preset(name) for name in PRESETS]
    if as_json:
        _print_json([preset_record(preset) for preset in presets])
        return
    table = Table("preset", "task", "what", box=None, pad_edge=False)
    for preset in presets:
        searched = f"searches {', '.join((*preset.space, *preset.overrides))}; fixes {', '.join(preset.fixed)}"
        table.add_row(preset.name, preset.task, f"{preset.what}\n{searched}\n")
    console = _console()
    console.print(table)
    console.print(
        "Write `preset: NAME` in a sweep file; `segsweep spaces show NAME` prints one with its report's rows."
    )


@spaces_app.command("knobs")
def list_knobs(task: _Task = None, as_json: _Json = False) -> None:
    """Lists every knob: its values, the tasks it serves, what it does.

    Example: segsweep spaces knobs --task semantic
    """
    wanted = _task(task)
    knobs = [knob for knob in KNOBS.values() if wanted is None or wanted in knob.tasks]
    if as_json:
        _print_json([knob_record(knob) for knob in knobs])
        return
    table = Table("knob", "values", "task", "what it does", box=None, pad_edge=False)
    for knob in knobs:
        table.add_row(knob.name, _values(knob), "both" if len(knob.tasks) > 1 else knob.tasks[0], knob.help)
    _console().print(table)


@spaces_app.command("models")
def list_models(
    name: Annotated[str | None, typer.Argument(help="One model, with all its encoders and knobs.")] = None,
    task: _Task = None,
    as_json: _Json = False,
) -> None:
    """Lists every model by its short name: parameters, what it needs; with a name its encoders and knobs.

    Example: segsweep spaces models mask-rcnn
    """
    wanted = _task(task)
    models = [model for model in MODELS.values() if wanted is None or model.task == wanted]
    if name is not None:
        models = [_model(name)]
    if as_json:
        _print_json([model_record(model) for model in models])
    elif name is not None:
        _show_model(models[0])
    else:
        _show_models(models)


@spaces_app.command("show")
def show_space(
    what: Annotated[str | None, typer.Argument(metavar="PRESET|SWEEP", help="A preset or a sweep file.")] = None,
    task: _Task = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", metavar="OUT.png", help="Draw every augmentation step instead.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="FOLDER", help="Dataset folder to draw from, without a sweep.")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="NAME", help="The image to draw.")] = None,
    strength: Annotated[float, typer.Option("--strength", help="Augmentation strength to draw at.")] = 1.0,
    as_json: _Json = False,
) -> None:
    """Shows a space as a tree with the reports' rows, its size, its baseline and five samples.

    With --task instead: the knobs of the task with their stock values, where they land, and their source.
    With --pictures: every augmentation step on one of the training images, its labels drawn.

    Example: segsweep spaces show particles
    """
    if pictures is not None or images is not None or image is not None:
        if pictures is None:
            given = "--images" if images is not None else "--image"
            raise InputError.of(
                f"expected --pictures beside {given}", where="segsweep spaces show", cure="Add --pictures sheet.png"
            )
        drawn = draw_pictures(pictures, what, images, image=image, task=_task(task), strength=strength, seed=seed)
        if as_json:
            _print_json(drawn)
        else:
            typer.echo(f"Wrote {pictures}: {len(cast(list[str], drawn['steps']))} steps on {drawn['image']}")
        return
    if (what is None) == (task is None):
        raise InputError.of(
            f"expected a preset, a sweep file or --task, but got {'nothing' if what is None else 'two of them'}",
            where="segsweep spaces show",
            cure="Give one: segsweep spaces show sweep.yaml",
        )
    if what is None:
        _show_task(cast(Task, _task(task)), as_json)
    elif what in PRESETS:
        _show_preset(what, seed, as_json)
    elif Path(what).suffix or Path(what).exists():
        _show_sweep(Path(what), seed, as_json)
    else:
        raise InputError.of(
            f"expected a preset or a sweep file, but got {what!r}",
            where="segsweep spaces show",
            cure=nearest_name(what, PRESETS),
        )


def _show_preset(name: str, seed: int, as_json: bool) -> None:
    preset = read_preset(name)
    space = preset_space(preset)
    title = f"preset {name} (report {preset.report}): {preset.what}"
    if as_json:
        _print_json(preset_record(preset) | space_record(space, preset.rows) | {"samples": _samples(space, seed)})
        return
    _print_space(space, title, preset.rows, seed)
    for line in preset.beyond:
        _console().print(f"not in the space: {line}")


def _show_sweep(path: Path, seed: int, as_json: bool) -> None:
    sweep = load_sweep(path)
    names = [parameter.knob for parameter in sweep.space.parameters]
    names += [*(item.knob for item in sweep.space.linked), *sweep.space.fixed]
    rows = {name: KNOBS[name].source for name in names if name in KNOBS} | dict(
        sweep.preset.rows if sweep.preset else {}
    )
    if as_json:
        _print_json(
            space_record(sweep.space, rows) | {"samples": _samples(sweep.space, seed), "notes": list(sweep.notes)}
        )
        return
    built_on = f", on the preset {sweep.preset.name}" if sweep.preset else ""
    _print_space(sweep.space, f"space of {path}{built_on}: {sweep.config.task} segmentation", rows, seed)
    for note in sweep.notes:
        _console().print(f"note: {note}", soft_wrap=True)


def _print_space(space: Space, title: str, rows: Mapping[str, str], seed: int) -> None:
    console = _console()
    console.print(space_tree(space, title, rows))
    size = space.size()
    console.print("size: not finite, or too many to count" if size is None else f"size: {size:,} combinations")
    console.print(f"baseline: {pairs(space.baseline())}", soft_wrap=True)
    for number, sample in enumerate(_samples(space, seed), start=1):
        console.print(f"sample {number}: {pairs(sample)}", soft_wrap=True)


def _samples(space: Space, seed: int) -> list[dict[str, Scalar]]:
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(_SAMPLES)]


def _show_task(task: Task, as_json: bool) -> None:
    if as_json:
        _print_json([knob_record(knob) for knob in KNOBS.values() if task in knob.tasks])
        return
    _console().print(task_tree(task))


def _show_models(models: list[Model]) -> None:
    console = _console()
    for task in dict.fromkeys(model.task for model in models):
        table = Table(f"{task} model", Column("million", justify="right"), "needs", "what it is", box=None)
        for model in models:
            if model.task == task:
                table.add_row(model.name, millions(model_parameters(model.name)), model.needs, model.help)
        console.print(table)
    console.print("million: parameters in millions, with the stock encoder at stock width.")
    families = Table("encoders", "names (parameters in millions)", box=None)
    for family, names in FAMILIES.items():
        families.add_row(family, _sized(names))
    console.print(families)
    console.print("smp-* models take the encoders of segmentation-models-pytorch by its own names,")
    console.print("and any of timm as tu-NAME.")
    console.print("One model with its encoders and knobs: segsweep spaces models NAME")
    console.print("Also: any config of the MMDetection and MMSegmentation zoos, by its file name.")


def _show_model(model: Model) -> None:
    size = millions(model_parameters(model.name)) or "unknown"
    needs = f"; needs a {model.needs}" if model.needs else ""
    rows = {
        "task": model.task,
        "size": f"{size} million parameters with {model.backbones[0] if model.backbones else 'its own encoder'}{needs}",
        "encoders": _sized(model.backbones) + ("; any of timm as tu-NAME" if model.any_timm else ""),
        "knobs": ", ".join(taken(model.name)),
        "stock": f"{model.optimizer}, lr {model.lr:g}",
        "from": model.source,
    }
    console = _console()
    console.print(f"{model.name}: {model.help}")
    table = Table(box=None, show_header=False, pad_edge=False)
    for title, text in rows.items():
        table.add_row(title, text)
    console.print(table)


def _sized(names: tuple[str, ...]) -> str:
    sizes = {name: millions(encoder_parameters(name)) for name in names}
    return ", ".join(f"{name} ({size})" if size else name for name, size in sizes.items())


def _values(knob: Knob) -> str:
    return "`segsweep spaces models`" if knob.name in ("model", "backbone") else knob.domain_text()


def _model(name: str) -> Model:
    if name not in MODELS:
        raise InputError.of(
            f"expected the short name of a model, but got {name!r}",
            where="segsweep spaces models",
            cure=nearest_name(name, MODELS),
        )
    return MODELS[name]


def _task(task: str | None) -> Task | None:
    if task not in (None, "instance", "semantic"):
        raise InputError.of(
            f"expected instance or semantic, but got {task!r}", where="--task", cure="Write --task instance"
        )
    return cast(Task | None, task)


def _console() -> Console:
    return Console(markup=False, highlight=False)  # paths hold [*], which is markup to rich


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
