"""Dotted paths into nested dicts and lists: reading and writing what they name.

Grammar: keys joined by dots, each followed by any number of selectors:

    model.test_cfg.rcnn.nms.iou_threshold    keys of nested dicts
    ...scales[0]                             one element of a list
    ...rcnn[*].sampler                       every element of a list; what is no list counts as a list of one
    ...pipeline[type=RandomFlip].prob        every element of a list whose `type` is RandomFlip
    +model.backbone.frozen_stages            the last key may be new; without `+` every key must exist

Works on plain dicts and lists and on MMEngine's Config and ConfigDict, which behave as dicts; imports nothing of them.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.trial_config import Scalar
from segdata.errors import SpaceError

__all__ = ["check_path", "get_path", "path_exists", "set_path", "without_selectors"]

_SEGMENT = re.compile(r"(?P<key>[^.\[\]+]+)(?P<selectors>(\[[^\[\]]+\])*)")
_SELECTOR = re.compile(r"\[([^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class _Step:
    """One key or selector; `text` is the path up to and including it."""

    key: str
    is_selector: bool
    text: str


class _MissingError(Exception):
    """What a path names is not there."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure


def without_selectors(path: str) -> str:
    """Returns the path without `+` and selectors, to compare what two paths speak of."""
    return _SELECTOR.sub("", path.removeprefix("+"))


def check_path(path: str) -> None:
    """Raises SpaceError if `path` does not follow the grammar."""
    _parse(path)


def _parse(path: str) -> tuple[_Step, ...]:
    bare = path.removeprefix("+")
    steps: list[_Step] = []
    for part in re.split(r"\.(?![^\[]*\])", bare):  # dots outside brackets
        match = _SEGMENT.fullmatch(part)
        if match is None:
            raise SpaceError(
                f"expected a config path such as model.test_cfg.rcnn.score_thr, but got {path!r}. "
                "Join keys by dots; list elements are [0], [*] or [type=Name]"
            )
        before = f"{steps[-1].text}." if steps else ""
        steps.append(_Step(match["key"], False, before + match["key"]))
        for selector in _SELECTOR.findall(match["selectors"]):
            steps.append(_Step(selector, True, f"{steps[-1].text}[{selector}]"))
    return tuple(steps)


def get_path(config: Any, path: str, *, what: str = "") -> tuple[Any, ...]:
    """Returns every value that `path` names, in order.

    Args:
        config: Nested dicts and lists.
        path: A path by the grammar above; a leading `+` means nothing here.
        what: Whose path it is ("knob nms_iou of model mask-rcnn"), for the message.

    Raises:
        SpaceError: If a key, an element or an element of that type is not there; names the nearest one that is.
    """
    try:
        return tuple(_walk(config, _parse(path)))
    except _MissingError as missing:
        raise _as_error(missing, path, what) from None


def path_exists(config: Any, path: str) -> bool:
    """Says whether `set_path` could write to `path`."""
    try:
        _check_writable(config, _parse(path), may_create=path.startswith("+"))
    except _MissingError:
        return False
    return True


def set_path(config: Any, path: str, value: Scalar | list[Scalar], *, what: str = "") -> None:
    """Writes `value` to everything that `path` names, in place; a tuple on the way is replaced by a changed copy.

    Nothing is written unless everything is there. Args and Raises as `get_path`.
    """
    steps = _parse(path)
    try:
        _check_writable(config, steps, may_create=path.startswith("+"))
        _write(config, steps, value, may_create=path.startswith("+"))
    except _MissingError as missing:
        raise _as_error(missing, path, what) from None


def _walk(config: Any, steps: tuple[_Step, ...]) -> list[Any]:
    found: list[Any] = [config]
    for step in steps:
        found = [value for node in found for _, value in _children(node, step)]
    return found


def _check_writable(config: Any, steps: tuple[_Step, ...], *, may_create: bool) -> None:
    if not may_create or steps[-1].is_selector:
        _walk(config, steps)
        return
    for node in _walk(config, steps[:-1]):
        if not _is_dict(node):
            raise _MissingError(f"expected a dict to hold {steps[-1].text}, but got {_kind(node)}", "Shorten the path")


def _write(node: Any, steps: tuple[_Step, ...], value: Scalar | list[Scalar], *, may_create: bool) -> Any:
    """Returns `node` with the value written into it; the same object unless it is a tuple."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if may_create and not rest and not step.is_selector and _is_dict(node):
        node[step.key] = value
        return node
    for position, child in _children(node, step):
        changed = _write(child, rest, value, may_create=may_create)
        if position is None:
            return changed
        if isinstance(node, tuple):
            node = (*node[:position], changed, *node[position + 1 :])
        else:
            node[position] = changed
    return node


def _children(node: Any, step: _Step) -> Iterator[tuple[Any, Any]]:
    """Yields (position in `node`, child) for all that one step names; position None means `node` itself."""
    if not step.is_selector:
        yield _child_of_dict(node, step)
    elif isinstance(node, list | tuple):
        yield from _elements(node, step)
    elif step.key == "*":
        yield None, node
    else:
        raise _MissingError(
            f"expected a list before [{step.key}] of {step.text}, but got {_kind(node)}", "Drop the [ ]"
        )


def _child_of_dict(node: Any, step: _Step) -> tuple[str, Any]:
    if not _is_dict(node):
        cure = "Name an element by [0], [*] or [type=Name]" if isinstance(node, list | tuple) else "Shorten the path"
        raise _MissingError(f"expected a dict that holds {step.text}, but got {_kind(node)}", cure)
    if step.key not in node:
        keys = [str(key) for key in node]
        parent = step.text[: -len(step.key)]
        close = difflib.get_close_matches(step.key, keys, n=1, cutoff=0.5)
        cure = f"The nearest is {parent}{close[0]}" if close else f"There are {', '.join(sorted(keys)) or 'no keys'}"
        raise _MissingError(f"expected an existing key, but got {step.text}", cure)
    return step.key, node[step.key]


def _elements(node: list[Any] | tuple[Any, ...], step: _Step) -> Iterator[tuple[int, Any]]:
    if step.key == "*":
        chosen = list(range(len(node)))
    elif "=" in step.key:
        name, wanted = step.key.split("=", 1)
        chosen = [index for index, child in enumerate(node) if _is_dict(child) and str(child.get(name)) == wanted]
    elif step.key.isdecimal():
        chosen = [int(step.key)] if int(step.key) < len(node) else []
    else:
        raise _MissingError(f"expected [0], [*] or [type=Name], but got [{step.key}]", "Correct the selector")
    if not chosen:
        raise _MissingError(f"expected an element {step.text}, but got none in {len(node)}", "Name one that is there")
    return iter([(index, node[index]) for index in chosen])


def _is_dict(node: Any) -> bool:
    return isinstance(node, Mapping) or (hasattr(node, "keys") and hasattr(node, "__getitem__"))


def _kind(node: Any) -> str:
    return "a list" if isinstance(node, list | tuple) else f"{type(node).__name__} {node!r}"


def _as_error(missing: _MissingError, path: str, what: str) -> SpaceError:
    return SpaceError.of(missing.problem, where=what or f"config path {path}", cure=missing.cure)
