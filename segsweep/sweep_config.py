"""What a sweep file may say: frozen records, one a section, which refuse unknown keys and wrong types.

They hold what was written; `sweep_file` reads them from YAML, resolves paths and parses the space. A `SweepConfig` can
be built in Python just as well. `search` and `budget` have a room of their own, `search_config`. Imports pydantic and
the metric names of `segscore`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segscore.metrics import METRICS
from segsweep.config_section import Number, Section, Whole
from segsweep.ensembles.ensemble_config import EnsembleConfig
from segsweep.objectives import Mode, Objective, first_of_list
from segsweep.own_metrics import is_function, name_problem, with_own_metrics
from segsweep.resources_config import ResourcesConfig
from segsweep.search_config import BudgetConfig, SearchConfig
from trainables.limits import Limit

__all__ = [
    "DataConfig",
    "PresetConfig",
    "ResourcesConfig",
    "RoleConfig",
    "StorageConfig",
    "SweepConfig",
    "TrackingConfig",
    "WeightsConfig",
]

Task = Literal["instance", "semantic"]

DEFAULT_METRICS: dict[str, str] = {"instance": "segm_mAP", "semantic": "mIoU"}
ENSEMBLE_METHODS: dict[str, tuple[str, ...]] = {
    "instance": ("wbf", "mask-fusion", "nms", "soft-nms", "nmw"),
    "semantic": ("soft-vote", "hard-vote"),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class RoleConfig(Section):
    """The images of one role and their labels: COCO annotations (instance) or a folder of label maps (semantic)."""

    images: str
    annotations: str | None = None
    labels: str | None = None


class DataConfig(Section):
    """Either the roles, or a dataset folder with a split file of it."""

    train: RoleConfig | None = None
    val: RoleConfig | None = None
    test: RoleConfig | None = None
    select: RoleConfig | None = None
    unlabelled: RoleConfig | None = None
    dataset: str | None = None
    split: str | None = None
    fold: Annotated[Whole, Field(ge=0)] = 0

    def roles(self) -> dict[str, RoleConfig]:
        """Returns the roles that are given, by name."""
        names = ("train", "val", "test", "select", "unlabelled")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = ", ".join([*self.roles(), *(name for name in ("dataset", "split") if getattr(self, name))]) or "nothing"
        by_roles = self.train is not None and self.val is not None and not self.dataset and not self.split
        by_split = bool(self.dataset and self.split) and not self.roles()
        if not by_roles and not by_split:
            raise ValueError(
                f"expected train and val, or dataset and split, but got {given}. Give one of the two pairs"
            )
        return self


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class PresetConfig(Section):
    """The preset that the space builds on, those that come on top of it, and what of them all is left out.

    A sweep file writes a name, a list of names, or `{name: ..., drop: [...]}`.
    """

    name: str
    then: tuple[str, ...] = ()  # later ones, each of which wins over those before it
    drop: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All presets, the later ones winning."""
        return (self.name, *self.then)

    @model_validator(mode="before")
    @classmethod
    def _from_names(cls, value: object) -> object:
        value = {"name": value} if isinstance(value, str | list | tuple) else value
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), list | tuple):
            return value
        names = value["name"]
        if not names:
            raise ValueError("expected the name of a preset, but got an empty list. Name one, or drop `preset`")
        return {**value, "name": names[0], "then": [*names[1:], *value.get("then", ())]}

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for index, name in enumerate(self.names):
            if name in self.names[:index]:
                raise ValueError(f"expected each preset once, but got {name} twice. Remove one")
        return self


class StorageConfig(Section):
    """Where trials are kept, how many trials' weights, a second place for checkpoints (a folder or fsspec URL), and
    whether each node reads images from a copy on its own disk.
    """

    path: str = "runs"
    keep_checkpoints: Annotated[Whole, Field(ge=1)] = 5
    keep_epochs: Annotated[Whole, Field(ge=0, le=100)] = 0  # of each of these trials, beside the best
    checkpoints: str | None = None
    cache_images: bool = False


class TrackingConfig(Section):
    """Where MLflow records the sweep."""

    uri: str = "sqlite:///mlflow.db"


class WeightsConfig(Section):
    """Where published weights lie on each node (None = torch's cache), and what serves them in their authors' place."""

    folder: str | None = None
    mirror: str | None = None

    @field_validator("mirror")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(
                f"expected a URL below which files lie by their names, but got {value!r}. Write http://... or https://..."
            )
        return value


