"""The floors of the packages and the rules for files, enforced on every module by reading its syntax tree."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 400

# Package -> what of ours it may import, itself aside: the floors, with no arrow back.
FLOORS: dict[str, tuple[str, ...]] = {
    "segdata": (),
    "segtrack": ("segdata.errors",),
    "segscore": ("segdata",),
    "search_spaces": ("segdata",),
    "trainables": ("segdata", "segscore", "search_spaces"),
    "ensembling": ("segdata", "segscore", "search_spaces"),
    "segsweep": ("segdata", "segtrack", "segscore", "search_spaces", "trainables", "ensembling"),
}
WITHOUT_HEAVY = ("segdata", "segscore", "search_spaces", "ensembling")
HEAVY = ("torch", "torchvision", "ray", "timm", "mmcv", "mmdet", "mmengine", "mmpretrain", "mmseg")
# Package of others -> the only rooms that may import it.
ONLY_IN = {"mlflow": ("segtrack",), "optuna": ("segsweep.search", "ensembling.selection")}
EMPTY_NAMES = ("utils", "util", "helpers", "common", "misc", "base")


@dataclass(frozen=True)
class Module:
    """One file: its path under the root, its dotted name, its text, its tree."""

    path: Path
    name: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.split(".")[0]


def modules(root: Path) -> Iterator[Module]:
    for package in FLOORS:
        for path in sorted((root / package).rglob("*.py")):
            inside = path.relative_to(root)
            name = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
            text = path.read_text(encoding="utf-8")
            yield Module(inside, name, text, ast.parse(text, str(inside)))


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that a module imports anywhere in it, by statement or by import_module("name")."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute_name(module, node)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and call_name(node).split(".")[-1] in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, first.value


def absolute_name(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".") + (["__init__"] if module.path.name == "__init__.py" else [])
    return ".".join([*parts[: -node.level], *([node.module] if node.module else [])])


def call_name(node: ast.Call) -> str:
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def breaks_floors(module: Module) -> Iterator[tuple[int, str]]:
    for line, name in imports(module):
        ours = name.split(".")[0] in FLOORS
        if ours and not within(name, (module.package, *FLOORS[module.package])):
            yield line, f"{module.package} may not import {name}"


def imports_heavy(module: Module) -> Iterator[tuple[int, str]]:
    for line, name in imports(module):
        if module.package in WITHOUT_HEAVY and name.split(".")[0] in HEAVY:
            yield line, f"{module.package} may not import {name}: neither torch, ray nor an mm* package"


def imports_outside_its_room(module: Module) -> Iterator[tuple[int, str]]:
    for line, name in imports(module):
        rooms = ONLY_IN.get(name.split(".")[0])
        if rooms and not within(module.name, rooms):
            yield line, f"{name} may be imported in {' and '.join(rooms)} only"


def lacks_docstring(module: Module) -> Iterator[tuple[int, str]]:
    if not ast.get_docstring(module.tree):
        yield 1, "a module needs a docstring: what this room is"


def does_work_in_init(module: Module) -> Iterator[tuple[int, str]]:
    for node in module.tree.body if module.path.name == "__init__.py" else ():
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_all = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
        if not (is_text or is_all or isinstance(node, ast.Import | ast.ImportFrom)):
            yield node.lineno, "__init__.py holds a docstring, imports and __all__ only"


def is_too_long(module: Module) -> Iterator[tuple[int, str]]:
    if (lines := len(module.text.splitlines())) > MAX_LINES:
        yield lines, f"{lines} lines; split it by concept at {MAX_LINES}"


def prints_or_exits(module: Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module.tree):
        called = call_name(node) if isinstance(node, ast.Call) else ""
        if called in ("print", "exit", "quit", "sys.exit") and not within(module.name, ("segsweep.cli",)):
            yield node.lineno, f"{called}() outside segsweep/cli"


def has_empty_name(module: Module) -> Iterator[tuple[int, str]]:
    if module.path.stem in EMPTY_NAMES:
        yield 1, f"{module.path.stem} promises nothing; name the file after its noun"


RULES: tuple[Callable[[Module], Iterator[tuple[int, str]]], ...] = (
    breaks_floors,
    imports_heavy,
    imports_outside_its_room,
    lacks_docstring,
    does_work_in_init,
    is_too_long,
    prints_or_exits,
    has_empty_name,
)


def violations(root: Path) -> list[str]:
    return [
        f"{module.path}:{line}: {problem}"
        for module in modules(root)
        for rule in RULES
        for line, problem in rule(module)
    ]


def test_the_packages_keep_the_rules() -> None:
    found = violations(ROOT)
    assert not found, "\n".join(found)


def test_every_package_of_the_distribution_is_looked_at() -> None:
    assert {module.package for module in modules(ROOT)} == set(FLOORS)
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "scripts"}
    assert folders <= set(FLOORS)


@pytest.mark.parametrize(
    ("path", "code", "expected"),
    [
        ("segdata/coco.py", "from segscore import instances", "segdata may not import segscore.instances"),
        ("segdata/coco.py", "def f():\n    import trainables.trial", "segdata may not import trainables.trial"),
        ("segtrack/spool.py", "from segdata import coco", "segtrack may not import segdata.coco"),
        ("ensembling/votes.py", "import trainables", "ensembling may not import trainables"),
        ("trainables/trial.py", "from ensembling.votes import vote", "trainables may not import ensembling.votes.vote"),
        ("segscore/a/b.py", "from ...segsweep import driver", "segscore may not import segsweep.driver"),
        ("search_spaces/space.py", "import importlib\nimportlib.import_module('segsweep')", "may not import segsweep"),
        ("segdata/coco.py", "import torch.nn as nn", "segdata may not import torch.nn"),
        ("ensembling/masks.py", "from mmdet.apis import x", "ensembling may not import mmdet.apis.x"),
        ("search_spaces/space.py", "import ray", "search_spaces may not import ray"),
        ("segsweep/driver.py", "import mlflow", "mlflow may be imported in segtrack only"),
        (
            "segsweep/driver.py",
            "import optuna",
            "optuna may be imported in segsweep.search and ensembling.selection only",
        ),
        ("segdata/coco.py", "exit(1)", "exit() outside segsweep/cli"),
        ("segdata/coco.py", "import sys\nsys.exit(1)", "sys.exit() outside segsweep/cli"),
        ("segdata/coco.py", "def f():\n    print(1)", "print() outside segsweep/cli"),
        ("segdata/__init__.py", "X = 1", "__init__.py holds a docstring, imports and __all__ only"),
        ("segdata/coco.py", "\n" * 400, "402 lines; split it"),
        ("segdata/utils.py", "", "utils promises nothing"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, path: str, code: str, expected: str) -> None:
    write(tmp_path / path, f'"""A room."""\n{code}\n')
    found = violations(tmp_path)
    assert len(found) == 1 and found[0].startswith(f"{path}:") and expected in found[0]


def test_a_module_without_docstring_is_found(tmp_path: Path) -> None:
    write(tmp_path / "segdata/coco.py", "X = 1\n")
    assert violations(tmp_path) == ["segdata/coco.py:1: a module needs a docstring: what this room is"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("segtrack/spool.py", "import mlflow\nfrom segdata.errors import InputError"),
        ("segsweep/search/searcher.py", "import optuna"),
        ("ensembling/selection.py", "import optuna"),
        (
            "trainables/trial.py",
            "import torch\nfrom segdata import coco\nfrom search_spaces.trial_config import TrialConfig",
        ),
        ("segdata/a/__init__.py", "from .coco import read\nfrom segdata.a import coco\n__all__ = ['coco', 'read']"),
        ("segsweep/cli/run.py", "print(1)"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, path: str, code: str) -> None:
    write(tmp_path / path, f'"""A room."""\n{code}\n')
    assert violations(tmp_path) == []


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
