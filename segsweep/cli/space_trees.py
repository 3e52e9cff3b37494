"""How `segsweep spaces` draws a space: a tree with the report's row beside each knob, at 80 columns.

Imports rich and the rooms of `search_spaces`.
"""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.tree import Tree

from search_spaces.cases import Item
from search_spaces.knob import Knob, Task
from search_spaces.knobs import THEMES
from search_spaces.parameters import Choice
from search_spaces.space import Parameter, Space
from search_spaces.trial_config import Scalar

__all__ = ["pairs", "space_tree", "stock", "task_tree"]


def space_tree(space: Space, title: str, rows: Mapping[str, str]) -> Tree:
    """Returns parameters and computed values, each below the last of its parents, then what is fixed and forbidden.

    Args:
        space: What is drawn.
        title: The root's text.
        rows: Knob -> row of a report; shown once for each knob.
    """
    root = Tree(title)
    nodes: dict[str, Tree] = {}
    for parameter in space.parameters:
        nodes.setdefault(parameter.knob, _add(root, nodes, parameter, space, rows))
    for item in space.computed:
        nodes.setdefault(item.knob, _add(root, nodes, item, space, rows))
    if space.fixed:
        fixed = root.add("fixed")
        for name, value in space.fixed.items():
            fixed.add(_with_row(f"{name}: {_text(value)}", rows.get(name, "")))
    if space.fixed_overrides:
        root.add(f"overrides: {pairs(dict(space.fixed_overrides))}")
    for entry in space.forbid:
        root.add("forbidden: " + ", ".join(f"{name}={'|'.join(map(str, values))}" for name, values in entry))
    return root


def _add(root: Tree, nodes: Mapping[str, Tree], item: Item, space: Space, rows: Mapping[str, str]) -> Tree:
    """Adds one parameter, or what is computed, below the last of its parents."""
    below = max((parent for parent, _ in item.when), key=list(nodes).index, default=None)
    row = "" if item.knob in nodes else rows.get(item.knob, "")
    return (root if below is None else nodes[below]).add(_with_row(_label(item, space), row))


def task_tree(task: Task) -> Tree:
    """Returns the knobs of a task by theme: values and stock value, where they land, the report's row."""
    root = Tree(f"knobs for {task} segmentation")
    for theme, knobs in THEMES.items():
        fitting = [knob for knob in knobs if task in knob.tasks]
        branch = root.add(theme) if fitting else root
        for knob in fitting:
            paths = dict.fromkeys(path for group in knob.paths.values() for path in group)
            details = [*(f"at {path}" for path in paths), f"from {knob.source}"]
            label = f"{knob.name}: {knob.domain_text()}{_stock_note(knob)}"
            branch.add(Group(label, *(Padding(text, (0, 0, 0, 4)) for text in details)))
    return root


def stock(knob: Knob) -> str:
    """Returns the stock value of a knob for a table, or what it depends on; "" if it is fitted to the data."""
    if knob.default_by:
        return "by " + " or ".join(knob.default_by)
    return "" if knob.default is None else _text(knob.default)


def pairs(values: Mapping[str, Scalar]) -> str:
    """Returns `name=value, ...` with rounded numbers."""
    return ", ".join(f"{name}={_text(value)}" for name, value in values.items())


def _stock_note(knob: Knob) -> str:
    return f"; stock {stock(knob)}" if stock(knob) else ""


def _with_row(label: str, row: str) -> RenderableType:
    return Group(label, Padding(f"report: {row}", (0, 0, 0, 4))) if row else label


def _label(item: Item, space: Space) -> str:
    conditions = " and ".join(_condition(parent, allowed, space) for parent, allowed in item.when)
    text = item.domain.text() if isinstance(item, Parameter) else item.text()
    kind = " (variable)" if item.knob in space.variables else ""
    return f"{item.knob}{kind}: {text}" + (f"   if {conditions}" if conditions else "")


def _condition(parent: str, allowed: Sequence[Scalar], space: Space) -> str:
    """Returns `parent is a or b`, or what it is not if that is shorter."""
    domains = [parameter.domain for parameter in space.parameters if parameter.knob == parent]
    options = [value for domain in domains if isinstance(domain, Choice) for value in domain.values]
    others = list(dict.fromkeys(value for value in options if value not in allowed))
    if others and len(others) < len(allowed):
        return f"{parent} is not {' or '.join(map(_text, others))}"
    return f"{parent} is {' or '.join(map(_text, allowed))}"


def _text(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
