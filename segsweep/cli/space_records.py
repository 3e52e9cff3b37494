"""What `segsweep spaces --json` prints: knobs, models, presets and spaces as plain records.

Imports the rooms of `search_spaces`.
"""

from collections.abc import Mapping
from typing import Any

from search_spaces.knob import Knob
from search_spaces.knobs import knobs_of
from search_spaces.model import Model
from search_spaces.model_sizes import encoder_parameters, model_parameters
from search_spaces.models import MODELS
from search_spaces.preset import Preset
from search_spaces.space import Space

__all__ = ["knob_record", "model_record", "preset_record", "space_record", "taken"]

Record = dict[str, Any]


def taken(model: str) -> list[str]:
    """Returns the names of the knobs that a model takes."""
    return [knob.name for knob in knobs_of(model)]


def preset_record(preset: Preset) -> Record:
    """Returns what a preset is, without its space."""
    return {
        "name": preset.name,
        "task": preset.task,
        "what": preset.what,
        "report": preset.report,
        "searched": [*preset.space, *preset.overrides],
        "fixed": dict(preset.fixed),
        "rows": dict(preset.rows),
        "beyond": list(preset.beyond),
    }


def model_record(model: Model) -> Record:
    """Returns a model with its encoders and knobs."""
    return {
        "name": model.name,
        "task": model.task,
        "help": model.help,
        "parameters": model_parameters(model.name),
        "needs": model.needs,
        "backbones": list(model.backbones),
        "any_timm": model.any_timm,
        "encoder_parameters": {name: encoder_parameters(name) for name in model.backbones},
        "knobs": taken(model.name),
        "source": model.source,
    }


def knob_record(knob: Knob) -> Record:
    """Returns the row of a knob."""
    return {
        "name": knob.name,
        "kind": knob.kind(),
        "values": knob.domain_text(),
        "tasks": list(knob.tasks),
        "models": [name for name in MODELS if knob in knobs_of(name)],
        "needs": {name: list(values) for name, values in knob.needs.items()},
        "beside": list(knob.beside),
        "excludes": list(knob.excludes),
        "default": knob.default,
        "default_by": {name: dict(defaults) for name, defaults in knob.default_by.items()},
        "paths": {key: list(paths) for key, paths in knob.paths.items()},
        "help": knob.help,
        "source": knob.source,
    }


def space_record(space: Space, rows: Mapping[str, str]) -> Record:
    """Returns a space; `rows` holds the report's row of each knob."""
    return {
        "task": space.task,
        "parameters": [
            {
                "id": parameter.id,
                "knob": parameter.knob,
                "values": parameter.domain.text(),
                "when": {parent: list(allowed) for parent, allowed in parameter.when},
                "row": rows.get(parameter.knob, ""),
            }
            for parameter in space.parameters
        ],
        "computed": [
            {
                "id": item.id,
                "knob": item.knob,
                "values": item.text(),
                "from": list(item.terms),
                "when": {parent: list(allowed) for parent, allowed in item.when},
            }
            for item in space.computed
        ],
        "variables": sorted(space.variables),
        "fixed": dict(space.fixed),
        "fixed_rows": {name: rows.get(name, "") for name in space.fixed},
        "overrides": dict(space.fixed_overrides),
        "forbid": [{name: list(values) for name, values in entry} for entry in space.forbid],
        "size": space.size(),
        "baseline": space.baseline(),
    }
