"""The zoos: the config files inside the mmdet and mmseg wheels, by short model name or by file name.

Imports mmengine's config reader and the model rows of search_spaces.
"""

import copy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config

from search_spaces.models import MODELS
from segdata.errors import InputError
from trainables.description import Task

__all__ = ["find_zoo_config", "load_base", "zoo_folder"]

Nested = dict[str, Any]

ZOO_PACKAGES: dict[Task, str] = {"instance": "mmdet", "semantic": "mmseg"}


def zoo_folder(task: Task) -> Path:
    """Returns the folder of config files that the task's wheel carries."""
    spec = find_spec(ZOO_PACKAGES[task])
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / ".mim" / "configs"


def load_base(model: str, task: Task) -> Nested:
    """Reads the zoo config of a short name or of a zoo file name (`solov2_r50_fpn_1x_coco.py`) as a plain dict.

    Raises:
        InputError: There is no such model for this task.
    """
    folder = zoo_folder(task)
    if model in MODELS:
        if MODELS[model].task != task:
            raise InputError.of(
                f"expected a model for {task} data, but got the {MODELS[model].task} model {model!r}",
                where="space.model",
                cure="`segsweep spaces models` lists them.",
            )
        return read_config(folder / MODELS[model].zoo)
    found = find_zoo_config(model, task)
    if found is None:
        raise InputError.of(
            f"expected a short model name or a config file of the {ZOO_PACKAGES[task]} zoo, but got {model!r}",
            where="space.model",
            cure="`segsweep spaces models` lists the short names.",
        )
    return read_config(found)


def find_zoo_config(model: str, *tasks: Task) -> Path | None:
    """Returns the path of a zoo config by its file name, of one of these tasks (none given: of any)."""
    stem = Path(model).name.removesuffix(".py")
    folders = [zoo_folder(task) for task in tasks or ZOO_PACKAGES]
    return next((path for folder in folders for path in sorted(folder.rglob(f"{stem}.py"))), None)


def read_config(path: Path) -> Nested:
    """Reads a config file with all that it builds on, as plain dicts that the caller may change."""
    return copy.deepcopy(parsed(path))


@cache
def parsed(path: Path) -> Nested:
    return dict(Config.fromfile(path).to_dict())
