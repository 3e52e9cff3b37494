"""The presets: ready search spaces that cover what a field report tried by hand, beside the report's own numbers.

A preset is a YAML file of `presets/` in the sweep file's own syntax, with `rows`: knob -> row of the report's table.
How a sweep file builds on one is for `preset_merge`. Imports the YAML reader.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from search_spaces.knob import Task
from search_spaces.yaml_source import read_yaml

__all__ = ["PRESETS", "Preset", "read_preset"]

PRESETS = ("particles", "litter-team", "litter-solo", "nuclei", "litter-diary")

_FOLDER = Path(__file__).with_name("presets")


@dataclass(frozen=True, slots=True)
class Preset:
    """A search space by name.

    Attributes:
        name: What a sweep file calls it.
        task: What it segments.
        what: One line for tables.
        report: The field report that it follows, for example "000".
        space: As in a sweep file, and so are the next three.
        fixed: Knob -> value.
        overrides: Config path -> value or domain.
        forbid: Combinations that no trial has.
        rows: Knob -> the row of the report's table, with its numbers.
        beyond: What else the report did that is no knob, a line each.
    """

    name: str
    task: Task
    what: str
    report: str
    space: Mapping[str, object]
    fixed: Mapping[str, object]
    rows: Mapping[str, str]
    overrides: Mapping[str, object]
    forbid: Sequence[Mapping[str, object]]
    beyond: Sequence[str]

    def knobs(self) -> tuple[str, ...]:
        """Returns every knob and config path that it searches or fixes."""
        return (*self.space, *self.fixed, *self.overrides)


@cache
def read_preset(name: str) -> Preset:
    """Reads the preset of that name, one of `PRESETS`."""
    values = read_yaml(_FOLDER / f"{name}.yaml").values
    optional: dict[str, Any] = {"overrides": {}, "forbid": (), "beyond": ()}
    return Preset(name=name, **{**optional, **values})
