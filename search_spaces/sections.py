"""What a sweep file says of its space, and what it takes from elsewhere: fragments and presets, put together.

A fragment is a YAML file with some of a sweep file's sections. The sweep file's own entries win over its fragments', a
later fragment's over an earlier one's, and all of them over the presets'. Works on a sweep file's forms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.knobs import KNOBS
from search_spaces.preset import Preset
from search_spaces.preset_merge import merge_preset
from search_spaces.syntax import Key, Locator
from search_spaces.wording import nearest_name
from search_spaces.yaml_source import YamlSource, read_yaml
from segdata.errors import SweepFileError

__all__ = ["SECTIONS", "Sections", "read_fragment"]

SECTIONS = ("variables", "space", "fixed", "overrides")  # those that map names, as `forbid` does not


@dataclass(frozen=True, slots=True)
class Sections:
    """The sections of a space, in the forms that `parse_space` reads.

    Attributes:
        space: Knob -> domain or cases.
        fixed: Knob -> value.
        overrides: Config path -> value, domain or cases.
        variables: Name of the user's own -> domain or cases.
        forbid: Combinations that no trial has.
        locate: Names a key of them in messages, wherever it came from.
    """

    locate: Locator
    space: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    forbid: Sequence[Mapping[str, Any]] = ()

    def names(self) -> dict[str, Any]:
        """Returns name -> what is said of it, over all sections but `forbid`."""
        return {name: spec for section in SECTIONS for name, spec in getattr(self, section).items()}

    def over(self, lower: "Sections") -> "Sections":
        """Returns both, in which what is said here wins; combinations that are forbidden add up."""
        own = self.names()
        gone = {*own, *(other for name in own if name in KNOBS for other in KNOBS[name].excludes)}
        kept = {
            section: {name: spec for name, spec in getattr(lower, section).items() if name not in gone}
            for section in SECTIONS
        }
        count = len(self.forbid)
        theirs = {name for section in kept.values() for name in section}

        def locate(key: Key) -> str:
            if key[0] == "forbid" and len(key) > 1 and int(key[1]) >= count:
                return lower.locate(("forbid", int(key[1]) - count, *key[2:]))
            return (lower if len(key) > 1 and key[0] != "forbid" and key[1] in theirs else self).locate(key)

        merged = {section: {**kept[section], **getattr(self, section)} for section in SECTIONS}
        return Sections(locate=locate, forbid=(*self.forbid, *lower.forbid), **merged)

    def on_preset(self, preset: Preset, drop: Sequence[str]) -> "Sections":
        """Returns these sections on top of a preset, of which the names in `drop` are left out."""
        merged = merge_preset(
            preset, space=self.space, fixed=self.fixed, overrides=self.overrides, forbid=self.forbid, drop=drop
        )
        locate = merged.locator(preset.name, self.locate)
        return Sections(locate, merged.space, merged.fixed, merged.overrides, self.variables, merged.forbid)


def read_fragment(path: Path) -> Sections:
    """Reads a file that a sweep file includes.

    Raises:
        SweepFileError: It can't be read, has a section that no fragment has, or one of a wrong form.
    """
    source = read_yaml(path)
    known = (*SECTIONS, "forbid")
    for name, section in source.values.items():
        if name not in known:
            problem = f"expected {', '.join(known[:-1])} or {known[-1]} in a file that is included, but got {name!r}"
            raise SweepFileError.of(problem, where=source.locate((name,)), cure=nearest_name(name, known))
        _check_form(source, name, section)
    return Sections(locate=source.locate, **source.values)


def _check_form(source: YamlSource, name: str, section: object) -> None:
    if name == "forbid":
        if not isinstance(section, list):
            problem, cure = f"expected a list of {{knob: value}}, but got {section!r}", "Write - {...}"
            raise SweepFileError.of(problem, where=source.locate((name,)), cure=cure)
    elif not isinstance(section, Mapping):
        problem, cure = f"expected `key: value` lines, but got {section!r}", f"Indent the keys of {name} below it"
        raise SweepFileError.of(problem, where=source.locate((name,)), cure=cure)