class SweepConfig(Section):
    """A whole sweep file; the keys are described in the user guide."""

    name: str
    project: str | None = None
    task: Task
    data: DataConfig
    metric: str = ""
    own_metrics: dict[str, str] = Field(default_factory=dict)  # function -> FILE.py, which `metric` names together
    mode: Mode = "max"
    further_metrics: tuple[str, ...] = ()  # which a sweep file lists after the first in `metric`
    further_modes: tuple[Mode, ...] = ()  # and in `mode`
    constraints: tuple[str, ...] = ()
    search: SearchConfig = SearchConfig()
    budget: BudgetConfig
    resources: ResourcesConfig = ResourcesConfig()
    preset: PresetConfig | None = None
    include: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    variables: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Any] = Field(default_factory=dict)
    space_function: str | None = None  # FILE.py:FUNCTION, which a sweep file writes as `space`
    overrides: dict[str, Any] = Field(default_factory=dict)
    forbid: tuple[dict[str, Any], ...] = ()
    fixed: dict[str, Any] = Field(default_factory=dict)
    custom_imports: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    storage: StorageConfig = StorageConfig()
    tracking: TrackingConfig = TrackingConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    weights: WeightsConfig = WeightsConfig()
    max_failures: Annotated[Whole, Field(ge=0)] = 2
    trial_timeout_minutes: Annotated[Number, Field(gt=0)] | None = None
    stall_minutes: Annotated[Number, Field(gt=0)] = 30

    @model_validator(mode="before")
    @classmethod
    def _metric_of_task(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("task") in DEFAULT_METRICS:
            return {"metric": DEFAULT_METRICS[values["task"]], **values}
        return values

    @model_validator(mode="before")
    @classmethod
    def _space_of_function(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("space"), str):
            return {name: value for name, value in values.items() if name != "space"} | {
                "space_function": values["space"]
            }
        return values

    @model_validator(mode="before")
    @classmethod
    def _objectives_of_list(cls, values: object) -> object:
        return first_of_list(values) if isinstance(values, dict) else values

    @model_validator(mode="before")  # pydantic runs the last of these first
    @classmethod
    def _metric_of_function(cls, values: object) -> object:
        return with_own_metrics(values) if isinstance(values, dict) else values

    @field_validator("name", "project")
    @classmethod
    def _folder_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError(
                f"expected letters, digits, `.`, `_` or `-`, but got {value!r}. It names a folder: shorten it"
            )
        return value

    @field_validator("metric", mode="before")
    @classmethod
    def _one_metric(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            raise ValueError(f"expected the name of a metric or a list of names, but got {value}. Name one")
        if is_function(value):
            raise ValueError(
                name_problem(str(value).rpartition(":")[2]) or f"expected FILE.py:FUNCTION, but got {value!r}"
            )
        return value

    @field_validator("own_metrics")
    @classmethod
    def _free_names(cls, value: dict[str, str]) -> dict[str, str]:
        problem = next((problem for problem in map(name_problem, value) if problem), None)
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("mode", mode="before")
    @classmethod
    def _mode_of_each(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            raise ValueError(
                f"expected max or min, or one of them for each metric, but got {list(value)}. Write as many as metrics"
            )
        return value

    @field_validator("constraints")
    @classmethod
    def _limits(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Limit.parse(text)
        return value

    @field_validator("custom_imports")
    @classmethod
    def _module_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _MODULE.fullmatch(name):
                raise ValueError(f"expected a module's name such as my_modules, but got {name!r}. Write it without .py")
        return value

    @model_validator(mode="after")
    def _a_mode_each(self) -> Self:
        if len(self.further_modes) != len(self.further_metrics):
            raise ValueError(
                f"expected as many further_modes as further_metrics, but got {len(self.further_modes)} and "
                f"{len(self.further_metrics)}. Write both as lists: metric and mode"
            )
        return self

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is searched for, the score that ranks trials first."""
        others = zip(self.further_metrics, self.further_modes, strict=True)
        return (Objective(self.metric, self.mode), *(Objective(name, mode) for name, mode in others))

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What each trial has to keep."""
        return tuple(Limit.parse(text) for text in self.constraints)

    @property
    def named_metrics(self) -> tuple[str, ...]:
        """What an objective or a limit names."""
        return (self.metric, *self.further_metrics, *(limit.name for limit in self.limits))

    def metrics(self) -> tuple[str, ...]:
        """Returns the metrics that the task can be scored by."""
        return tuple(name for name, metric in METRICS.items() if metric.task == self.task)

    def ensemble_methods(self) -> tuple[str, ...]:
        """Returns the ensemble methods that are asked for, or the task's first."""
        return self.ensemble.methods or ENSEMBLE_METHODS[self.task][:1]
