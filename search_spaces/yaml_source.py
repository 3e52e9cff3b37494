"""Reading YAML so that every value knows its line, duplicate keys are refused, and `1e-4` is a number.

Scalars follow YAML 1.2's core schema: `1e-4` is a float, `yes`, `on` and `12:30` are texts, `010` is ten. PyYAML
follows YAML 1.1, in which all of these differ. Imports PyYAML and `segdata.errors`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segdata.errors import SweepFileError

__all__ = ["YamlSource", "read_yaml"]

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Loader(yaml.SafeLoader):
    """A safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


def _anchored(pattern: re.Pattern[str] | str) -> re.Pattern[str]:
    return re.compile(rf"^(?:{pattern if isinstance(pattern, str) else pattern.pattern})$")


# The order matters: a whole number matches the pattern of floats too.
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", _anchored(r"~|null|Null|NULL|"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _anchored(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _anchored(_INT), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _anchored(_FLOAT), list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", _anchored("<<"), ["<"])
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


@dataclass(frozen=True, slots=True)
class YamlSource:
    """A mapping read from a file, and where each key of it stands."""

    path: Path
    values: dict[str, Any]
    root: yaml.MappingNode

    def locate(self, key: Sequence[str | int]) -> str:
        """Returns `file:line: a.b.0` for a key, with the line of its nearest part that is in the file."""
        node: yaml.Node = self.root
        line = 1
        for part in key:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return ": ".join([f"{self.path}:{line}", ".".join(str(part) for part in key)][: 2 if key else 1])


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """Returns (line, counted from 1, and node) of a key of a mapping or an element of a list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # what was merged by << comes before the node's own keys
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def read_yaml(path: Path, what: str = "sweep", examples: str = "one in examples/") -> YamlSource:
    """Reads a YAML file that holds one mapping.

    Args:
        path: The file.
        what: It is the file of; for messages, as is the next.
        examples: What one could start from.

    Raises:
        SweepFileError: If there is no such file, it is not UTF-8 or not YAML (names the line), it holds no mapping, a
            key twice, a key that is no text, or a value that contains itself.
    """
    loader = _Loader(_read_text(path, what, examples))
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            found = (
                "an empty file" if node is None else "a list" if isinstance(node, yaml.SequenceNode) else "one value"
            )
            raise SweepFileError.of(f"expected `key: value` lines, but got {found}", where=path, cure=f"Write a {what}")
        _check_keys(node, path, ())
        values: dict[str, Any] = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, path) from error
    finally:
        loader.dispose()
    return YamlSource(path, values, node)


def _read_text(path: Path, what: str, examples: str) -> str:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise SweepFileError.of(
            f"expected a {what} file, but got {found}",
            where=path,
            cure=f"Check the path, or start from {examples}",
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise SweepFileError.of(
            "expected UTF-8 text, but got other bytes", where=f"{path}:{line}", cure="Save it as UTF-8"
        ) from error
    bad = yaml.SafeLoader.NON_PRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise SweepFileError.of(
            f"expected printable text, but got {bad.group()!r}", where=f"{path}:{line}", cure="Remove it"
        )
    return text


def _syntax_error(error: yaml.MarkedYAMLError, path: Path) -> SweepFileError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    problem = error.problem or error.context or "text that cannot be read"
    return SweepFileError.of(
        f"expected YAML, but got a syntax error: {problem}",
        where=f"{path}:{line}",
        cure="Check the indentation, colons, quotes and brackets here and on the line before",
    )


def _check_keys(node: yaml.Node, path: Path, above: tuple[int, ...]) -> None:
    """Refuses duplicate keys, keys that are no text, and aliases of what contains them."""
    line = node.start_mark.line + 1
    if id(node) in above:
        raise SweepFileError.of(
            "expected a value, but got an alias of what it lies in", where=f"{path}:{line}", cure="Drop it"
        )
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, path, (*above, id(node)))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            _check_key(key, path, lines)
            _check_keys(value, path, (*above, id(node)))


def _check_key(key: yaml.Node, path: Path, lines: dict[str, int]) -> None:
    where = f"{path}:{key.start_mark.line + 1}"
    if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
        found = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
        raise SweepFileError.of(f"expected a text as key, but got {found}", where=where, cure="Write it in quotes")
    if key.value in lines and key.tag != "tag:yaml.org,2002:merge":
        raise SweepFileError.of(
            f"expected each key once, but got {key.value!r} again, first on line {lines[key.value]}",
            where=where,
            cure="Remove one of the two",
        )
    lines[key.value] = key.start_mark.line + 1
