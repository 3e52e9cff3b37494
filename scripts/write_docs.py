"""Writes the tables of docs/models.md and docs/training.md from the rows of the code (`make docs`).

Only what stands between `<!-- NAME: written by make docs -->` and `<!-- end -->` is replaced; the prose is written by
hand. `tests/test_docs.py` says when a table is out of date. Imports the rows of `search_spaces`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from search_spaces.backbones import FAMILIES
from search_spaces.knob import Knob, Task
from search_spaces.knobs import KNOBS, THEMES, knobs_of, takes
from search_spaces.model import Model
from search_spaces.model_sizes import encoder_parameters, millions, model_parameters
from search_spaces.models import MODELS
from search_spaces.preset import PRESETS, read_preset
from search_spaces.semantic_models import SMP
from search_spaces.smp_models import SMP_FAMILIES

DOCS = Path(__file__).resolve().parents[1] / "docs"
WRITTEN = ("models.md", "training.md")

_SECTION = re.compile(r"(<!-- (?P<name>[\w -]+): written by make docs -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Writes every table anew."""
    for name in WRITTEN:
        path = DOCS / name
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


def rendered(text: str) -> str:
    """Returns a page with its tables as the code has them now."""
    return _SECTION.sub(lambda found: f"{found[1]}\n{SECTIONS[found['name']]()}\n{found[3]}", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def model_table(task: Task) -> str:
    """Returns the models of a task."""
    models = [model for model in MODELS.values() if model.task == task]
    shared = {name for name, knob in KNOBS.items() if all(takes(model.name, knob) for model in models)}
    rows = [
        (
            f"`{model.name}`",
            millions(model_parameters(model.name)),
            model.help + (f"; needs a {model.needs}" if model.needs else ""),
            encoders_of(model),
            ", ".join(f"`{knob.name}`" for knob in knobs_of(model.name) if knob.name not in shared),
            model.source,
        )
        for model in models
    ]
    head = ("model", "million parameters", "what it is", "encoders", "knobs that not all models here take", "from")
    return table(head, rows)


def encoders_of(model: Model) -> str:
    """Returns the families that a model takes whole, and the rest by name."""
    if model.name.startswith("smp-"):
        return f"{len(model.backbones)} of segmentation-models-pytorch" + (", any of timm" if model.any_timm else "")
    whole = [family for family, names in FAMILIES.items() if set(names) <= set(model.backbones)]
    covered = {name for family in whole for name in FAMILIES[family]}
    rest = [f"`{name}`" for name in model.backbones if name not in covered]
    return ", ".join([*whole, *rest]) or "its own"


def encoder_table() -> str:
    """Returns the encoders by family with their sizes."""
    return table(("family", "names (million parameters)"), [(family, sized(FAMILIES[family])) for family in FAMILIES])


def smp_encoder_table() -> str:
    """Returns the encoders of segmentation-models-pytorch by family, and the decoders that can stand on them."""
    models = [model for model in MODELS.values() if model.name.startswith("smp-")]
    rows = [(family, sized(names), standing_on(models, names)) for family, names in SMP_FAMILIES.items()]
    return table(("family", "names (million parameters)", "for"), rows)


def standing_on(models: Sequence[Model], encoders: Sequence[str]) -> str:
    """Returns which models take a family of encoders: all of them, all but a few, or a few."""
    able = [model.name for model in models if set(encoders) <= set(model.backbones)]
    return among(able, [model.name for model in models], "all")


def among(names: Sequence[str], every: Sequence[str], whole: str) -> str:
    """Returns some of `every` as `whole`, as `whole` but the others, or by their names, whichever is shortest."""
    others = [name for name in every if name not in names]
    if len(others) * 2 < len(every):
        return whole + (f" but {listed(others)}" if others else "")
    return listed(names)


def listed(models: Sequence[str]) -> str:
    """Returns models by name; all those of segmentation-models-pytorch together as one."""
    if not set(SMP) <= set(models):
        return ", ".join(f"`{name}`" for name in models)
    return ", ".join([*(f"`{name}`" for name in models if name not in SMP), "all `smp-*`"])


def sized(names: Iterable[str]) -> str:
    """Returns encoders with their sizes."""
    sizes = {name: millions(encoder_parameters(name)) for name in names}
    return ", ".join(f"`{name}`" + (f" ({size})" if size else "") for name, size in sizes.items())


def preset_table() -> str:
    """Returns the presets."""
    presets = [read_preset(name) for name in PRESETS]
    rows = [(f"`{preset.name}`", preset.task, preset.what, str(len(preset.knobs()))) for preset in presets]
    return table(("preset", "task", "what", "knobs"), rows)


def knob_table(theme: str) -> str:
    """Returns the knobs of a theme."""
    rows = [
        (
            f"`{knob.name}`",
            "[models.md](models.md)" if knob.name in ("model", "backbone") else knob.domain_text(),
            stock(knob),
            knob.help,
            served(knob),
            ", ".join(f"`{path}`" for path in dict.fromkeys(path for paths in knob.paths.values() for path in paths)),
            knob.source,
        )
        for knob in THEMES[theme]
    ]
    return table(("knob", "values", "stock", "what it does", "for", "lands at", "from"), rows)


def stock(knob: Knob) -> str:
    """Returns the stock value."""
    if not knob.default_by:
        return "" if knob.default is None else str(knob.default)
    by = "; ".join(
        f"by {other}" if len(values) > 8 else ", ".join(f"{value} for {key}" for key, value in values.items())
        for other, values in knob.default_by.items()
    )
    return by if knob.default is None else f"{by}; else {knob.default}"


def served(knob: Knob) -> str:
    """Returns what takes the knob: both tasks, one, or some models; and what must be set with it."""
    of_tasks = [model.name for model in MODELS.values() if model.task in knob.tasks]
    whole = knob.tasks[0] if len(knob.tasks) == 1 else "both"
    text = among([name for name in of_tasks if takes(name, knob)], of_tasks, whole)
    needs = [f"`{name}` {' or '.join(str(value) for value in values)}" for name, values in knob.needs.items()]
    return f"{text}; with {' and '.join(needs)}" if needs else text


SECTIONS: dict[str, Callable[[], str]] = {
    "instance models": lambda: model_table("instance"),
    "semantic models": lambda: model_table("semantic"),
    "encoders": encoder_table,
    "smp encoders": smp_encoder_table,
    "presets": preset_table,
    **{f"{theme} knobs": (lambda theme=theme: knob_table(theme)) for theme in THEMES},  # type: ignore[misc]
}

if __name__ == "__main__":
    main()
