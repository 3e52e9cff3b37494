"""Reading YAML: what is none, which scalars there are, and where each value stands."""

import math
from pathlib import Path
from typing import Any

import pytest

from search_spaces.yaml_source import read_yaml
from segdata.errors import SweepFileError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "sweep.yaml: expected `key: value` lines, but got an empty file"),
        ("- a\n", "expected `key: value` lines, but got a list"),
        ("just words\n", "expected `key: value` lines, but got one value"),
        ("a:\n\tb: 1\n", "sweep.yaml:2: expected YAML"),
        ("a: {b: 1\nc: [2\n", "sweep.yaml:2: expected YAML"),
        ("a: *nope\n", "sweep.yaml:1: expected YAML, .*undefined alias"),
        ("a: !!python/object:os.system x\n", "sweep.yaml:1: expected YAML, .*could not determine a constructor"),
        ("a: &x [*x]\n", "sweep.yaml:1: expected a value, but got an alias of what it lies in"),
        ("1: a\n", "sweep.yaml:1: expected a text as key, but got 1"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "sweep.yaml:4: expected each key once, but got 'c' again, first on line 3"),
        ("a: 1\n---\nb: 2\n", "sweep.yaml:2: expected YAML"),
        ("a: \x07\n", "sweep.yaml:1: expected printable text"),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(SweepFileError, match=message):
        read_yaml(tmp_path / "sweep.yaml")


def test_bytes_that_are_no_text_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(SweepFileError, match="sweep.yaml:2: expected UTF-8 text"):
        read_yaml(tmp_path / "sweep.yaml")


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "a: [1e-4, 5e3, .5, 1., -3, 010, 0x1F, 0o17, yes, on, 12:30, 1_000, none, null, true, '1e-4', 2024-01-01]"
    )
    expected: list[Any] = [
        1e-4,
        5000.0,
        0.5,
        1.0,
        -3,
        10,
        31,
        15,
        "yes",
        "on",
        "12:30",
        "1_000",
        "none",
        None,
        True,
        "1e-4",
    ]
    assert read_yaml(path).values["a"] == [*expected, "2024-01-01"]
    path.write_text("a: [.inf, -.Inf, .nan]")
    infinite, negative, nan = read_yaml(path).values["a"]
    assert (infinite, negative) == (math.inf, -math.inf)
    assert math.isnan(nan)


def test_anchors_and_merged_keys_make_fragments(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\n")
    source = read_yaml(path)
    assert source.values["more"] == {"a": 1, "b": 3}
    assert source.locate(("more", "b")) == f"{path}:4: more.b"
    assert source.locate(("more", "a")) == f"{path}:1: more.a"
